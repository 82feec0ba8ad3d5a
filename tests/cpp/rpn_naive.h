// A pyramid in exactly sized memory, and its proposals by sorts and plain loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "rpn/rpn.h"

namespace gcv_test {

struct LevelSize {
  int64_t anchors, height, width;
};

enum class Logits { random, tied, odd };

template <class T>
struct Pyramid {
  std::vector<LevelSize> sizes;
  std::vector<std::vector<T>> objectness, deltas;
  std::vector<T> anchors;
  std::vector<int64_t> image_sizes;
  int64_t batch;
  bool channels_last, grid;
};

template <class T>
struct Proposals {
  std::vector<T> boxes, scores;
  std::vector<int64_t> counts;

  bool operator==(const Proposals& other) const {
    return boxes == other.boxes && scores == other.scores && counts == other.counts;
  }
};

template <class T>
Pyramid<T> make_pyramid(std::vector<LevelSize> sizes, int64_t batch, Logits kind, bool channels_last,
                        bool grid) {
  std::mt19937 random(unsigned(17 + sizes.size() + size_t(batch)));
  std::normal_distribution<double> normal;
  Pyramid<T> p{std::move(sizes), {}, {}, {}, {}, batch, channels_last, grid};
  const double odd[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e30};
  for (const LevelSize& size : p.sizes) {
    const int64_t n = size.anchors * size.height * size.width;
    std::vector<T> logits(size_t(batch * n)), deltas(size_t(4 * batch * n));
    for (T& x : logits) x = T(kind == Logits::tied ? std::round(2 * normal(random)) / 2 : 3 * normal(random));
    for (T& x : deltas) x = T(0.3 * normal(random));
    for (size_t i = 0; kind == Logits::odd && i < logits.size(); i += 3) logits[i] = T(odd[random() % 6]);
    for (size_t i = 0; kind == Logits::odd && i < deltas.size(); i += 5) deltas[i] = T(odd[random() % 6]);
    p.objectness.push_back(std::move(logits));
    p.deltas.push_back(std::move(deltas));
    for (int64_t i = 0; i < (grid ? size.anchors : n); ++i) {
      const double x = grid ? 0 : double(random() % 200), y = grid ? 0 : double(random() % 100);
      const double w = 10 + double(random() % 30), h = 10 + double(random() % 30);
      for (double v : {x - w, y - h, x + w, y + h}) p.anchors.push_back(T(v));
    }
  }
  for (int64_t b = 0; b < batch; ++b) p.image_sizes.insert(p.image_sizes.end(), {90 + b, 180 - b});
  return p;
}

inline void set_strides(int64_t* strides, int64_t channels, const LevelSize& size, bool channels_last) {
  const int64_t cells = size.height * size.width;
  strides[0] = channels * cells;
  strides[1] = channels_last ? 1 : cells;
  strides[2] = size.width * (channels_last ? channels : 1);
  strides[3] = channels_last ? channels : 1;
}

template <class T>
gcv::RpnParams params_of(const Pyramid<T>& pyramid, int64_t pre_nms_top_n, int64_t post_nms_top_n,
                         Proposals<T>& out) {
  gcv::RpnParams p{};
  p.level_count = int64_t(pyramid.sizes.size());
  p.batch = pyramid.batch;
  p.anchors = pyramid.anchors.data();
  p.anchor_stride = 4;
  p.anchor_coord_stride = 1;
  p.grid = pyramid.grid;
  p.image_sizes = pyramid.image_sizes.data();
  p.dtype = sizeof(T) == 8 ? gcv::DType::f64 : gcv::DType::f32;
  p.post_nms_top_n = post_nms_top_n;
  p.nms_threshold = 0.5;
  p.score_threshold = 0.1;
  p.min_size = 2;
  for (int64_t l = 0, anchors = 0, selected = 0; l < p.level_count; ++l) {
    gcv::RpnLevel& level = p.levels[l];
    const LevelSize& size = pyramid.sizes[size_t(l)];
    level.objectness = pyramid.objectness[size_t(l)].data();
    level.deltas = pyramid.deltas[size_t(l)].data();
    set_strides(level.objectness_strides, size.anchors, size, pyramid.channels_last);
    set_strides(level.deltas_strides, 4 * size.anchors, size, pyramid.channels_last);
    level.anchors = size.anchors;
    level.height = size.height;
    level.width = size.width;
    level.stride_h = 7 + l;
    level.stride_w = 9 + l;
    level.first_anchor = anchors;
    level.first_selected = selected;
    level.selected = std::min(pre_nms_top_n, gcv::rpn_size(level));
    anchors += pyramid.grid ? size.anchors : gcv::rpn_size(level);
    selected += level.selected;
  }
  out.boxes.assign(size_t(p.batch * post_nms_top_n * 4), T(-1));
  out.scores.assign(size_t(p.batch * post_nms_top_n), T(-1));
  out.counts.assign(size_t(p.batch), -1);
  p.boxes = out.boxes.data();
  p.scores = out.scores.data();
  p.counts = out.counts.data();
  return p;
}

template <class T>
struct Found {
  gcv::RpnCandidate<T> candidate;
  int64_t level;
};

template <class T>
std::vector<Found<T>> naive_candidates(const gcv::RpnParams& p, int64_t image) {
  std::vector<Found<T>> found;
  for (int64_t l = 0; l < p.level_count; ++l) {
    const gcv::RpnLevel& level = p.levels[l];
    std::vector<T> logits;
    std::vector<int64_t> order;
    for (int64_t i = 0; i < gcv::rpn_size(level); ++i) {
      logits.push_back(gcv::rpn_logit<T>(level, image, gcv::rpn_place(level, i)));
      order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      const T x = logits[size_t(a)], y = logits[size_t(b)];
      return x > y || (x != x && y == y);
    });
    for (int64_t i = 0; i < level.selected; ++i) {
      const auto candidate = gcv::rpn_candidate<T>(p, level, image, order[size_t(i)],
                                                   p.image_sizes[2 * image], p.image_sizes[2 * image + 1]);
      if (gcv::rpn_keeps(candidate, T(p.min_size), T(p.score_threshold))) found.push_back({candidate, l});
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.candidate.score > b.candidate.score; });
  return found;
}

// Into the outputs of params_of.
template <class T>
void naive_proposals(const gcv::RpnParams& p) {
  for (int64_t image = 0; image < p.batch; ++image) {
    std::vector<Found<T>> kept;
    for (const Found<T>& next : naive_candidates<T>(p, image)) {
      const gcv::Box<T>& box = next.candidate.box;
      const bool dropped = std::any_of(kept.begin(), kept.end(), [&](const Found<T>& k) {
        const gcv::Box<T>& other = k.candidate.box;
        return k.level == next.level &&
               double(gcv::iou(other, gcv::area(other), box, gcv::area(box))) > p.nms_threshold;
      });
      if (!dropped) kept.push_back(next);
    }
    p.counts[image] = std::min(int64_t(kept.size()), p.post_nms_top_n);
    T* boxes = static_cast<T*>(p.boxes) + image * p.post_nms_top_n * 4;
    T* scores = static_cast<T*>(p.scores) + image * p.post_nms_top_n;
    std::fill_n(boxes, 4 * p.post_nms_top_n, T(0));
    std::fill_n(scores, p.post_nms_top_n, T(0));
    for (int64_t i = 0; i < p.counts[image]; ++i) {
      const gcv::RpnCandidate<T>& k = kept[size_t(i)].candidate;
      const T corners[] = {k.box.x1, k.box.y1, k.box.x2, k.box.y2};
      std::copy_n(corners, 4, boxes + 4 * i);
      scores[i] = k.score;
    }
  }
}

}  // namespace gcv_test

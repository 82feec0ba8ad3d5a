// YOLO's decoding and detection by plain loops over one box after another, for the tests of the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "common/suppress.h"
#include "yolo/yolo_maths.h"

namespace gcv_test {

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up: the sanitizer sees the first byte too many.
inline std::unique_ptr<void, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(bytes, 1)) != 0) std::abort();
  std::memset(p, 0xa5, bytes);
  return std::unique_ptr<void, Free>(p);
}

template <class T>
struct Network {
  gcv::YoloMaps maps{};
  std::vector<std::vector<T>> data;  // a level's map each

  const T& value(int64_t image, const gcv::YoloPlace& at, int64_t channel) const {
    const auto& level = maps.levels[at.level];
    const int64_t* s = level.strides;
    return static_cast<const T*>(level.map)[image * s[0] + channel * s[1] + at.row * s[2] + at.column * s[3]];
  }
};

template <class T>
Network<T> make_network(gcv::YoloVersion version, const std::vector<std::pair<int, int>>& sizes, int batch,
                        int classes, bool channels_last) {
  using gcv::YoloVersion;
  Network<T> n;
  gcv::YoloMaps& m = n.maps;
  m.version = version;
  m.batch = batch;
  m.classes = classes;
  m.reg_max = 5;
  m.boxes_per_cell = version == YoloVersion::v8 ? 1 : 2;
  m.level_count = int64_t(sizes.size());
  m.dtype = sizeof(T) == 8 ? gcv::DType::f64 : gcv::DType::f32;
  const int64_t channels = gcv::yolo_channels(m);
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  n.data.resize(sizes.size());
  for (size_t l = 0; l < sizes.size(); ++l) {
    gcv::YoloLevel& level = m.levels[l];
    level.height = sizes[l].first;
    level.width = sizes[l].second;
    level.stride = double(8 << l);
    level.first_box = m.boxes;
    level.first_number = m.numbers;
    const int64_t cells = gcv::yolo_cells(level);
    for (int a = 0; a < 2; ++a) {
      level.anchors[a][0] = level.stride * (2 + a);
      level.anchors[a][1] = level.stride * (4 - a);
    }
    const int64_t planar[4] = {channels * cells, cells, level.width, 1};
    const int64_t last[4] = {channels * cells, 1, level.width * channels, channels};
    std::copy_n(channels_last ? last : planar, 4, level.strides);
    n.data[l].resize(size_t(batch * channels * cells));
    for (T& x : n.data[l]) x = T(normal(random));
    level.map = n.data[l].data();
    m.boxes += m.boxes_per_cell * cells;
    m.numbers += channels * cells;
  }
  return n;
}

template <class T>
struct NaiveBox {
  gcv::Box<T> box;
  std::vector<T> outputs, scores;
};

template <class T>
NaiveBox<T> naive_box(const Network<T>& n, int64_t image, int64_t number) {
  using namespace gcv;
  const YoloMaps& m = n.maps;
  const YoloPlace at = yolo_place(m, number);
  const YoloLevel& level = m.levels[at.level];
  const int64_t first = yolo_first_channel(m, at.anchor), first_class = yolo_first_class(m, at.anchor);
  const auto value = [&](int64_t c) { return n.value(image, at, c); };
  NaiveBox<T> b;
  T side[4];
  if (m.version == YoloVersion::v8) {
    for (int s = 0; s < 4; ++s) {
      T most = value(s * m.reg_max), total = 0, moment = 0;
      for (int64_t i = 0; i < m.reg_max; ++i) most = std::max(most, value(s * m.reg_max + i));
      for (int64_t i = 0; i < m.reg_max; ++i)
        yolo_add_bin(value(s * m.reg_max + i), most, T(i), total, moment);
      const T cell = T(s % 2 == 0 ? at.column : at.row), stride = T(level.stride);
      side[s] =
          s < 2 ? yolo_low_side(cell, moment / total, stride) : yolo_high_side(cell, moment / total, stride);
    }
  } else {
    for (int axis = 0; axis < 2; ++axis) {
      const T cell = T(axis == 0 ? at.column : at.row);
      yolo_interval(yolo_centre(m.version, value(first + axis), cell, T(level.stride)),
                    yolo_length(m.version, value(first + 2 + axis), yolo_unit<T>(m, level, at.anchor, axis)),
                    side[axis], side[2 + axis]);
    }
  }
  b.box = {side[0], side[1], side[2], side[3]};
  const T confidence = m.version == YoloVersion::v8 ? T(1) : yolo_confidence(m.version, value(first + 4));
  T most = -std::numeric_limits<T>::infinity(), total = 0;
  for (int64_t c = 0; c < m.classes; ++c) b.outputs.push_back(value(first_class + c));
  for (T x : b.outputs) most = std::max(most, x);
  for (T x : b.outputs) total += exponential(x - most);
  for (T x : b.outputs) {
    b.scores.push_back(m.version == YoloVersion::v2 ? yolo_softmax_score(confidence, x, most, total)
                                                    : yolo_score(m.version, confidence, x));
  }
  return b;
}

template <class T>
struct Decoded {
  std::vector<T> boxes, scores;
  bool operator==(const Decoded& o) const { return boxes == o.boxes && scores == o.scores; }
};

template <class T>
gcv::YoloDecodeParams params_of(const Network<T>& n, Decoded<T>& out) {
  out.boxes.assign(size_t(n.maps.batch * n.maps.boxes * 4), T(-7));
  out.scores.assign(size_t(n.maps.batch * n.maps.boxes * n.maps.classes), T(-7));
  return {n.maps, out.boxes.data(), out.scores.data()};
}

template <class T>
Decoded<T> naive_decode(const Network<T>& n) {
  Decoded<T> out;
  params_of(n, out);
  const auto& m = n.maps;
  for (int64_t image = 0; image < m.batch; ++image) {
    for (int64_t i = 0; i < m.boxes; ++i) {
      const NaiveBox<T> b = naive_box(n, image, i);
      const T sides[4] = {b.box.x1, b.box.y1, b.box.x2, b.box.y2};
      std::copy_n(sides, 4, &out.boxes[size_t(image * m.boxes + i) * 4]);
      for (int64_t c = 0; c < m.classes; ++c)
        out.scores[size_t((image * m.classes + c) * m.boxes + i)] = b.scores[size_t(c)];
    }
  }
  return out;
}

template <class T>
struct Detections {
  std::vector<T> boxes, scores;
  std::vector<int64_t> labels, counts;
  bool operator==(const Detections& o) const {
    return boxes == o.boxes && scores == o.scores && labels == o.labels && counts == o.counts;
  }
};

struct Limits {
  double score_threshold;
  int64_t max_detections, max_candidates;
  bool class_agnostic, multi_label;
  const float* letterbox;
};

template <class T>
gcv::YoloDetectParams params_of(const Network<T>& n, const Limits& limits, Detections<T>& out) {
  const auto slots = size_t(n.maps.batch * limits.max_detections);
  out.boxes.assign(4 * slots, T(-7));
  out.scores.assign(slots, T(-7));
  out.labels.assign(slots, -7);
  out.counts.assign(size_t(n.maps.batch), -7);
  return {n.maps,
          limits.score_threshold,
          0.45,
          limits.max_detections,
          limits.max_candidates,
          limits.class_agnostic,
          limits.multi_label,
          limits.letterbox,
          {5, 1},
          out.boxes.data(),
          out.scores.data(),
          out.labels.data(),
          out.counts.data()};
}

template <class T>
struct Candidate {
  T score;
  int64_t label;
  gcv::Box<T> box;
};

template <class T>
std::vector<Candidate<T>> naive_candidates(const Network<T>& n, const gcv::YoloDetectParams& p,
                                           int64_t image) {
  std::vector<Candidate<T>> found;
  for (int64_t c = 0; c < (p.multi_label ? n.maps.classes : 1); ++c) {
    for (int64_t i = 0; i < n.maps.boxes; ++i) {
      const NaiveBox<T> b = naive_box(n, image, i);
      const auto best = std::max_element(b.outputs.begin(), b.outputs.end()) - b.outputs.begin();
      const int64_t label = p.multi_label ? c : best;
      if (double(b.scores[size_t(label)]) > p.score_threshold)
        found.push_back({b.scores[size_t(label)], label, b.box});
    }
  }
  std::stable_sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.score > b.score; });
  if (int64_t(found.size()) > p.max_candidates) found.resize(size_t(p.max_candidates));
  return found;
}

template <class T>
Detections<T> naive_detect(const Network<T>& n, const Limits& limits) {
  Detections<T> out;
  const gcv::YoloDetectParams p = params_of(n, limits, out);
  std::fill(out.boxes.begin(), out.boxes.end(), T(0));
  std::fill(out.scores.begin(), out.scores.end(), T(0));
  std::fill(out.labels.begin(), out.labels.end(), -1);
  const auto threshold = gcv::make_iou_threshold<T>(p.iou_threshold);
  for (int64_t image = 0; image < n.maps.batch; ++image) {
    std::vector<Candidate<T>> kept;
    for (const Candidate<T>& c : naive_candidates(n, p, image)) {
      bool hit = int64_t(kept.size()) == p.max_detections;
      for (const Candidate<T>& k : kept) {
        hit = hit || ((p.class_agnostic || k.label == c.label) &&
                      gcv::suppresses(k.box, gcv::area(k.box), c.box, gcv::area(c.box), threshold));
      }
      if (!hit) kept.push_back(c);
    }
    out.counts[size_t(image)] = int64_t(kept.size());
    for (size_t i = 0; i < kept.size(); ++i) {
      const auto to = size_t(image * p.max_detections) + i;
      const gcv::Box<T> b = kept[i].box;
      T sides[4] = {b.x1, b.y1, b.x2, b.y2};
      for (int s = 0; s < 4 && p.letterbox != nullptr; ++s) {
        const float* box = p.letterbox + 5 * image;
        sides[s] = gcv::yolo_restore(sides[s], T(box[1 + s % 2]), T(box[0]), T(box[4 - s % 2]));
      }
      std::copy_n(sides, 4, &out.boxes[4 * to]);
      out.scores[to] = kept[i].score;
      out.labels[to] = kept[i].label;
    }
  }
  return out;
}

template <class T>
gcv::YoloDecodeBackwardParams backward_params(const Network<T>& n, const std::vector<T>& grad_boxes,
                                              const std::vector<T>& grad_scores, std::vector<T>& grad_maps) {
  const auto& m = n.maps;
  grad_maps.assign(size_t(m.batch * m.numbers), T(-7));
  return {m,
          grad_boxes.data(),
          grad_scores.data(),
          {m.boxes * 4, 4, 1},
          {m.boxes * m.classes, 1, m.boxes},
          grad_maps.data()};
}

// The largest error of a few difference quotients of the sum of weighted results; for double only.
template <class Decode>
double gradient_error(Network<double>& n, const std::vector<double>& grad_maps,
                      const std::vector<double>& of_boxes, const std::vector<double>& of_scores,
                      const Decode& decode) {
  const auto total = [&] {
    const Decoded<double> d = decode(n);
    double sum = 0;
    for (size_t i = 0; i < d.boxes.size(); ++i) sum += d.boxes[i] * of_boxes[i];
    for (size_t i = 0; i < d.scores.size(); ++i) sum += d.scores[i] * of_scores[i];
    return sum;
  };
  double worst = 0;
  const auto& m = n.maps;
  const int64_t channels = gcv::yolo_channels(m);
  for (int64_t l = 0; l < m.level_count; ++l) {
    const gcv::YoloLevel& level = m.levels[l];
    const int64_t cells = gcv::yolo_cells(level);
    for (int64_t i = 0; i < channels * cells; i += 7) {
      const int64_t channel = i / cells, cell = i % cells, row = cell / level.width;
      const int64_t* s = level.strides;
      double& x = n.data[size_t(l)][size_t(channel * s[1] + row * s[2] + (cell - row * level.width) * s[3])];
      const double before = x, step = 1e-5;
      x = before + step;
      const double up = total();
      x = before - step;
      const double down = total();
      x = before;
      const double expected = (up - down) / (2 * step), found = grad_maps[size_t(level.first_number + i)];
      worst = std::max(worst, std::abs(found - expected) / (1 + std::abs(expected)));
    }
  }
  return worst;
}

inline std::vector<double> weights(size_t count) {
  std::vector<double> w(count);
  for (size_t i = 0; i < count; ++i) w[i] = std::cos(1.7 * double(i));
  return w;
}

}  // namespace gcv_test

// Problems for the matcher, and plain loops over the whole IoU matrix that solve them as torchvision does.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace gcv {

using Boxes = std::vector<double>;  // [n, 4]

struct MatchProblem {
  Boxes gts, anchors;
  double high = 0.5, low = 0.25;
  bool allow_low_quality = true;
};

class Numbers {
 public:
  explicit Numbers(unsigned seed) : state_(seed * 2654435761u + 1) {}
  int below(int range) {
    state_ = state_ * 1664525u + 1013904223u;
    return int((state_ >> 10) % unsigned(range));
  }

 private:
  unsigned state_;
};

// Integers, which the narrow types hold exactly; close together, so that ties abound, some boxes are empty
// and many touch.
inline Boxes close_boxes(int64_t n, unsigned seed) {
  Numbers next(seed);
  Boxes boxes;
  for (int64_t i = 0; i < n; ++i) {
    const double x = next.below(24), y = next.below(24);
    boxes.insert(boxes.end(), {x, y, x + next.below(9), y + next.below(9)});
  }
  return boxes;
}

// Row by row, or backwards, so that a gt meets only anchors of a few neighbouring places.
inline Boxes anchor_grid(int64_t n, bool backwards = false) {
  Boxes boxes;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t i = backwards ? n - 1 - k : k;
    const double x = 8.0 * double(i % 40), y = 8.0 * double(i / 40);
    boxes.insert(boxes.end(), {x - 6, y - 5, x + 6, y + 5});
  }
  return boxes;
}

// One coordinate of one box, after which areas and overlaps are 0, negative, infinite or NaN.
struct Oddity {
  int64_t coordinate;
  double value;

  Boxes in(Boxes boxes) const {
    boxes[coordinate] = value;
    return boxes;
  }
};

inline std::vector<Oddity> oddities() {
  std::vector<Oddity> all;
  for (int64_t coordinate = 20; coordinate < 24; ++coordinate) {
    for (double value : {double(NAN), double(INFINITY), double(-INFINITY), -50.0, 1e30, 1e-30, -0.0})
      all.push_back({coordinate, value});
  }
  return all;
}

template <class T>
T match_iou(const double* a, const double* b) {
  const auto area = [](const double* box) { return T(T(box[2]) - T(box[0])) * T(T(box[3]) - T(box[1])); };
  const T width = std::min(T(a[2]), T(b[2])) - std::max(T(a[0]), T(b[0]));
  const T height = std::min(T(a[3]), T(b[3])) - std::max(T(a[1]), T(b[1]));
  const T inter = std::max(T(0), width) * std::max(T(0), height);
  return inter / ((area(a) + area(b)) - inter);
}

// Each anchor covers an eighth of the gt: an anchor that is filled in wrongly covers more.
inline MatchProblem small_anchors(int64_t n) {
  MatchProblem p{{0, 0, 16, 16}, {}};
  for (int64_t i = 0; i < n; ++i) p.anchors.insert(p.anchors.end(), {8, 4, 16, 8});
  return p;
}

// The areas of the gt and of the first anchor, which is reversed, add up to 0, so that 0 is divided by 0.
inline MatchProblem cancelling_areas() { return {{0, 0, 4, 4}, {10, 0, 8, 8, 20, 20, 30, 30}}; }

// As torch.max: the first of the highest, where NaN is higher than all.
template <class T>
bool ranks_above(T a, T b) {
  return !(a <= b) && !std::isnan(b);
}

template <class T>
std::vector<int64_t> naive_matches(const MatchProblem& p) {
  const int64_t gts = int64_t(p.gts.size() / 4), anchors = int64_t(p.anchors.size() / 4);
  if (gts == 0) return std::vector<int64_t>(anchors, -1);
  std::vector<T> quality(gts * anchors), best_of_gt(gts);
  std::vector<int64_t> best(anchors), matches(anchors);
  for (int64_t a = 0; a < anchors; ++a) {
    for (int64_t g = 0; g < gts; ++g) {
      const T q = quality[g * anchors + a] = match_iou<T>(&p.gts[4 * g], &p.anchors[4 * a]);
      if (ranks_above(q, quality[best[a] * anchors + a])) best[a] = g;
      if (a == 0 || ranks_above(q, best_of_gt[g])) best_of_gt[g] = q;
    }
    const T q = quality[best[a] * anchors + a];
    matches[a] = q < T(p.low) ? -1 : q < T(p.high) ? -2 : best[a];
  }
  for (int64_t i = 0; p.allow_low_quality && i < gts * anchors; ++i) {
    if (quality[i] == best_of_gt[i / anchors]) matches[i % anchors] = best[i % anchors];
  }
  return matches;
}

}  // namespace gcv

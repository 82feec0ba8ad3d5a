// Problems for the kernels of the nms room, and plain loops that solve them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace gcv {

struct Problem {
  std::vector<double> boxes;  // [n, 4]
  std::vector<double> scores;
  std::vector<int64_t> classes;
  double iou_threshold = 0.5;
  int64_t n() const { return int64_t(scores.size()); }
};

// Integers, so that the narrow types hold them exactly, on a small grid, so that ties and touching boxes
// abound.
inline Problem grid_problem(int n, int seed, int classes = 0) {
  Problem p;
  uint32_t state = uint32_t(seed) * 2654435761u + 1;
  const auto next = [&state](int range) {
    state = state * 1664525u + 1013904223u;
    return int((state >> 10) % uint32_t(range));
  };
  for (int i = 0; i < n; ++i) {
    const double x = next(24), y = next(24);
    p.boxes.insert(p.boxes.end(), {x, y, x + next(9), y + next(9)});
    p.scores.push_back((next(64) - 16) / 32.0);
    if (classes > 0) p.classes.push_back(next(classes) - 1);
  }
  return p;
}

// Each box only overlaps its neighbours, so every second one is kept and nothing can be settled out of order.
inline Problem chain_problem(int n) {
  Problem p;
  for (int i = 0; i < n; ++i) {
    p.boxes.insert(p.boxes.end(), {4.0 * i, 0, 4.0 * i + 7, 10});
    p.scores.push_back(1 - i / 256.0);
  }
  p.iou_threshold = 0.25;
  return p;
}

template <class T>
T naive_iou(const double* a, const double* b) {
  const auto area = [](const double* box) { return T(T(box[2]) - T(box[0])) * T(T(box[3]) - T(box[1])); };
  const T width = T(std::min(a[2], b[2])) - T(std::max(a[0], b[0]));
  const T height = T(std::min(a[3], b[3])) - T(std::max(a[1], b[1]));
  const T inter = std::max(T(0), width) * std::max(T(0), height);
  return inter / ((area(a) + area(b)) - inter);
}

inline std::vector<int64_t> sorted_order(const std::vector<double>& scores) {
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  return order;
}

template <class T>
std::vector<int64_t> naive_nms(const Problem& p, double score_threshold = -INFINITY,
                               size_t limit = SIZE_MAX) {
  std::vector<int64_t> kept;
  for (int64_t i : sorted_order(p.scores)) {
    if (!(p.scores[i] > score_threshold) || kept.size() == limit) break;
    const bool suppressed = std::any_of(kept.begin(), kept.end(), [&](int64_t k) {
      return (p.classes.empty() || p.classes[i] == p.classes[k]) &&
             double(naive_iou<T>(&p.boxes[4 * k], &p.boxes[4 * i])) > p.iou_threshold;
    });
    if (!suppressed) kept.push_back(i);
  }
  return kept;
}

struct Selection {
  std::vector<int64_t> indices;
  std::vector<double> scores;
};

inline Selection naive_soft_nms(const Problem& p, double score_threshold) {
  Selection out;
  std::vector<float> scores(p.scores.begin(), p.scores.end());
  for (;;) {
    const auto best = std::max_element(scores.begin(), scores.end());
    if (!(double(*best) > score_threshold)) return out;
    const int64_t selected = best - scores.begin();
    out.indices.push_back(selected);
    out.scores.push_back(*best);
    *best = -INFINITY;
    for (int64_t i = 0; i < p.n(); ++i) {
      const float iou = naive_iou<float>(&p.boxes[4 * selected], &p.boxes[4 * i]);
      if (double(iou) > p.iou_threshold) scores[i] *= 1 - iou;
    }
  }
}

}  // namespace gcv

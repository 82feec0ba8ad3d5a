// Boxes for the overlap kernels, and the formulas written out for one pair, with derivatives by differences.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "boxes/iou_params.h"

namespace gcv {

enum class Place { anywhere, grid };

// `anywhere`: no two edges meet. `grid`: integers that half types hold, with edges that meet and boxes
// without area.
inline std::vector<double> make_boxes(int64_t n, unsigned seed, Place place) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> unit(0, 1);
  std::vector<double> boxes;
  for (int64_t i = 0; i < n; ++i) {
    double x = unit(random) * 100, y = unit(random) * 100, w = 5 + unit(random) * 60,
           h = 5 + unit(random) * 60;
    if (place == Place::grid)
      x = std::floor(x / 8), y = std::floor(y / 8), w = std::floor(w / 8), h = std::floor(h / 8);
    boxes.insert(boxes.end(), {x, y, x + w, y + h});
  }
  return boxes;
}

template <class T>
T naive_iou(const T* a, const T* b, T* whole, bool loss, T eps) {
  const T w = std::max(T(0), std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const T h = std::max(T(0), std::min(a[3], b[3]) - std::max(a[1], b[1]));
  *whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h;
  return w * h / (loss ? *whole + eps : *whole);
}

inline double square(double x) { return x * x; }

inline double naive_aspect(const double* a, const double* b) {
  const double difference =
      std::atan((a[2] - a[0]) / (a[3] - a[1])) - std::atan((b[2] - b[0]) / (b[3] - b[1]));
  return 4 / square(std::acos(-1.0)) * square(difference);
}

// The weight of CIoU's aspect term, which derivatives hold fixed.
inline double naive_weight(const double* a, const double* b, bool loss, double eps) {
  double whole;
  const double iou = naive_iou(a, b, &whole, loss, eps), v = naive_aspect(a, b);
  return v / (1 - iou + v + eps);
}

// The metric of two proper boxes; with `loss`, the metric that a loss is 1 minus of.
inline double naive_metric(IouKind kind, const double* a, const double* b, bool loss, double eps,
                           double weight) {
  double whole;
  const double iou = naive_iou(a, b, &whole, loss, eps);
  if (kind == IouKind::iou) return iou;
  const double w = std::max(a[2], b[2]) - std::min(a[0], b[0]),
               h = std::max(a[3], b[3]) - std::min(a[1], b[1]);
  if (kind == IouKind::giou) return iou - (w * h - whole) / (loss ? w * h + eps : w * h);
  const double x = (a[0] + a[2] - b[0] - b[2]) / 2, y = (a[1] + a[3] - b[1] - b[3]) / 2;
  const double diou = iou - (square(x) + square(y)) / (square(w) + square(h) + eps);
  return kind == IouKind::diou ? diou : diou - weight * naive_aspect(a, b);
}

// By the coordinates of a.
inline Box<double> naive_gradient(IouKind kind, const double* a, const double* b, bool loss, double eps) {
  const double weight = naive_weight(a, b, loss, eps), step = 1e-5;
  double slopes[4];
  for (int i = 0; i < 4; ++i) {
    double above[4], below[4];
    std::copy(a, a + 4, above);
    std::copy(a, a + 4, below);
    above[i] += step;
    below[i] -= step;
    slopes[i] =
        (naive_metric(kind, above, b, loss, eps, weight) - naive_metric(kind, below, b, loss, eps, weight)) /
        (2 * step);
  }
  return {slopes[0], slopes[1], slopes[2], slopes[3]};
}

// Of a result to what it should be; NaN is close to nothing.
inline bool close(double got, double expected, double tolerance) {
  return std::abs(got - expected) <= tolerance * std::max(1.0, std::abs(expected));
}

inline uint16_t half_bits_of_small_integer(int x) {
  if (x == 0) return 0;
  int exponent = 0;
  while ((x >> exponent) > 1) ++exponent;
  return uint16_t((exponent + 15) << 10 | ((x << (10 - exponent)) & 0x3ff));
}

template <class Element>
Element element_from(double x) {
  if constexpr (std::is_same<Element, Half>::value) {
    return {half_bits_of_small_integer(int(x))};
  } else if constexpr (std::is_same<Element, BFloat16>::value) {
    const float f = float(x);
    uint32_t bits;
    std::copy_n(reinterpret_cast<const char*>(&f), sizeof bits, reinterpret_cast<char*>(&bits));
    return {uint16_t(bits >> 16)};
  } else {
    return Element(x);
  }
}

template <class Element>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};

enum class Layout { dense, spaced, coordinates_first };

// Boxes in memory as a caller may have them; the last element ends the memory.
template <class Element>
struct StoredBoxes {
  std::vector<Element> memory;
  BoxList list;

  StoredBoxes(const std::vector<double>& boxes, int64_t batch, Layout layout) {
    const int64_t n = int64_t(boxes.size()) / 4 / batch;
    const int64_t box_stride = layout == Layout::dense ? 4 : layout == Layout::spaced ? 7 : 1;
    const int64_t coord_stride = layout == Layout::coordinates_first ? n : 1;
    const int64_t batch_stride = layout == Layout::spaced ? 7 * n : 4 * n;
    memory.resize(n == 0 ? 0 : (batch - 1) * batch_stride + (n - 1) * box_stride + 3 * coord_stride + 1);
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t i = 0; i < n; ++i)
        for (int64_t k = 0; k < 4; ++k)
          memory[b * batch_stride + i * box_stride + k * coord_stride] =
              element_from<Element>(boxes[4 * (b * n + i) + k]);
    list = {memory.data(), n, batch_stride, box_stride, coord_stride};
  }
};

}  // namespace gcv

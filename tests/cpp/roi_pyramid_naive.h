// Spatial pyramid pooling by plain loops, and problems in exactly sized memory, for the test programs.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "roi/pyramid.h"

namespace gcv_test {

enum class PyramidLayout { dense, channels_last, transposed };

struct PyramidKind {
  bool average, paper, whole;
  PyramidLayout layout;
};

template <class T>
struct PyramidProblem {
  PyramidKind kind;
  int64_t images, channels, height, width;
  std::vector<int32_t> levels;
  std::vector<T> maps, values, boxes, grad;

  int64_t regions() const { return kind.whole ? images : int64_t(boxes.size()) / 5; }
  int64_t cells() const { return height * width; }

  gcv::Pyramid pyramid() const {
    gcv::Pyramid p{};
    p.dtype = sizeof(T) == 8 ? gcv::DType::f64 : gcv::DType::f32;
    p.images = images, p.channels = channels, p.height = height, p.width = width;
    p.whole = kind.whole;
    p.regions = {kind.whole ? nullptr : boxes.data(), regions(), 5, p.dtype};
    for (int32_t level : levels) p.levels[p.level_count++] = level;
    p.average = kind.average, p.paper = kind.paper;
    p.spatial_scale = 0.5;
    return p;
  }

  void set_strides(int64_t (&strides)[4]) const {
    const int64_t dense[] = {channels * cells(), cells(), width, 1};
    const int64_t last[] = {channels * cells(), 1, width * channels, channels};
    const int64_t transposed[] = {channels * cells(), cells(), 1, height};
    const bool by_channel = kind.layout == PyramidLayout::channels_last;
    const int64_t* chosen = by_channel ? last : kind.layout == PyramidLayout::dense ? dense : transposed;
    for (int d = 0; d < 4; ++d) strides[d] = chosen[d];
  }

  gcv::PlanesIn planes(const std::vector<T>& of) const {
    gcv::PlanesIn planes{of.data(), {}};
    set_strides(planes.strides);
    return planes;
  }

  size_t at(int64_t image, int64_t channel, int64_t y, int64_t x) const {
    int64_t strides[4];
    set_strides(strides);
    return size_t(image * strides[0] + channel * strides[1] + y * strides[2] + x * strides[3]);
  }
};

// Boxes in pixels of a map twice as large: inside, thin, reversed, beyond, of any size, and not finite.
template <class T>
PyramidProblem<T> pyramid_problem(const PyramidKind& kind, int64_t channels, int64_t height, int64_t width,
                                  std::vector<int32_t> levels) {
  PyramidProblem<T> p{kind, 2, channels, height, width, std::move(levels), {}, {}, {}, {}};
  const T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
  const T w = T(width), h = T(height);
  if (!kind.whole) {
    p.boxes = {0,      0,    0,  2 * w, 2 * h,    1,    3,   2,   T(1.5) * w, h,       1,
               -9,     -9,   -5, -5,    0,        w,    h,   4,   3,          1,       0,
               0,      nan,  5,  0,     -1e9,     -1e9, 1e9, 1e9, 0,          T(2.25), T(4.125),
               T(3.5), T(5), 1,  4,     4,        4,    4,   1,   -1,         T(-.5),  T(-.25),
               h,      0,    0,  w,     infinity, 4,    1,   4,   T(-3.25),   w,       T(2) * h + T(9)};
  }
  uint32_t state = 1;
  const auto next = [&](int64_t below) {
    return int64_t((state = state * 1664525 + 1013904223) >> 16) % below;
  };
  for (int64_t i = 0; i < p.images * channels * p.cells(); ++i) {
    const T number = T(next(64) - 32) / 4;
    const int64_t special = kind.average ? 9 : next(40);
    const T zero = special % 2 ? T(0) : T(-0.0);
    p.maps.push_back(special == 0   ? (next(2) ? nan : -nan)
                     : special == 1 ? -infinity
                     : number == 0  ? zero
                                    : number);
    p.values.push_back(T(i % 1021) + 1);
  }
  const int64_t features = gcv::pyramid_features(p.pyramid());
  for (int64_t i = 0; i < p.regions() * features; ++i) p.grad.push_back(T(next(16)));
  p.maps.shrink_to_fit(), p.values.shrink_to_fit(), p.boxes.shrink_to_fit(), p.grad.shrink_to_fit();
  return p;
}

struct NaiveCells {
  int64_t begin, end;
};

// Those between the edges; where none is, the one in the middle.
inline NaiveCells naive_cells(double low, double high, int64_t size) {
  const double middle = std::floor((std::floor(low) + std::ceil(high)) / 2);
  const bool thin = std::floor(low) + 1 > std::ceil(high) - 1;
  NaiveCells found{size, size};
  for (int64_t i = size - 1; i >= 0; --i) {
    if (thin ? double(i) != middle : !(double(i) > low && double(i) < high)) continue;
    found.end = found.begin == size ? i + 1 : found.end;
    found.begin = i;
  }
  return found;
}

inline bool naive_bin_has(bool paper, int64_t size, int64_t level, int64_t bin, int64_t cell) {
  if (paper && size >= level) {
    const int64_t stride = size / level, window = size / level + (size % level != 0);
    return cell >= bin * stride && cell < bin * stride + window;
  }
  return (cell + 1) * level > bin * size && cell * level < (bin + 1) * size;
}

template <class T>
struct PyramidResults {
  std::vector<T> pooled, picked, grad_input;

  explicit PyramidResults(const PyramidProblem<T>& p)
      : pooled(p.grad.size()), picked(p.grad.size()), grad_input(p.maps.size()) {}
};

// One bin: what it pools, and what it gives back.
template <class T>
void naive_bin(const PyramidProblem<T>& p, int64_t image, int64_t channel, const NaiveCells& ys,
               const NaiveCells& xs, int64_t level, int64_t bin, size_t feature, PyramidResults<T>& r) {
  std::vector<size_t> own;
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    for (int64_t x = xs.begin; x < xs.end; ++x) {
      if (naive_bin_has(p.kind.paper, ys.end - ys.begin, level, bin / level, y - ys.begin) &&
          naive_bin_has(p.kind.paper, xs.end - xs.begin, level, bin % level, x - xs.begin))
        own.push_back(p.at(image, channel, y, x));
    }
  }
  if (own.empty()) return;
  size_t first = own[0];
  T sum = 0;
  for (size_t i : own) {
    sum += p.maps[i];
    if (p.maps[first] == p.maps[first] && !(p.maps[i] <= p.maps[first])) first = i;
  }
  const T grad = p.grad[feature];
  if (p.kind.average) {
    r.pooled[feature] = sum / T(own.size());
    for (size_t i : own) r.grad_input[i] += grad / T(own.size());
  } else {
    r.pooled[feature] = p.maps[first] == 0 ? T(0) : p.maps[first];
    r.picked[feature] = p.values[first];
    r.grad_input[first] += grad;
  }
}

template <class T>
PyramidResults<T> naive_pyramid(const PyramidProblem<T>& p) {
  PyramidResults<T> r(p);
  size_t feature = 0;
  for (int64_t k = 0; k < p.regions(); ++k) {
    const T* box = p.kind.whole ? nullptr : &p.boxes[size_t(5 * k)];
    bool sound = p.kind.whole || (box[0] > -1 && box[0] < T(p.images));
    for (int d = 1; d < 5 && !p.kind.whole; ++d) sound = sound && std::isfinite(box[d]);
    NaiveCells ys{0, p.height}, xs{0, p.width};
    if (!p.kind.whole && sound) {
      ys = naive_cells(double(box[2]) / 2, double(box[4]) / 2, p.height);
      xs = naive_cells(double(box[1]) / 2, double(box[3]) / 2, p.width);
    }
    for (int64_t level : p.levels) {
      for (int64_t i = 0; i < p.channels * level * level; ++i, ++feature) {
        if (!sound) r.pooled[feature] = std::numeric_limits<T>::quiet_NaN();
        if (sound) {
          naive_bin(p, p.kind.whole ? k : int64_t(box[0]), i / (level * level), ys, xs, level,
                    i % (level * level), feature, r);
        }
      }
    }
  }
  return r;
}

template <class T>
bool pyramid_close(const std::vector<T>& a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (a[i] == b[i] ? std::signbit(a[i]) != std::signbit(b[i]) : !(std::abs(a[i] - b[i]) < T(1e-4)))
      return false;
  }
  return true;
}

template <class T>
bool pyramid_right(const PyramidProblem<T>& p, const PyramidResults<T>& r) {
  const PyramidResults<T> expected = naive_pyramid(p);
  return pyramid_close(r.pooled, expected.pooled) && pyramid_close(r.grad_input, expected.grad_input) &&
         (p.kind.average || pyramid_close(r.picked, expected.picked));
}

// Every kind on dense maps, and maxima on others.
inline std::vector<PyramidKind> pyramid_kinds() {
  std::vector<PyramidKind> kinds;
  for (int bits = 0; bits < 8; ++bits)
    kinds.push_back({bool(bits & 1), bool(bits & 2), bool(bits & 4), PyramidLayout::dense});
  kinds.push_back({false, false, false, PyramidLayout::channels_last});
  kinds.push_back({true, false, false, PyramidLayout::channels_last});
  kinds.push_back({false, true, true, PyramidLayout::transposed});
  return kinds;
}

}  // namespace gcv_test

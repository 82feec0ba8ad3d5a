// RoI pooling by plain loops, and problems in exactly sized memory, for the test programs.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "roi/roi_pool.h"

namespace gcv_test {

template <class T>
struct PoolProblem {
  int64_t images, channels, height, width, rows, columns;
  bool channels_last;
  std::vector<T> maps, boxes, grad;

  int64_t regions() const { return int64_t(boxes.size()) / 5; }
  int64_t outputs() const { return regions() * channels * rows * columns; }

  gcv::PoolMaps over(const T* data, int64_t h, int64_t w, bool last) const {
    auto* p = const_cast<T*>(data);
    if (last) return {p, {channels * h * w, 1, w * channels, channels}};
    return {p, {channels * h * w, h * w, w, 1}};
  }
  gcv::PoolMaps input(const T* data) const { return over(data, height, width, channels_last); }
  gcv::PoolMaps bins(const T* data) const { return over(data, rows, columns, false); }

  gcv::PoolShape shape() const {
    const gcv::DType dtype = sizeof(T) == 8 ? gcv::DType::f64 : gcv::DType::f32;
    return {images, channels, height, width, {boxes.data(), regions(), 5, dtype}, rows, columns, 0.5, dtype};
  }
};

// Boxes in pixels of a map twice as large, half of them on halves of the map's: inside, beyond, reversed, and
// one that is not finite.
template <class T>
PoolProblem<T> pool_problem(int64_t images, int64_t channels, int64_t height, int64_t width, int64_t regions,
                            int64_t rows, int64_t columns, bool channels_last) {
  PoolProblem<T> p{images, channels, height, width, rows, columns, channels_last, {}, {}, {}};
  uint32_t state = 1;
  const auto next = [&](int64_t below) {
    return int64_t((state = state * 1664525 + 1013904223) >> 16) % below;
  };
  const T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
  const T special[] = {nan, -infinity, T(-0.0), infinity};
  for (int64_t i = 0; i < images * channels * height * width; ++i) {
    const int64_t number = next(68);
    p.maps.push_back(number < 64 ? T(number - 32) : special[number - 64]);
  }
  for (int64_t k = 0; k < regions; ++k) {
    p.boxes.push_back(T(next(images)));
    for (int corner = 0; corner < 4; ++corner) p.boxes.push_back(T(next(2 * height + 8) - 4));
  }
  if (regions > 2) p.boxes[11] = nan;
  for (int64_t i = 0; i < p.outputs(); ++i) p.grad.push_back(T(next(16)));
  p.maps.shrink_to_fit();
  p.boxes.shrink_to_fit();
  return p;
}

template <class T>
struct PoolResults {
  std::vector<T> pooled, picked, grad_input;
};

// Zeros of two signs are not the same.
inline bool same(double a, double b) {
  return a == b ? std::signbit(a) == std::signbit(b) : a != a && b != b;
}

template <class T>
bool operator==(const PoolResults<T>& a, const PoolResults<T>& b) {
  const auto equal = [](const std::vector<T>& x, const std::vector<T>& y) {
    for (size_t i = 0; i < x.size(); ++i)
      if (!same(x[i], y[i])) return false;
    return x.size() == y.size();
  };
  return equal(a.pooled, b.pooled) && equal(a.picked, b.picked) && equal(a.grad_input, b.grad_input);
}

// What is picked are the maps themselves, negated.
template <class T>
std::vector<T> picked_maps(const PoolProblem<T>& p) {
  std::vector<T> values;
  for (T x : p.maps) values.push_back(-x);
  return values;
}

template <class T>
PoolResults<T> naive_pool(const PoolProblem<T>& p) {
  PoolResults<T> r;
  r.grad_input.assign(p.maps.size(), T(0));
  const auto clip = [](double x, int64_t most) { return int64_t(std::fmin(std::fmax(x, 0), double(most))); };
  for (int64_t i = 0; i < p.outputs(); ++i) {
    const int64_t column = i % p.columns, row = i / p.columns % p.rows;
    const int64_t c = i / p.columns / p.rows % p.channels, k = i / p.columns / p.rows / p.channels;
    const T* box = &p.boxes[size_t(5 * k)];
    const bool sound =
        box[0] > -1 && box[0] < T(p.images) && std::isfinite(box[1] + box[2] + box[3] + box[4]);
    if (!sound) {
      r.pooled.push_back(std::numeric_limits<T>::quiet_NaN());
      r.picked.push_back(0);
      continue;
    }
    const T left = std::round(box[1] / 2), top = std::round(box[2] / 2);
    const T high = std::fmax(std::round(box[4] / 2) - top + 1, T(1)) / T(p.rows);
    const T wide = std::fmax(std::round(box[3] / 2) - left + 1, T(1)) / T(p.columns);
    const int64_t y0 = clip(std::floor(T(row) * high) + top, p.height);
    const int64_t y1 = clip(std::ceil(T(row + 1) * high) + top, p.height);
    const int64_t x0 = clip(std::floor(T(column) * wide) + left, p.width);
    const int64_t x1 = clip(std::ceil(T(column + 1) * wide) + left, p.width);
    const gcv::PoolMaps at = p.input(p.maps.data());
    T best = y0 < y1 && x0 < x1 ? T(std::numeric_limits<float>::lowest()) : T(0);
    int64_t found = -1;
    for (int64_t y = y0; y < y1; ++y) {
      for (int64_t x = x0; x < x1; ++x) {
        const int64_t here =
            int64_t(box[0]) * at.strides[0] + c * at.strides[1] + y * at.strides[2] + x * at.strides[3];
        if (p.maps[size_t(here)] > best) best = p.maps[size_t(found = here)];
      }
    }
    r.pooled.push_back(best);
    r.picked.push_back(found < 0 ? T(0) : -p.maps[size_t(found)]);
    if (found >= 0) r.grad_input[size_t(found)] += p.grad[size_t(i)];
  }
  return r;
}

}  // namespace gcv_test

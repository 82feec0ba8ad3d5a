// Rows of four coordinates to and from vectors of one coordinate each. Included by *_cpu.cpp only.
#pragma once

#include <utility>

#include "common/box.h"
#include "common/dtype_arrays.h"
#include "common/simd.h"

namespace gcv {

// Lanes 0, 2, 4 ... of a and b, one after the other; or 1, 3, 5 ...
template <int kFirst, class T, int... kLane>
GCV_HD Simd<T> every_other(Simd<T> a, Simd<T> b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, (2 * kLane + kFirst)...);
}

// The first halves of a and b (kFirst = 0) alternating, or the second ones (kFirst = half the lanes).
template <int kFirst, class T, int... kLane>
GCV_HD Simd<T> alternating(Simd<T> a, Simd<T> b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, (kFirst + kLane / 2 + kLane % 2 * kLanes<T>)...);
}

template <class T>
GCV_HD Box<Simd<T>> boxes_from_rows(const T* rows) {
  constexpr int n = kLanes<T>;
  constexpr auto lanes = std::make_integer_sequence<int, n>();
  const Simd<T> v0 = load(rows), v1 = load(rows + n), v2 = load(rows + 2 * n), v3 = load(rows + 3 * n);
  const Simd<T> x01 = every_other<0, T>(v0, v1, lanes), x23 = every_other<0, T>(v2, v3, lanes);
  const Simd<T> y01 = every_other<1, T>(v0, v1, lanes), y23 = every_other<1, T>(v2, v3, lanes);
  return {every_other<0, T>(x01, x23, lanes), every_other<0, T>(y01, y23, lanes),
          every_other<1, T>(x01, x23, lanes), every_other<1, T>(y01, y23, lanes)};
}

template <class T>
GCV_HD void boxes_to_rows(const Box<Simd<T>>& b, T* rows) {
  constexpr int n = kLanes<T>;
  constexpr auto lanes = std::make_integer_sequence<int, n>();
  const Simd<T> x_low = alternating<0, T>(b.x1, b.x2, lanes),
                x_high = alternating<n / 2, T>(b.x1, b.x2, lanes);
  const Simd<T> y_low = alternating<0, T>(b.y1, b.y2, lanes),
                y_high = alternating<n / 2, T>(b.y1, b.y2, lanes);
  store(rows, alternating<0, T>(x_low, y_low, lanes));
  store(rows + n, alternating<n / 2, T>(x_low, y_low, lanes));
  store(rows + 2 * n, alternating<0, T>(x_high, y_high, lanes));
  store(rows + 3 * n, alternating<n / 2, T>(x_high, y_high, lanes));
}

// The vector of `count` boxes from `first` on; the last one fills the lanes that are left.
template <class Element>
GCV_HD Box<Simd<typename Compute<Element>::type>> load_boxes(const Element* first, int64_t box_stride,
                                                             int64_t coord_stride, int64_t count) {
  using T = typename Compute<Element>::type;
  constexpr int n = kLanes<T>;
  alignas(kVectorBytes) T rows[4 * n];
  if (count >= n && box_stride == 4 && coord_stride == 1) {
    if constexpr (std::is_same<Element, T>::value) {
      return boxes_from_rows(first);
    } else {
      widen_all(first, 4 * n, rows);
    }
  } else {
    for (int i = 0; i < n; ++i) {
      const Element* box = first + (i < count ? i : count - 1) * box_stride;
      for (int k = 0; k < 4; ++k) rows[4 * i + k] = widen(box[k * coord_stride]);
    }
  }
  return boxes_from_rows(rows);
}

// Writes the first `count` boxes, dense.
template <class Element>
GCV_HD void store_boxes(const Box<Simd<typename Compute<Element>::type>>& boxes, Element* first,
                        int64_t count) {
  using T = typename Compute<Element>::type;
  constexpr int n = kLanes<T>;
  if constexpr (std::is_same<Element, T>::value) {
    if (count >= n) return boxes_to_rows<T>(boxes, first);
  }
  alignas(kVectorBytes) T rows[4 * n];
  boxes_to_rows<T>(boxes, rows);
  if (count >= n) {
    narrow_all(rows, 4 * n, first);
  } else {
    narrow_all(rows, 4 * count, first);
  }
}

// `count` numbers, zeros beyond.
template <class T>
GCV_HD Simd<T> load_some(const T* first, int64_t stride, int64_t count) {
  if (count >= kLanes<T> && stride == 1) return load(first);
  alignas(kVectorBytes) T lanes[kLanes<T>] = {};
  for (int i = 0; i < kLanes<T> && i < count; ++i) lanes[i] = first[i * stride];
  return load(lanes);
}

template <class T>
GCV_HD void store_some(T* first, Simd<T> values, int64_t count) {
  if (count >= kLanes<T>) return store(first, values);
  for (int i = 0; i < count; ++i) first[i] = values[i];
}

}  // namespace gcv

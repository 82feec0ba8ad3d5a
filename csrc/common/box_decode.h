// The box that regression deltas make of an anchor (R-CNN's parametrisation), with the same bits on every
// backend.
#pragma once

#include "common/box.h"
#include "common/exp.h"

namespace gcv {

// Shifts of the centre in units of the anchor's size, and logarithms of the growth; already divided by their
// weights.
template <class T>
struct Deltas {
  T x, y, w, h;
};

// One axis: from [low, high] to the interval of the shifted centre and the grown length.
template <class T>
GCV_HD void decode_interval(T low, T high, T shift, T growth, T most_growth, T& out_low, T& out_high) {
  const T length = exact::sub(high, low);
  const T centre = exact::add(exact::mul(shift, length), exact::add(low, exact::mul(T(0.5), length)));
  const T bounded = growth > most_growth ? most_growth : growth;  // leaves NaN as it is
  const T half = exact::mul(T(0.5), exact::mul(exponential(bounded), length));
  out_low = exact::sub(centre, half);
  out_high = exact::add(centre, half);
}

template <class T>
GCV_HD Box<T> decode_box(const Box<T>& anchor, const Deltas<T>& d, T most_growth) {
  Box<T> box;
  decode_interval(anchor.x1, anchor.x2, d.x, d.w, most_growth, box.x1, box.x2);
  decode_interval(anchor.y1, anchor.y2, d.y, d.h, most_growth, box.y1, box.y2);
  return box;
}

}  // namespace gcv

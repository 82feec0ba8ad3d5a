// Intersection over union exactly as torchvision's CPU kernel rounds it: one rule for every room and backend.
#pragma once

#include "common/exact.h"

namespace gcv {

// Corners in pixels. V is float, double, or (CPU only) a SIMD vector of them.
template <class V>
struct Box {
  V x1, y1, x2, y2;
};

// `a < b ? b : a` and not fmax: these are one instruction each, and a NaN ends in the union either way.
template <class V>
GCV_HD V larger(V a, V b) {
  return a < b ? b : a;
}

template <class V>
GCV_HD V smaller(V a, V b) {
  return b < a ? b : a;
}

template <class V>
GCV_HD V area(const Box<V>& b) {
  return exact::mul(exact::sub(b.x2, b.x1), exact::sub(b.y2, b.y1));
}

template <class V>
GCV_HD V intersection(const Box<V>& a, const Box<V>& b) {
  const V zero{};
  const V w = larger(zero, exact::sub(smaller(a.x2, b.x2), larger(a.x1, b.x1)));
  const V h = larger(zero, exact::sub(smaller(a.y2, b.y2), larger(a.y1, b.y1)));
  return exact::mul(w, h);
}

template <class V>
GCV_HD V union_area(V area_a, V area_b, V inter) {
  return exact::sub(exact::add(area_a, area_b), inter);
}

template <class V>
GCV_HD V iou(const Box<V>& a, V area_a, const Box<V>& b, V area_b) {
  const V inter = intersection(a, b);
  return exact::div(inter, union_area(area_a, area_b, inter));
}

// A box that can reach IoU > t for some t >= 0: of positive, finite area, with no NaN and not reversed.
template <class T>
GCV_HD bool can_overlap(const Box<T>& b, T area) {
  return b.x2 > b.x1 && b.y2 > b.y1 && area > T(0) && area - area == T(0);
}

}  // namespace gcv

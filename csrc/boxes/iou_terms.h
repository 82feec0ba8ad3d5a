// Terms of many boxes as a structure of arrays, so that a vector of them is one load a field. Included by
// *_cpu.cpp only.
#pragma once

#include "boxes/box_lanes.h"
#include "boxes/iou_params.h"

namespace gcv {

constexpr int kTermFields = 10;

// Calls f(field, its number) for the terms that the kind uses.
template <IouKind kKind, bool kSlopes, class V, class F>
GCV_HD void for_each_term(BoxTerms<V>& t, F f) {
  f(t.box.x1, 0);
  f(t.box.y1, 1);
  f(t.box.x2, 2);
  f(t.box.y2, 3);
  f(t.area, 4);
  if constexpr (kHasCentre<kKind>) {
    f(t.centre_x, 5);
    f(t.centre_y, 6);
  }
  if constexpr (kHasAngle<kKind>) {
    f(t.angle, 7);
    if constexpr (kSlopes) {
      f(t.angle_w, 8);
      f(t.angle_h, 9);
    }
  }
}

// kTermFields arrays of `length` numbers, a multiple of the lanes.
template <class T>
struct TermArrays {
  T* memory;
  int64_t length;

  GCV_HD int64_t padded(int64_t count) { return (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>; }
};

template <IouKind kKind, bool kSlopes, class T>
GCV_HD BoxTerms<Simd<T>> load_terms(const TermArrays<T>& from, int64_t i) {
  BoxTerms<Simd<T>> terms{};
  for_each_term<kKind, kSlopes>(
      terms, [&](Simd<T>& field, int k) { field = load(from.memory + k * from.length + i); });
  return terms;
}

// The terms of box i in every lane.
template <IouKind kKind, bool kSlopes, class T>
GCV_HD BoxTerms<Simd<T>> splat_terms(const TermArrays<T>& from, int64_t i) {
  BoxTerms<Simd<T>> terms{};
  for_each_term<kKind, kSlopes>(
      terms, [&](Simd<T>& field, int k) { field = splat(from.memory[k * from.length + i]); });
  return terms;
}

template <class Element>
GCV_HD const Element* box_of(const BoxList& boxes, int64_t batch, int64_t i) {
  return static_cast<const Element*>(boxes.data) + batch * boxes.batch_stride + i * boxes.box_stride;
}

// Terms of `count` boxes from `first` on; repeats the last box up to a multiple of the lanes.
template <IouKind kKind, bool kSlopes, class Element, class T>
GCV_HD void fill_terms(const BoxList& boxes, int64_t batch, int64_t first, int64_t count,
                       const TermArrays<T>& to) {
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const auto lanes =
        load_boxes(box_of<Element>(boxes, batch, first + i), boxes.box_stride, boxes.coord_stride, count - i);
    BoxTerms<Simd<T>> terms = kSlopes ? sloped_terms_of<kKind>(lanes) : terms_of<kKind>(lanes);
    for_each_term<kKind, kSlopes>(
        terms, [&](Simd<T>& field, int k) { store(to.memory + k * to.length + i, field); });
  }
}

}  // namespace gcv

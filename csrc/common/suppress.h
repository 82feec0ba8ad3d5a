// "Does a kept box suppress this one?", dividing only where a product cannot tell.
#pragma once

#include "common/box.h"
#include "common/float_bits.h"

namespace gcv {

template <class T>
struct IouThreshold {
  T value;
  // An intersection below or above the product of the union and these settles the question. Both are 0, and
  // settle nothing, for thresholds near or below 0.
  T surely_below;
  T surely_above;
};

template <class T>
inline IouThreshold<T> make_iou_threshold(double iou_threshold) {
  constexpr T margin = T(0x1p-20);
  const T value = floor_to<T>(iou_threshold);
  if (!(value > FloatTraits<T>::kSmallArea)) return {value, T(0), T(0)};
  return {value, value * (1 - margin), value * (1 + margin)};
}

// iou(a, b) > threshold, to the bit.
template <class T>
GCV_HD bool suppresses(const Box<T>& a, T area_a, const Box<T>& b, T area_b,
                       const IouThreshold<T>& threshold) {
  const T inter = intersection(a, b);
  // Zero over anything is zero or NaN.
  if (threshold.value >= T(0) && !(inter > T(0))) return false;
  const T whole = union_area(area_a, area_b, inter);
  const T below = exact::mul(whole, threshold.surely_below);
  if (inter < below) return false;
  const T above = exact::mul(whole, threshold.surely_above);
  // A smaller product may have lost bits to underflow.
  if (above > FloatTraits<T>::kSmallArea && inter > above) return true;
  return exact::div(inter, whole) > threshold.value;
}

}  // namespace gcv

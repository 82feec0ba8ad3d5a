// What kernels need to know of a floating-point type's format.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/hd.h"

namespace gcv {

template <class T>
struct FloatTraits;
template <>
struct FloatTraits<float> {
  using Bits = uint32_t;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kSmallArea = 0x1p-100f;  // smaller areas may round in the subnormal range
};
template <>
struct FloatTraits<double> {
  using Bits = uint64_t;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kSmallArea = 0x1p-900;
};

// The largest T not above x: for every y of type T, double(y) > x exactly if y > floor_to<T>(x).
template <class T>
GCV_HD T floor_to(double x) {
  const T nearest = T(x);
  if (!(double(nearest) > x)) return nearest;
  typename FloatTraits<T>::Bits bits;
  memcpy(&bits, &nearest, sizeof bits);
  bits = nearest > 0 ? bits - 1 : bits + 1;
  T below;
  memcpy(&below, &bits, sizeof below);
  return below;
}

}  // namespace gcv

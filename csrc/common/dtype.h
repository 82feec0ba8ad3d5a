// Element types at the edge of a kernel, and how they widen to the type that it computes in.
#pragma once

#include <string.h>

#include <cstdint>

#include "common/hd.h"

namespace gcv {

enum class DType : int32_t { f32, f64, f16, bf16 };

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

// fp16 and bf16 are computed in fp32.
template <class Element>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

template <class Element>
using ComputeOf = typename Compute<Element>::type;

GCV_HD float float_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

GCV_HD float widen(float x) { return x; }
GCV_HD double widen(double x) { return x; }
GCV_HD float widen(uint8_t x) { return float(x); }
GCV_HD float widen(BFloat16 x) { return float_from_bits(uint32_t(x.bits) << 16); }

// The product moves the exponent's bias (exactly, subnormals included); infinities and NaN keep theirs at the
// top.
GCV_HD float widen(Half x) {
  const uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13;
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16;
  const float scaled = float_from_bits(magnitude) * 0x1p112f;
  uint32_t bits;
  memcpy(&bits, &scaled, sizeof bits);
  if (magnitude >= 0x0f800000) bits |= 0x7f800000;
  return float_from_bits(sign | bits);
}

// To nearest, ties to even.
GCV_HD void narrow(float x, float& out) { out = x; }
GCV_HD void narrow(double x, double& out) { out = x; }

GCV_HD void narrow(float x, BFloat16& out) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  out.bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

GCV_HD void narrow(float x, Half& out) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) {
    out.bits = uint16_t(sign | 0x7e00);
  } else if (bits >= 0x477ff000) {  // rounds past the largest half
    out.bits = uint16_t(sign | 0x7c00);
  } else if (bits < 0x38800000) {  // subnormal: adding 0.5 leaves the rounded value in the low bits
    const float shifted = float_from_bits(bits) + 0.5f;
    memcpy(&bits, &shifted, sizeof bits);
    out.bits = uint16_t(sign | (bits - 0x3f000000));
  } else {
    out.bits = uint16_t(sign | ((bits + 0xfff + (bits >> 13 & 1) - 0x38000000) >> 13));
  }
}

}  // namespace gcv

// Calls f<Element>(...) for the element type that `dtype` names.
#define GCV_BY_DTYPE(dtype, f, ...)                                  \
  ((dtype) == ::gcv::DType::f64    ? f<double>(__VA_ARGS__)          \
   : (dtype) == ::gcv::DType::f16  ? f<::gcv::Half>(__VA_ARGS__)     \
   : (dtype) == ::gcv::DType::bf16 ? f<::gcv::BFloat16>(__VA_ARGS__) \
                                   : f<float>(__VA_ARGS__))

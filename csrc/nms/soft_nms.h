// How soft-NMS lowers a score, to the same bit on every backend: only single, correctly rounded operations.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/exact.h"

namespace gcv {

enum class SoftNmsMethod : int32_t { linear, gaussian };

// V is what is computed on: float, double, or a SIMD vector for which a CPU file specialises this.
template <class V>
struct ExpTraits;

template <>
struct ExpTraits<float> {
  using Scalar = float;
  using Bits = uint32_t;
};

template <>
struct ExpTraits<double> {
  using Scalar = double;
  using Bits = uint64_t;
};

template <class Scalar>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr int degree = 7;
  static constexpr int mantissa_bits = 23;
  static constexpr int exponent_bias = 127;
  static constexpr float round_shift = 0x1.8p23f;  // adding it leaves an integer in the low bits
  static constexpr float lowest = -87.0f;
  static constexpr float log2_e = 1.44269504f;
  static constexpr float ln2_high = 0.693359375f;  // so short that a product with the exponent is exact
  static constexpr float ln2_low = -2.12194440e-4f;
};

template <>
struct ExpConstants<double> {
  static constexpr int degree = 13;
  static constexpr int mantissa_bits = 52;
  static constexpr int exponent_bias = 1023;
  static constexpr double round_shift = 0x1.8p52;
  static constexpr double lowest = -708.0;
  static constexpr double log2_e = 1.4426950408889634;
  static constexpr double ln2_high = 0.693147180369123816490;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
};

GCV_HD constexpr double inverse_factorial(int k) {
  double factorial = 1;
  for (int i = 2; i <= k; ++i) factorial *= i;
  return 1 / factorial;
}

template <class To, class From>
GCV_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// The Taylor series of exp from the term of degree k on, divided by x^k, in Horner's form. Recursive, so that
// each coefficient is a constant for every compiler.
template <int k, class V>
GCV_HD V exp_series(V x) {
  using Scalar = typename ExpTraits<V>::Scalar;
  constexpr Scalar coefficient = Scalar(inverse_factorial(k));
  if constexpr (k == ExpConstants<Scalar>::degree) {
    return V{} + coefficient;
  } else {
    return exact::add(exact::mul(exp_series<k + 1>(x), x), V{} + coefficient);
  }
}

// exp(x) for x <= 0: exactly 1 at 0, and 0 below `lowest`, where the normal range ends.
template <class V>
GCV_HD V decay_exp(V x) {
  using Scalar = typename ExpTraits<V>::Scalar;
  using Bits = typename ExpTraits<V>::Bits;
  using Constants = ExpConstants<Scalar>;
  const V zero{};
  const V lowest = zero + Constants::lowest, shift = zero + Constants::round_shift;
  const V reachable = x < lowest ? lowest : x;
  const V shifted = exact::add(exact::mul(reachable, zero + Constants::log2_e), shift);
  const V exponent = exact::sub(shifted, shift);
  const V rest = exact::sub(exact::sub(reachable, exact::mul(exponent, zero + Constants::ln2_high)),
                            exact::mul(exponent, zero + Constants::ln2_low));
  const V series = exp_series<0>(rest);
  const Bits biased = bit_cast<Bits>(shifted) - bit_cast<Bits>(shift) + Constants::exponent_bias;
  const V scale = bit_cast<V>(biased << Constants::mantissa_bits);
  return x < lowest ? zero : exact::mul(series, scale);
}

// The score that is left to a box which overlaps the one just selected.
template <class V>
GCV_HD V decayed(V score, V iou, V iou_threshold, V sigma, SoftNmsMethod method) {
  const V zero{};
  if (method == SoftNmsMethod::linear) {
    const V lowered = exact::mul(score, exact::sub(zero + typename ExpTraits<V>::Scalar(1), iou));
    return iou > iou_threshold ? lowered : score;
  }
  const V lowered = exact::mul(score, decay_exp(exact::div(-exact::mul(iou, iou), sigma)));
  return iou > zero ? lowered : score;
}

}  // namespace gcv

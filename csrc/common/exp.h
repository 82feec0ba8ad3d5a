// Exponential and logistic function from additions and multiplications that no compiler may contract: the
// same bits on every instruction set and GPU, for box decisions follow them. The exponential lies within 1.1
// units in the last place of the true value, the logistic within 3. Loops over them vectorise.
#pragma once

#include <string.h>

#include <cstdint>

#include "common/exact.h"

namespace gcv {

// Constants of e^x = 2^k e^r with k = round(x / ln 2): ln 2 in two pieces, so that k * kLn2High is exact, and
// the minimax polynomial (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, highest power first.
template <class T>
struct ExpOf;

template <>
struct ExpOf<float> {
  using Bits = uint32_t;
  using Signed = int32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr Signed kBias = 127;
  static constexpr float kLeast = -104.0f, kMost = 89.0f;  // beyond: 0 and infinity
  static constexpr float kLeastNormal = -87.0f;            // here its exponential still is a normal number
  static constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  static constexpr float kPerLn2 = 0x1.715476p+0f;
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;

  GCV_HD float polynomial(float r) {
    float y = 0x1.6d113cp-10f;
    y = exact::add(exact::mul(y, r), 0x1.120ba2p-7f);
    y = exact::add(exact::mul(y, r), 0x1.55551ap-5f);
    y = exact::add(exact::mul(y, r), 0x1.5554dcp-3f);
    return exact::add(exact::mul(y, r), 0.5f);
  }
};

template <>
struct ExpOf<double> {
  using Bits = uint64_t;
  using Signed = int64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr Signed kBias = 1023;
  static constexpr double kLeast = -746.0, kMost = 710.0, kLeastNormal = -708.0;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kPerLn2 = 0x1.71547652b82fep+0;
  static constexpr double kLn2High = 0x1.62e42fefa3p-1, kLn2Low = 0x1.3de6af278ece6p-42;

  GCV_HD double polynomial(double r) {
    double y = 0x1.1f731ea5352cap-29;
    y = exact::add(exact::mul(y, r), 0x1.af4e196027428p-26);
    y = exact::add(exact::mul(y, r), 0x1.27e4db57442fbp-22);
    y = exact::add(exact::mul(y, r), 0x1.71de021a90822p-19);
    y = exact::add(exact::mul(y, r), 0x1.a01a01a6dcaffp-16);
    y = exact::add(exact::mul(y, r), 0x1.a01a01abef415p-13);
    y = exact::add(exact::mul(y, r), 0x1.6c16c16c162ccp-10);
    y = exact::add(exact::mul(y, r), 0x1.11111111100cep-7);
    y = exact::add(exact::mul(y, r), 0x1.5555555555556p-5);
    y = exact::add(exact::mul(y, r), 0x1.5555555555557p-3);
    return exact::add(exact::mul(y, r), 0.5);
  }
};

namespace detail {

template <class To, class From>
GCV_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace detail

template <class T>
GCV_HD T exponential(T x) {
  using Of = ExpOf<T>;
  using Bits = typename Of::Bits;
  using Signed = typename Of::Signed;
  const T floored = x < Of::kLeast ? Of::kLeast : x;  // comparisons leave NaN as it is
  const T clamped = floored > Of::kMost ? Of::kMost : floored;
  const T shifted = exact::add(exact::mul(clamped, Of::kPerLn2), Of::kRound);
  const T k = exact::sub(shifted, Of::kRound);
  const T r = exact::sub(exact::sub(clamped, exact::mul(k, Of::kLn2High)), exact::mul(k, Of::kLn2Low));
  const T y = exact::add(exact::add(exact::mul(exact::mul(r, r), Of::polynomial(r)), r), T(1));
  // 2^k in two steps: neither leaves the range of exponents, and a subnormal result is rounded once.
  const auto power = Signed(detail::bits_as<Bits>(shifted) - detail::bits_as<Bits>(Of::kRound));
  const Signed half = power >> 1;
  const T scale1 = detail::bits_as<T>(Bits(half + Of::kBias) << Of::kMantissaBits);
  const T scale2 = detail::bits_as<T>(Bits(power - half + Of::kBias) << Of::kMantissaBits);
  return exact::mul(exact::mul(y, scale1), scale2);
}

namespace detail {

// e^x = scale (1 + rest), for x from kLeastNormal to kMost.
template <class T>
struct ExpParts {
  T scale, rest;
};

template <class T>
GCV_HD ExpParts<T> exp_parts(T x) {
  using Of = ExpOf<T>;
  using Bits = typename Of::Bits;
  const T shifted = exact::add(exact::mul(x, Of::kPerLn2), Of::kRound);
  const T k = exact::sub(shifted, Of::kRound);
  const T r = exact::sub(exact::sub(x, exact::mul(k, Of::kLn2High)), exact::mul(k, Of::kLn2Low));
  // The bits of kRound above k leave the number.
  const Bits power = (bits_as<Bits>(shifted) + Bits(Of::kBias)) << Of::kMantissaBits;
  return {bits_as<T>(power), exact::add(exact::mul(exact::mul(r, r), Of::polynomial(r)), r)};
}

}  // namespace detail

// e^x - 1 for x that is not positive, without the loss where x is small.
template <class T>
GCV_HD T exponential_minus_one(T x) {
  const auto [scale, rest] = detail::exp_parts(x < T(-64) ? T(-64) : x);  // beyond: -1; NaN stays
  return exact::add(exact::mul(rest, scale), exact::sub(scale, T(1)));
}

// e^x for x that is not positive; 0 where it would be subnormal.
template <class T>
GCV_HD T exponential_of_negative(T x) {
  constexpr T least = ExpOf<T>::kLeastNormal;
  const auto [scale, rest] = detail::exp_parts(x < least ? least : x);
  const T y = exact::add(exact::mul(rest, scale), scale);
  return x < least ? T(0) : y;
}

// 1 / (1 + e^-x)
template <class T>
GCV_HD T sigmoid(T x) {
  return exact::div(T(1), exact::add(T(1), exponential(-x)));
}

}  // namespace gcv

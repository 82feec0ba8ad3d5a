// Natural logarithm from operations that no compiler may contract: the same bits on every instruction set and
// GPU. It lies within 1.5 units in the last place of the true value. Loops over it vectorise.
#pragma once

#include "common/exp.h"

namespace gcv {

// Constants of log(2^k m) = k ln 2 + log m, with m in [sqrt(1/2), sqrt(2)): where m's bits begin, ln 2 in two
// pieces, and the polynomial in z of log((1 + s) / (1 - s)) = 2 s + s z P(z), z = s^2 (fdlibm's).
template <class T>
struct LogOf;

template <>
struct LogOf<float> {
  static constexpr uint32_t kRootHalf = 0x3f3504f3;
  static constexpr float kLeastNormal = 0x1p-126f, kLift = 0x1p25f;
  static constexpr float kLn2High = 0x1.62e3p-1f, kLn2Low = 0x1.2fefa2p-17f;

  GCV_HD float polynomial(float z) {
    float y = 0x1.f13c4cp-3f;
    y = exact::add(exact::mul(y, z), 0x1.23d3dcp-2f);
    y = exact::add(exact::mul(y, z), 0x1.999c26p-2f);
    return exact::add(exact::mul(y, z), 0x1.555554p-1f);
  }
};

template <>
struct LogOf<double> {
  static constexpr uint64_t kRootHalf = 0x3fe6a09e00000000;
  static constexpr double kLeastNormal = 0x1p-1022, kLift = 0x1p25;
  static constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;

  GCV_HD double polynomial(double z) {
    double y = 0x1.2f112df3e5244p-3;
    y = exact::add(exact::mul(y, z), 0x1.39a09d078c69fp-3);
    y = exact::add(exact::mul(y, z), 0x1.7466496cb03dep-3);
    y = exact::add(exact::mul(y, z), 0x1.c71c51d8e78afp-3);
    y = exact::add(exact::mul(y, z), 0x1.2492494229359p-2);
    y = exact::add(exact::mul(y, z), 0x1.999999997fa04p-2);
    return exact::add(exact::mul(y, z), 0x1.5555555555593p-1);
  }
};

// -inf of 0, infinity of infinity, NaN of NaN and of what is below 0.
template <class T>
GCV_HD T logarithm(T x) {
  using Of = LogOf<T>;
  using Bits = typename ExpOf<T>::Bits;
  using Signed = typename ExpOf<T>::Signed;
  constexpr int kMantissaBits = ExpOf<T>::kMantissaBits;
  constexpr Bits kOne = Bits(ExpOf<T>::kBias) << kMantissaBits;
  const bool subnormal = x < Of::kLeastNormal;
  const T lifted = subnormal ? exact::mul(x, Of::kLift) : x;
  const Bits bits = detail::bits_as<Bits>(lifted) + (kOne - Of::kRootHalf);
  const auto k = T(Signed(bits >> kMantissaBits) - ExpOf<T>::kBias - (subnormal ? Signed(25) : Signed(0)));
  const T m = detail::bits_as<T>((bits & ((Bits(1) << kMantissaBits) - 1)) + Of::kRootHalf);
  const T f = exact::sub(m, T(1));
  const T s = exact::div(f, exact::add(T(2), f));
  const T z = exact::mul(s, s);
  const T half_square = exact::mul(exact::mul(T(0.5), f), f);
  const T tail = exact::add(exact::mul(s, exact::add(half_square, exact::mul(z, Of::polynomial(z)))),
                            exact::mul(k, Of::kLn2Low));
  const T y = exact::add(exact::add(exact::sub(tail, half_square), f), exact::mul(k, Of::kLn2High));
  constexpr T kInfinity = T(__builtin_inff());
  const T of_special = x == T(0) ? -kInfinity : x == kInfinity ? kInfinity : T(__builtin_nanf(""));
  return x > T(0) && x < kInfinity ? y : of_special;
}

}  // namespace gcv

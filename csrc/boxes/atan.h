// atan(w / h) of a box's sides, with the same bits on every backend and instruction set.
#pragma once

#include <type_traits>
#include <utility>

#include "common/exact.h"

namespace gcv {

// The number type of a lane: V itself where V is no vector.
template <class V, class = void>
struct LaneOf {
  using type = V;
};
template <class V>
struct LaneOf<V, std::enable_if_t<!std::is_arithmetic<V>::value>> {
  using type = std::decay_t<decltype(std::declval<V>()[0])>;
};
template <class V>
using Lane = typename LaneOf<V>::type;

// atan(t) = t + t z P(z) with z = t^2, for |t| up to tan(pi / 8).
template <class T>
struct AtanOf;

template <>
struct AtanOf<float> {
  static constexpr float kQuarterPi = 0x1.921fb6p-1f, kQuarterPiRest = -0x1.777a5cp-26f;

  template <class V>
  GCV_HD V polynomial(V z) {
    V y = z * -0x1.f1ed7ep-5f + 0x1.b1ec2ep-4f;
    y = y * z + -0x1.23b522p-3f;
    y = y * z + 0x1.999196p-3f;
    return y * z + -0x1.55554ap-2f;
  }
};

template <>
struct AtanOf<double> {
  static constexpr double kQuarterPi = 0x1.921fb54442d18p-1, kQuarterPiRest = 0x1.1a62633145c07p-55;

  template <class V>
  GCV_HD V polynomial(V z) {
    V y = z * -0x1.255b2335b5a92p-6 + 0x1.37ce11f49fbc1p-5;
    y = y * z + -0x1.9ccf78da6c4a1p-5;
    y = y * z + 0x1.df0e7eae61036p-5;
    y = y * z + -0x1.10eba8abb3fb4p-4;
    y = y * z + 0x1.3b111792615d3p-4;
    y = y * z + -0x1.745cf8c348919p-4;
    y = y * z + 0x1.c71c70e50c99ep-4;
    y = y * z + -0x1.24924922aa495p-3;
    y = y * z + 0x1.99999999957ccp-3;
    return y * z + -0x1.555555555553dp-2;
  }
};

// One division: the quotient of the sides is never formed. With the shorter side s and the longer side l,
// atan(s / l) = pi / 4 + atan((s - l) / (s + l)), and the other angle is the complement to pi / 2.
// Two sides of 0, or two infinite ones, give NaN, as the quotient would.
template <class V>
GCV_HD V atan_of_ratio(V w, V h) {
  using T = Lane<V>;
  using Of = AtanOf<T>;
  const V zero{};
  const V one = zero + T(1);
  const V width = w < zero ? -w : w;
  const V height = h < zero ? -h : h;
  const V s = width < height ? width : height;
  const V l = width < height ? height : width;
  const auto steep = s > l * T(0x1.a827ap-2);  // tan(pi / 8)
  const V t = exact::div(steep ? s - l : s, steep ? s + l : l);
  const V z = t * t;
  // In quarters of pi: what the small angle is added to, or with a sign, taken from.
  const V quarters = steep ? one : (width > height ? one + one : zero);
  const V small = width > height ? -t : t;
  const V rest = small * z * Of::polynomial(z) + quarters * Of::kQuarterPiRest;
  const V angle = quarters * Of::kQuarterPi + (small + rest);
  return (w < zero) == (h < zero) ? angle : -angle;
}

}  // namespace gcv

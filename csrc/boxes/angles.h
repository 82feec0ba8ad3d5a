// Cosine, sine and direction of angles in degrees. In float from operations that no compiler may contract:
// within 2 units in the last place or so for any angle, the same bits on every instruction set and GPU; loops
// over them vectorise. In double by the mathematics library.
#pragma once

#include <math.h>

#include "common/exact.h"
#include "common/exp.h"

namespace gcv {

constexpr double kPi = 3.14159265358979323846;

template <class T>
struct Rotation {
  T cos, sin;
};

GCV_HD float square_root(float x) { return ::sqrtf(x); }
GCV_HD double square_root(double x) { return ::sqrt(x); }

template <class T>
GCV_HD T radians(T degrees) {
  return degrees * T(kPi) / T(180);
}

template <class T>
GCV_HD T multiply_add(T a, T b, T c) {
  return exact::add(exact::mul(a, b), c);
}

// Of x in radians, |x| <= pi / 4.
GCV_HD Rotation<float> small_rotation(float x) {
  const float z = exact::mul(x, x);
  const float s = multiply_add(multiply_add(-0x1.994388p-13f, z, 0x1.11073ap-7f), z, -0x1.555546p-3f);
  const float c = multiply_add(multiply_add(0x1.99eb4ap-16f, z, -0x1.6c0c32p-10f), z, 0x1.55554ap-5f);
  return {exact::add(exact::sub(1.0f, exact::mul(0.5f, z)), exact::mul(exact::mul(z, z), c)),
          exact::add(x, exact::mul(exact::mul(x, z), s))};
}

constexpr float kRoundToInteger = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits

GCV_HD float power_of_two(int exponent) { return detail::bits_as<float>(uint32_t(exponent + 127) << 23); }

// Without whole turns of 360 * 2^k, for which the angle is small enough: every product and difference is
// exact.
GCV_HD float without_turns(float degrees, int k) {
  const float turns = exact::mul(power_of_two(k), 360.0f);
  const float ratio = exact::mul(degrees, exact::mul(power_of_two(-k), 1 / 360.0f));
  const float count = exact::sub(exact::add(ratio, kRoundToInteger), kRoundToInteger);
  return exact::sub(degrees, exact::mul(count, turns));
}

// The largest turns first.
template <int... kPowers>
GCV_HD float without_all_turns(float degrees) {
  ((degrees = without_turns(degrees, kPowers)), ...);
  return degrees;
}

GCV_HD Rotation<float> rotation(float degrees) {
  const float rest = without_all_turns<103, 86, 69, 52, 35, 18, 1>(degrees);
  const float shifted = multiply_add(rest, 1 / 90.0f, kRoundToInteger);
  const float angle = exact::sub(rest, exact::mul(exact::sub(shifted, kRoundToInteger), 90.0f));
  const Rotation<float> r = small_rotation(exact::mul(angle, float(kPi / 180)));
  const auto quarters = detail::bits_as<uint32_t>(shifted);
  const float cosine = quarters & 1 ? r.sin : r.cos, sine = quarters & 1 ? r.cos : r.sin;
  return {(quarters + 1) & 2 ? -cosine : cosine, quarters & 2 ? -sine : sine};
}

GCV_HD Rotation<double> rotation(double degrees) {
  const double angle = radians(degrees);
  return {::cos(angle), ::sin(angle)};
}

// Of t in [0, 1].
GCV_HD float arc_tangent(float t) {
  const float z = exact::mul(t, t);
  float y = -0x1.d62ffcp-10f;
  y = multiply_add(y, z, 0x1.65a662p-7f);
  y = multiply_add(y, z, -0x1.fed166p-6f);
  y = multiply_add(y, z, 0x1.dac9e6p-5f);
  y = multiply_add(y, z, -0x1.583492p-4f);
  y = multiply_add(y, z, 0x1.c099fep-4f);
  y = multiply_add(y, z, -0x1.2421b6p-3f);
  y = multiply_add(y, z, 0x1.9991fep-3f);
  y = multiply_add(y, z, -0x1.55553ep-2f);
  return exact::add(t, exact::mul(exact::mul(t, z), y));
}

// atan2(y, x) in degrees.
GCV_HD float direction(float y, float x) {
  const float width = ::fabsf(x), height = ::fabsf(y);
  const bool steep = height > width;
  const float small = steep ? width : height, large = steep ? height : width;
  const float ratio = exact::div(small, large);
  const float defined = small == large ? (large > 0 ? 1.0f : 0.0f) : ratio;  // 0 / 0 and infinity / infinity
  const float first = exact::mul(arc_tangent(defined), float(180 / kPi));
  const float upper = steep ? exact::sub(90.0f, first) : first;
  const float half = ::copysignf(1.0f, x) < 0 ? exact::sub(180.0f, upper) : upper;
  return x == x && y == y ? ::copysignf(half, y) : exact::add(x, y);
}

GCV_HD double direction(double y, double x) { return ::atan2(y, x) * 180 / kPi; }

}  // namespace gcv

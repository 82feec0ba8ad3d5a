// Natural logarithm. In float from operations that no compiler may contract: the same bits on every
// instruction set and GPU, within 1.2 units in the last place of the true value; loops over it vectorise.
#pragma once

#include <math.h>

#include "common/exact.h"
#include "common/exp.h"

namespace gcv {

// The minimax polynomial (log(1 + f) - f + f^2 / 2) / f^3 for 1 + f between the roots of 1/2 and 2.
GCV_HD float log_polynomial(float f) {
  float y = -0x1.38b576p-4f;
  y = exact::add(exact::mul(y, f), 0x1.055b68p-3f);
  y = exact::add(exact::mul(y, f), -0x1.0d8542p-3f);
  y = exact::add(exact::mul(y, f), 0x1.22da1ep-3f);
  y = exact::add(exact::mul(y, f), -0x1.547244p-3f);
  y = exact::add(exact::mul(y, f), 0x1.99a008p-3f);
  y = exact::add(exact::mul(y, f), -0x1.000226p-2f);
  return exact::add(exact::mul(y, f), 0x1.555554p-2f);
}

GCV_HD float logarithm(float x) {
  constexpr uint32_t kRootHalf = 0x3f3504f3;                           // the bits of sqrt(1/2)
  constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;  // k * kLn2High is exact
  const bool tiny = x < 0x1p-126f;
  const float normal = tiny ? exact::mul(x, 0x1p23f) : x;
  // x = 2^k (1 + f)
  const uint32_t above = detail::bits_as<uint32_t>(normal) - kRootHalf;
  const float k = exact::sub(float(int32_t(above) >> 23), tiny ? 23.0f : 0.0f);
  const float f = exact::sub(detail::bits_as<float>((above & 0x007fffff) + kRootHalf), 1.0f);
  const float square = exact::mul(f, f);
  const float low = exact::add(exact::mul(exact::mul(square, f), log_polynomial(f)), exact::mul(k, kLn2Low));
  const float high = exact::add(f, exact::sub(low, exact::mul(0.5f, square)));
  const float finite = exact::add(high, exact::mul(k, kLn2High));
  const float positive = x < INFINITY ? finite : x;  // infinity and NaN are their own logarithms
  return x > 0 ? positive : x == 0 ? -INFINITY : exact::add(x, NAN);
}

GCV_HD double logarithm(double x) { return ::log(x); }

}  // namespace gcv

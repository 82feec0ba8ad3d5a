// Logits as unsigned integers of the same order, which a radix select goes by.
#pragma once

#include <string.h>

#include "common/dtype.h"

namespace gcv {

// The type that a logit of an element type is computed in has `kSpareBits` that say nothing about it.
template <class Element>
struct LogitKey {
  using Bits = uint32_t;
  static constexpr int kSpareBits = 0;
};
template <>
struct LogitKey<double> {
  using Bits = uint64_t;
  static constexpr int kSpareBits = 0;
};
template <>
struct LogitKey<Half> {
  using Bits = uint32_t;
  static constexpr int kSpareBits = 13;
};
template <>
struct LogitKey<BFloat16> {
  using Bits = uint32_t;
  static constexpr int kSpareBits = 16;
};

template <class Element>
using KeyOf = typename LogitKey<Element>::Bits;

template <class Element>
constexpr int kKeyBits = 8 * int(sizeof(KeyOf<Element>)) - LogitKey<Element>::kSpareBits;

// The larger the logit the larger its key; -0 equals +0, and every NaN is the largest. No logit has key 0.
template <class Element>
GCV_HD KeyOf<Element> logit_key(typename Compute<Element>::type logit) {
  using Bits = KeyOf<Element>;
  constexpr Bits sign = Bits(1) << (8 * sizeof(Bits) - 1);
  Bits bits;
  memcpy(&bits, &logit, sizeof bits);
  bits = (bits & sign) != 0 ? ~bits : bits | sign;
  if (logit == 0) bits = sign;
  if (logit != logit) bits = ~Bits(0);
  return bits >> LogitKey<Element>::kSpareBits;
}

}  // namespace gcv

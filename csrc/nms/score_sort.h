// Stable radix sort of indices by score, highest first: the order of torch.sort(stable=True,
// descending=True).
#pragma once

#include <cstdint>
#include <cstring>

#include "common/dtype.h"

namespace gcv {
namespace {

inline constexpr int kDigitBits = 8;
inline constexpr int kDigitValues = 1 << kDigitBits;

// Unsigned keys whose ascending order is the scores' descending order: NaN first, -0 equal to +0.
GCV_HD uint32_t descending_key(float score) {
  if (score != score) return 0;
  score += 0.0f;
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

GCV_HD uint64_t descending_key(double score) {
  if (score != score) return 0;
  score += 0.0;
  uint64_t bits;
  memcpy(&bits, &score, sizeof bits);
  return bits >> 63 ? bits : ~(bits | uint64_t(1) << 63);
}

template <class T>
using ScoreKey = decltype(descending_key(T()));

template <class Key>
struct KeyIndex {
  Key key;
  uint32_t index;
};

template <class Key>
bool is_sorted(const KeyIndex<Key>* items, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    if (items[i].key < items[i - 1].key) return false;
  }
  return true;
}

// Sorts ascending by key, stable, with `scratch` of the same size; returns whichever array holds the result.
template <class Key>
KeyIndex<Key>* radix_sort(KeyIndex<Key>* items, KeyIndex<Key>* scratch, int64_t n) {
  if (is_sorted(items, n)) return items;
  constexpr int kDigits = int(sizeof(Key)) * 8 / kDigitBits;
  uint32_t counts[kDigits][kDigitValues] = {};
  for (int64_t i = 0; i < n; ++i) {
    for (int d = 0; d < kDigits; ++d) ++counts[d][uint8_t(items[i].key >> (d * kDigitBits))];
  }
  for (int d = 0; d < kDigits; ++d) {
    const int shift = d * kDigitBits;
    if (counts[d][uint8_t(items[0].key >> shift)] == n) continue;  // one digit in all keys
    uint32_t position = 0;
    for (uint32_t& count : counts[d]) {
      const uint32_t here = count;
      count = position;
      position += here;
    }
    for (int64_t i = 0; i < n; ++i) scratch[counts[d][uint8_t(items[i].key >> shift)]++] = items[i];
    KeyIndex<Key>* const sorted = scratch;
    scratch = items;
    items = sorted;
  }
  return items;
}

}  // namespace
}  // namespace gcv

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

// The inverse of descending_key, but for the signs of zero and NaN.
GCV_HD float score_of_key(uint32_t key) {
  return float_from_bits(key & 0x80000000u ? key : ~key & 0x7fffffffu);
}

GCV_HD double score_of_key(uint64_t key) {
  constexpr uint64_t sign = uint64_t(1) << 63;
  const uint64_t bits = key & sign ? key : ~key & ~sign;
  double score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

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

// Items in ascending order of key, stable, sorted only as far as they are asked for: a caller that stops
// early pays for one pass over all items and for sorting the first few hundred.
template <class Key>
class SortedOnDemand {
 public:
  SortedOnDemand(KeyIndex<Key>* items, KeyIndex<Key>* scratch, int64_t n)
      : items_(items), scratch_(scratch), n_(n) {
    if (n <= kAtOnce || is_sorted(items, n)) {
      items_ = radix_sort(items, scratch, n);
      ready_ = n;
    } else {
      distribute();
    }
  }

  // Positions must be asked for in order.
  uint32_t operator[](int64_t position) { return item(position).index; }

  const KeyIndex<Key>& item(int64_t position) {
    if (position >= ready_) sort_more();
    return items_[position];
  }

 private:
  static constexpr int64_t kAtOnce = 512;
  static constexpr int kBits = 11;
  static constexpr int kShift = int(sizeof(Key)) * 8 - kBits;

  void distribute() {
    uint32_t counts[1 << kBits] = {};
    for (int64_t i = 0; i < n_; ++i) ++counts[items_[i].key >> kShift];
    uint32_t position = 0;
    for (uint32_t& count : counts) {
      const uint32_t here = count;
      count = position;
      position += here;
    }
    for (int64_t i = 0; i < n_; ++i) scratch_[counts[items_[i].key >> kShift]++] = items_[i];
    KeyIndex<Key>* const distributed = scratch_;
    scratch_ = items_;
    items_ = distributed;
  }

  void sort_more() {
    int64_t end = ready_;
    while (end < n_ && (end - ready_ < kAtOnce || items_[end].key >> kShift == items_[end - 1].key >> kShift))
      ++end;
    KeyIndex<Key>* const begin = items_ + ready_;
    const KeyIndex<Key>* sorted = radix_sort(begin, scratch_ + ready_, end - ready_);
    if (sorted != begin) memcpy(begin, sorted, size_t(end - ready_) * sizeof(*begin));
    ready_ = end;
  }

  KeyIndex<Key>*items_, *scratch_;
  int64_t n_, ready_ = 0;
};

}  // namespace
}  // namespace gcv

// The best logits of a level, found in one pass over memory: a sample guesses a threshold, whole vectors
// below it are passed over, and what is left is sorted. The guess decides nothing but the time.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "common/dtype_arrays.h"
#include "common/simd.h"
#include "common/workspace.h"
#include "nms/score_sort.h"
#include "rpn/rpn.h"

namespace gcv {
namespace {

// Moves the `count` items of the lowest keys to the front, among equal keys those that come first; equal keys
// stay in order. Digit by digit from the top, looking on only at the items whose digit straddles the border.
template <class Key>
void keep_lowest(KeyIndex<Key>* items, KeyIndex<Key>* scratch, int64_t n, int64_t count) {
  int64_t kept = 0;  // items [kept, n) are undecided
  for (int shift = int(sizeof(Key)) * 8 - kDigitBits; shift >= 0 && n > count; shift -= kDigitBits) {
    int64_t counts[kDigitValues] = {};
    for (int64_t i = kept; i < n; ++i) ++counts[uint8_t(items[i].key >> shift)];
    int border = 0;
    for (int64_t below = kept; below + counts[border] < count; ++border) below += counts[border];
    int64_t straddling = 0;
    for (int64_t i = kept; i < n; ++i) {
      const int digit = uint8_t(items[i].key >> shift);
      if (digit < border) items[kept++] = items[i];
      if (digit == border) scratch[straddling++] = items[i];
    }
    memcpy(items + kept, scratch, size_t(straddling) * sizeof(*items));
    n = kept + straddling;
  }
}

// A level's logits in one image as rows of cells with anchors, in the order of their indices; with as few and
// as long rows as the strides allow.
template <class Element>
struct LogitRows {
  const Element* first;
  int64_t rows, cells, anchors;
  int64_t row_stride, cell_stride, anchor_stride;

  LogitRows(const RpnLevel& level, int64_t image) {
    const int64_t* s = level.objectness_strides;
    first = static_cast<const Element*>(level.objectness) + image * s[0];
    rows = level.height, cells = level.width, anchors = level.anchors;
    row_stride = s[2], cell_stride = s[3], anchor_stride = s[1];
    if (cells == 1) cell_stride = row_stride;
    if (cells == 1 || rows == 1 || row_stride == cells * cell_stride) {
      cells *= rows;
      rows = 1;
    }
    if (anchor_stride == 1 && cell_stride == anchors) {
      cells *= anchors;
      anchors = cell_stride = 1;
    }
  }

  int64_t size() const { return rows * cells * anchors; }
};

inline constexpr int kBlock = 64;  // cells, a bit for each

// One bit for each of `count` logits: is it NaN or not below the threshold?
template <class Element, class T>
uint64_t not_below(const Element* logits, int64_t stride, int count, T threshold) {
  T widened[kBlock];
  const T* block = widened;
  if constexpr (std::is_same<Element, T>::value) {
    if (stride == 1 && count == kBlock) block = logits;
  }
  if (block == widened && stride == 1) {
    widen_all(logits, count, widened);
  } else if (block == widened) {
    for (int i = 0; i < count; ++i) widened[i] = widen(logits[i * stride]);
  }
  uint64_t below = 0;
  for (int i = 0; i < kBlock; i += kLanes<T>)
    below |= uint64_t(lane_bits(load(block + i) < splat(threshold))) << i;
  return ~below & ~uint64_t(0) >> (kBlock - count);
}

template <class Element>
class BestLogits {
  using T = typename Compute<Element>::type;

 public:
  using Item = KeyIndex<ScoreKey<T>>;

  BestLogits() = default;

  BestLogits(const RpnParams& p, Workspace& w) {
    for (int64_t l = 0; l < p.level_count; ++l) {
      const RpnLevel& level = p.levels[l];
      capacity_ = larger(capacity_, capacity(level));
      most_anchors_ = larger(most_anchors_, level.anchors);
    }
    items_ = w.take<Item>(capacity_);
    scratch_ = w.take<Item>(capacity_);
    masks_ = w.take<uint64_t>(most_anchors_);
  }

  // The indices and keys of the level's best level.selected logits, in order.
  Item* find(const RpnLevel& level, int64_t image) {
    const LogitRows<Element> logits(level, image);
    int64_t found = collect(logits, level, guess(logits, level.selected));
    if (found < level.selected) found = collect(logits, level, -std::numeric_limits<T>::infinity());
    if (found > 2 * level.selected) {
      keep_lowest(items_, scratch_, found, level.selected);
      found = level.selected;
    }
    return radix_sort(items_, scratch_, found);
  }

  // The array of find that does not hold its result.
  Item* other(const Item* result) const { return result == items_ ? scratch_ : items_; }

 private:
  static constexpr int64_t kSample = 4096;

  static int64_t capacity(const RpnLevel& level) {
    const int64_t enough = 4 * level.selected + 1024, all = rpn_size(level);
    return larger(kSample, smaller(enough, all) + kBlock * level.anchors);
  }

  // A threshold that a little more than `count` logits reach, most likely.
  T guess(const LogitRows<Element>& logits, int64_t count) {
    const int64_t n = logits.size(), sample = smaller(kSample, n / 4);
    const double expected = double(count) / double(n) * double(sample);
    const double rank = expected + 4 * __builtin_sqrt(expected) + 4;
    if (!(rank < double(sample) / 2)) return -std::numeric_limits<T>::infinity();
    const int64_t step = n / sample;
    const Element* row = logits.first;
    int64_t anchor = 0, cell = 0;
    for (int64_t i = 0; i < sample; ++i) {
      items_[i].key = descending_key(widen(row[anchor * logits.anchor_stride + cell * logits.cell_stride]));
      for (cell += step; cell >= logits.cells; cell -= logits.cells) {
        if (++anchor < logits.anchors) continue;
        anchor = 0;
        row += logits.row_stride;
      }
    }
    keep_lowest(items_, scratch_, sample, int64_t(rank));
    auto highest = items_[0].key;
    for (int64_t i = 1; i < int64_t(rank); ++i) highest = larger(highest, items_[i].key);
    return threshold_of(highest);
  }

  static T threshold_of(ScoreKey<T> key) {
    const T score = score_of_key(key);
    return score == score ? score : std::numeric_limits<T>::infinity();
  }

  // Writes the logits that reach the threshold in the order of their indices; returns how many. Those that
  // cannot be among the best any more are thrown out whenever the array is full.
  int64_t collect(const LogitRows<Element>& logits, const RpnLevel& level, T threshold) {
    const int64_t room = kBlock * logits.anchors;
    int64_t found = 0;
    for (int64_t row = 0; row < logits.rows; ++row) {
      for (int64_t cell = 0; cell < logits.cells; cell += kBlock) {
        if (found + room > capacity_) {
          keep_lowest(items_, scratch_, found, level.selected);
          found = level.selected;
        }
        found += collect_block(logits, row, cell, threshold, items_ + found);
      }
    }
    return found;
  }

  int64_t collect_block(const LogitRows<Element>& logits, int64_t row, int64_t cell, T threshold,
                        Item* out) const {
    const Element* block = logits.first + row * logits.row_stride + cell * logits.cell_stride;
    const int count = int(smaller<int64_t>(kBlock, logits.cells - cell));
    uint64_t any_anchor = 0;
    for (int64_t a = 0; a < logits.anchors; ++a) {
      masks_[a] = not_below(block + a * logits.anchor_stride, logits.cell_stride, count, threshold);
      any_anchor |= masks_[a];
    }
    int64_t found = 0;
    for (; any_anchor; any_anchor &= any_anchor - 1) {
      const int i = __builtin_ctzll(any_anchor);
      const int64_t index = ((row * logits.cells) + cell + i) * logits.anchors;
      for (int64_t a = 0; a < logits.anchors; ++a) {
        const T logit = widen(block[a * logits.anchor_stride + i * logits.cell_stride]);
        out[found] = {descending_key(logit), uint32_t(index + a)};
        found += masks_[a] >> i & 1;
      }
    }
    return found;
  }

  Item *items_, *scratch_;
  uint64_t* masks_;
  int64_t capacity_ = 0, most_anchors_ = 0;
};

}  // namespace
}  // namespace gcv

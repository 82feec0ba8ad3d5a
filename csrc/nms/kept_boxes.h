// The boxes kept so far, and the question that greedy suppression asks: does one of them overlap this box too
// much?
//
// IoU > t bounds how far apart two boxes can lie and how unlike in size: along each axis the overlap of the
// two sides is more than t of their union. So kept boxes are filed by size octave and, within it, by a grid
// whose cells are as large as the octave's largest box; a box looks only into the few cells that the bounds
// allow. Cells are buckets of a hash table: a collision costs a needless look and changes nothing, since
// every look ends in the exact rule.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>

#include "common/box.h"
#include "common/float_bits.h"
#include "common/simd.h"
#include "common/workspace.h"

namespace gcv {
namespace {

// Up to this many kept boxes, looking at all of them is faster than hashing.
inline constexpr int64_t kIndexFrom = 192;
// At least the lanes of any vector: whole vectors are read past the last box.
inline constexpr int kPadding = 16;

// Size octaves. Boxes beyond either end share the last level; the bounds stay true, they only prune less.
inline constexpr int kLevels = 128;
inline constexpr int kLowestExponent = -64;

template <class T>
GCV_HD int level_of(T size) {
  using Traits = FloatTraits<T>;
  typename Traits::Bits bits;
  memcpy(&bits, &size, sizeof bits);
  const int level = int(bits >> Traits::kMantissa) - Traits::kBias - kLowestExponent;
  return level < 0 ? 0 : level >= kLevels ? kLevels - 1 : level;
}

// 2^-(exponent + 1): the inverse of the side of a cell, exact.
template <class T>
GCV_HD T inverse_side(int level) {
  using Traits = FloatTraits<T>;
  const auto bits = typename Traits::Bits(Traits::kBias - (level + kLowestExponent + 1)) << Traits::kMantissa;
  T value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Clamping is monotone, so a window of cells still covers every cell that it should.
template <class T>
GCV_HD int32_t cell_of(T coordinate, T inverse) {
  const T limit = T(1 << 30);
  const T scaled = smaller(larger(coordinate * inverse, -limit), limit);
  const auto truncated = int32_t(scaled);
  return truncated - (T(truncated) > scaled);
}

struct Cell {
  uint32_t first, last;
};

// Memory for the kept boxes among n candidates.
template <class T>
struct KeptArrays {
  T *x1, *y1, *x2, *y2, *area;  // [n + kPadding]
  Cell* cells;                  // [2 n], of which cell_count(n) are used
  uint32_t* cell_of_box;        // [n]

  static KeptArrays carve(Workspace& w, int64_t n, int64_t places) {
    KeptArrays a;
    for (T** array : {&a.x1, &a.y1, &a.x2, &a.y2, &a.area}) *array = w.take<T>(places);
    a.cells = w.take<Cell>(2 * n);
    a.cell_of_box = w.take<uint32_t>(n);
    return a;
  }

  // For some of the candidates: from `candidate` on, whose boxes have the places from `place` on.
  KeptArrays slice(int64_t candidate, int64_t place) const {
    return {x1 + place,
            y1 + place,
            x2 + place,
            y2 + place,
            area + place,
            cells + 2 * candidate,
            cell_of_box + candidate};
  }

  static int64_t cell_count(int64_t n) {
    int64_t count = 1;
    while (count < n) count *= 2;
    return count;
  }
};

template <class T>
class KeptBoxes {
 public:
  KeptBoxes() = default;

  // `boxes`: the n candidates, in the order in which they will be offered; at most `most` of them will be
  // added.
  KeptBoxes(const KeptArrays<T>& arrays, const Box<T>* boxes, int64_t n, int64_t most, double iou_threshold)
      : a_(arrays),
        boxes_(boxes),
        n_(n),
        threshold_(floor_to<T>(iou_threshold)),
        prunes_(iou_threshold >= 0) {
    const double t = iou_threshold < 1 ? iou_threshold * 0.999 : 0.999;  // the margin covers all rounding
    least_ratio_ = t > 1e-6 ? T(t) : T(0);
    reach_ = T((1 - t) / (1 + t) * 1.0001);
    likely_ = iou_threshold > FloatTraits<T>::kSmallArea ? T(iou_threshold * 0.999) : T(0);
    clear(prunes_ && most > kIndexFrom ? kIndexFrom : most);
  }

  // `candidate`: the position among the candidates, which must be offered in order.
  bool suppresses(const Box<T>& box, T box_area, int64_t candidate) const {
    if (prunes_ && !can_overlap(box, box_area)) return false;
    return hashed_ ? search(box, box_area, candidate) : any_suppresses(box, box_area, 0, count_);
  }

  // Asks memory for what the candidates soon to come will look at: their cells lie anywhere.
  void prefetch(int64_t candidate) const {
    if (!hashed_ || candidate + 2 * kAhead >= n_) return;
    __builtin_prefetch(a_.cells + a_.cell_of_box[candidate + 2 * kAhead]);
    const uint32_t place = a_.cells[a_.cell_of_box[candidate + kAhead]].first;
    for (const T* array : {a_.x1, a_.y1, a_.x2, a_.y2, a_.area}) __builtin_prefetch(array + place);
  }

  void add(const Box<T>& box, T box_area, int64_t candidate) {
    if (prunes_ && !can_overlap(box, box_area)) return;
    if (hashed_) {
      file(box, box_area, a_.cell_of_box[candidate]);
      return;
    }
    put(count_++, box, box_area);
    if (prunes_ && count_ == kIndexFrom) build_index(candidate + 1);
  }

 private:
  static constexpr int64_t kAhead = 8;

  static T longer_side(const Box<T>& b) { return larger(b.x2 - b.x1, b.y2 - b.y1); }

  uint32_t hash(int level, int32_t x, int32_t y) const {
    // Neighbouring cells of 8 x 8 blocks share memory lines.
    uint32_t block =
        uint32_t(x >> 3) * 0x9e3779b1u ^ uint32_t(y >> 3) * 0x85ebca77u ^ uint32_t(level) * 0xc2b2ae3du;
    block ^= block >> 15;
    return (block << 6 | uint32_t(y & 7) << 3 | uint32_t(x & 7)) & cell_mask_;
  }

  uint32_t cell_index(const Box<T>& b) const {
    const int level = level_of(longer_side(b));
    const T inverse = inverse_side<T>(level);
    return hash(level, cell_of(b.x1 / 2 + b.x2 / 2, inverse), cell_of(b.y1 / 2 + b.y2 / 2, inverse));
  }

  void put(int64_t place, const Box<T>& box, T box_area) {
    a_.x1[place] = box.x1;
    a_.y1[place] = box.y1;
    a_.x2[place] = box.x2;
    a_.y2[place] = box.y2;
    a_.area[place] = box_area;
  }

  void file(const Box<T>& box, T box_area, uint32_t cell) {
    put(a_.cells[cell].last++, box, box_area);
    const int level = level_of(longer_side(box));
    used_[level / 64] |= uint64_t(1) << (level % 64);
  }

  // NaN: an empty place suppresses nothing.
  void clear(int64_t places) { memset(a_.area, 0xff, size_t(places + kPadding) * sizeof(T)); }

  // Moves the boxes kept so far into cells that have room for them and for every candidate still to come.
  void build_index(int64_t next) {
    Box<T> kept[kIndexFrom];
    for (int64_t i = 0; i < kIndexFrom; ++i) kept[i] = {a_.x1[i], a_.y1[i], a_.x2[i], a_.y2[i]};
    const int64_t cell_count = KeptArrays<T>::cell_count(n_);
    cell_mask_ = uint32_t(cell_count - 1);
    memset(a_.cells, 0, size_t(cell_count) * sizeof(Cell));
    for (const Box<T>& box : kept) ++a_.cells[cell_index(box)].last;
    for (int64_t i = next; i < n_; ++i) {
      a_.cell_of_box[i] = 0;
      if (!can_overlap(boxes_[i], area(boxes_[i]))) continue;
      a_.cell_of_box[i] = cell_index(boxes_[i]);
      ++a_.cells[a_.cell_of_box[i]].last;
    }
    uint32_t place = 0;
    for (int64_t c = 0; c < cell_count; ++c) {
      const uint32_t boxes_here = a_.cells[c].last;
      a_.cells[c] = {place, place};
      place += boxes_here;
    }
    clear(n_);
    hashed_ = true;
    for (const Box<T>& box : kept) file(box, area(box), cell_index(box));
  }

  bool any_suppresses(const Box<T>& box, T box_area, int64_t begin, int64_t end) const {
    using V = Simd<T>;
    const Box<V> other{splat(box.x1), splat(box.y1), splat(box.x2), splat(box.y2)};
    const V other_area = splat(box_area), likely = splat(likely_), threshold = splat(threshold_);
    for (int64_t k = begin; k < end; k += kLanes<T>) {
      const Box<V> kept{load(a_.x1 + k), load(a_.y1 + k), load(a_.x2 + k), load(a_.y2 + k)};
      const V inter = intersection(kept, other);
      const V both = union_area(load(a_.area + k), other_area, inter);
      // A product screens; the division, which is slow, decides.
      if (prunes_ && !any(inter >= likely * both)) continue;
      if (any(exact::div(inter, both) > threshold)) return true;
    }
    return false;
  }

  bool search(const Box<T>& box, T box_area, int64_t candidate) const {
    // Most often it is a box of about the same size and place that suppresses.
    const Cell own = a_.cells[a_.cell_of_box[candidate]];
    if (any_suppresses(box, box_area, own.first, own.last)) return true;
    const T w = box.x2 - box.x1, h = box.y2 - box.y1, size = larger(w, h);
    const T least = box_area >= FloatTraits<T>::kSmallArea ? least_ratio_ : T(0);
    const T reach = least > 0 ? reach_ : T(1.0001);
    const T most = size / least;
    const T x = box.x1 / 2 + box.x2 / 2, y = box.y1 / 2 + box.y2 / 2;
    const T slack_x = rounding(box.x1, box.x2), slack_y = rounding(box.y1, box.y2);
    const int last = least > 0 ? level_of(most) : kLevels - 1;
    for (int level = level_of(size * least); level <= last; ++level) {
      if (!(used_[level / 64] >> (level % 64) & 1)) continue;
      const T inverse = inverse_side<T>(level);
      const T largest = level == kLevels - 1 ? most : smaller(1 / inverse, most);
      const T dx = (smaller(w / least, largest) + w) / 2 * reach + slack_x;
      const T dy = (smaller(h / least, largest) + h) / 2 * reach + slack_y;
      const int64_t x0 = cell_of(x - dx, inverse), x1 = cell_of(x + dx, inverse);
      const int64_t y0 = cell_of(y - dy, inverse), y1 = cell_of(y + dy, inverse);
      if (double(x1 - x0 + 1) * double(y1 - y0 + 1) * kLanes<T> > double(n_))
        return any_suppresses(box, box_area, 0, n_);
      for (int64_t cy = y0; cy <= y1; ++cy) {
        for (int64_t cx = x0; cx <= x1; ++cx) {
          const Cell cell = a_.cells[hash(level, int32_t(cx), int32_t(cy))];
          if (any_suppresses(box, box_area, cell.first, cell.last)) return true;
        }
      }
    }
    return false;
  }

  static T rounding(T low, T high) {
    using Limits = std::numeric_limits<T>;
    return 4 * Limits::epsilon() * larger(larger(low, -low), larger(high, -high)) + Limits::min();
  }

  KeptArrays<T> a_;
  const Box<T>* boxes_;
  int64_t n_;
  int64_t count_ = 0;
  T threshold_, likely_, least_ratio_, reach_;
  bool prunes_, hashed_ = false;
  uint32_t cell_mask_ = 0;
  uint64_t used_[kLevels / 64] = {};
};

}  // namespace
}  // namespace gcv

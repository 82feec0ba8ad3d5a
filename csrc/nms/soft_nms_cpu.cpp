// Soft-NMS on the CPU.
#include <cmath>
#include <initializer_list>

#include "common/simd.h"
#include "common/workspace.h"
#include "nms/box_input.h"
#include "nms/kept_boxes.h"
#include "nms/nms.h"
#include "nms/score_sort.h"

namespace gcv {

template <>
struct ExpTraits<Simd<float>> {
  using Scalar = float;
  using Bits = Simd<uint32_t>;
};
template <>
struct ExpTraits<Simd<double>> {
  using Scalar = double;
  using Bits = Simd<uint64_t>;
};

namespace GCV_ISA {
namespace {

inline constexpr int kBlock = 64;  // boxes per block, a multiple of every vector's lanes

// Boxes along a space-filling curve, cut into blocks: a selected box meets only the few blocks that it
// overlaps, and the next highest score is sought among the blocks' highest.
template <class T>
struct Blocks {
  T *x1, *y1, *x2, *y2, *area, *score;       // [count * kBlock]
  uint32_t* index;                           // [count * kBlock] box index
  T *left, *top, *right, *bottom, *highest;  // [count, rounded up to whole vectors]
  KeyIndex<uint32_t>*curve, *scratch;        // [n]
  int64_t count, padded;
  size_t bytes;

  static Blocks carve(const SoftNmsParams& p, void* base) {
    Blocks b;
    b.count = (p.n + kBlock - 1) / kBlock;
    b.padded = (b.count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    Workspace w(base);
    for (T** array : {&b.x1, &b.y1, &b.x2, &b.y2, &b.area, &b.score}) *array = w.take<T>(b.count * kBlock);
    b.index = w.take<uint32_t>(b.count * kBlock);
    for (T** array : {&b.left, &b.top, &b.right, &b.bottom, &b.highest}) *array = w.take<T>(b.padded);
    b.curve = w.take<KeyIndex<uint32_t>>(p.n);
    b.scratch = w.take<KeyIndex<uint32_t>>(p.n);
    b.bytes = w.used();
    return b;
  }

  Box<T> box(int64_t i) const { return {x1[i], y1[i], x2[i], y2[i]}; }
};

// Puts the low 16 bits at the even places.
GCV_HD uint32_t spread_bits(uint32_t x) {
  x = (x | x << 8) & 0x00ff00ff;
  x = (x | x << 4) & 0x0f0f0f0f;
  x = (x | x << 2) & 0x33333333;
  return (x | x << 1) & 0x55555555;
}

// Where `value` lies between `low` and `high`, in 65,536 steps; NaN at 0.
template <class T>
GCV_HD uint32_t step_of(T value, T low, T high) {
  const T position = (value - low) / (high - low) * T(65535);
  return position > 0 ? uint32_t(smaller(position, T(65535))) : 0;
}

template <class Element, class T>
const KeyIndex<uint32_t>* sort_along_curve(const SoftNmsParams& p, const Blocks<T>& b) {
  const auto* boxes = static_cast<const Element*>(p.boxes);
  Box<T> around{T(INFINITY), T(INFINITY), T(-INFINITY), T(-INFINITY)};
  for (int64_t i = 0; i < p.n; ++i) {
    const Box<T> box = box_at(boxes, p, i);
    if (!can_overlap(box, area(box))) continue;
    around = {smaller(around.x1, box.x1), smaller(around.y1, box.y1), larger(around.x2, box.x2),
              larger(around.y2, box.y2)};
  }
  for (int64_t i = 0; i < p.n; ++i) {
    const Box<T> box = box_at(boxes, p, i);
    const uint32_t x = step_of(box.x1 / 2 + box.x2 / 2, around.x1, around.x2);
    const uint32_t y = step_of(box.y1 / 2 + box.y2 / 2, around.y1, around.y2);
    b.curve[i] = {spread_bits(x) | spread_bits(y) << 1, uint32_t(i)};
  }
  return radix_sort(b.curve, b.scratch, p.n);
}

template <class T>
void find_bounds(const Blocks<T>& b, int64_t block) {
  T left = T(INFINITY), top = left, right = -left, bottom = -left, highest = -left;
  for (int64_t i = block * kBlock; block < b.count && i < (block + 1) * kBlock; ++i) {
    highest = larger(highest, b.score[i]);
    const Box<T> box = b.box(i);
    if (!can_overlap(box, b.area[i])) continue;
    left = smaller(left, box.x1);
    top = smaller(top, box.y1);
    right = larger(right, box.x2);
    bottom = larger(bottom, box.y2);
  }
  b.left[block] = left;
  b.top[block] = top;
  b.right[block] = right;
  b.bottom[block] = bottom;
  b.highest[block] = highest;
}

// A NaN score can never be selected: padding, NaN scores, boxes already taken.
template <class Element, class T>
void fill(const SoftNmsParams& p, const Blocks<T>& b) {
  const auto* boxes = static_cast<const Element*>(p.boxes);
  const auto* scores = static_cast<const Element*>(p.scores);
  const KeyIndex<uint32_t>* curve = sort_along_curve<Element>(p, b);
  for (int64_t i = 0; i < b.count * kBlock; ++i) {
    const bool real = i < p.n;
    const uint32_t index = real ? curve[i].index : 0;
    const Box<T> box = real ? box_at(boxes, p, index) : Box<T>{};
    b.index[i] = index;
    b.x1[i] = box.x1;
    b.y1[i] = box.y1;
    b.x2[i] = box.x2;
    b.y2[i] = box.y2;
    b.area[i] = area(box);
    b.score[i] = real ? T(widen(scores[index * p.score_stride])) : T(NAN);
  }
  for (int64_t block = 0; block < b.padded; ++block) find_bounds(b, block);
}

// The highest of values[0, count), a whole number of vectors; NaN never wins.
template <class T>
T highest_of(const T* values, int64_t count) {
  Simd<T> best = splat(T(-INFINITY));
  for (int64_t i = 0; i < count; i += kLanes<T>) best = larger(best, load(values + i));
  T result = T(-INFINITY);
  for (int lane = 0; lane < kLanes<T>; ++lane) result = larger(result, T(best[lane]));
  return result;
}

// Among the boxes of this score, the one of the lowest index.
template <class T>
int64_t first_with(const Blocks<T>& b, T score) {
  int64_t found = -1;
  for (int64_t block = 0; block < b.count; ++block) {
    if (b.highest[block] != score) continue;
    for (int64_t i = block * kBlock; i < (block + 1) * kBlock; ++i) {
      if (b.score[i] == score && (found < 0 || b.index[i] < b.index[found])) found = i;
    }
  }
  return found;
}

template <class T>
class Decay {
 public:
  Decay(const SoftNmsParams& p, const Blocks<T>& b)
      : b_(b),
        threshold_(splat(floor_to<T>(p.iou_threshold))),
        sigma_(splat(T(p.sigma))),
        method_(p.method) {}

  // Lowers every score that the box at place `taken` overlaps.
  void operator()(int64_t taken) const {
    const Box<T> box = b_.box(taken);
    const int64_t own = taken / kBlock;
    lower(own, box, b_.area[taken]);
    if (!can_overlap(box, b_.area[taken])) return;
    for (int64_t first = 0; first < b_.padded; first += kLanes<T>) {
      const auto meets = (load(b_.left + first) < splat(box.x2)) & (load(b_.right + first) > splat(box.x1)) &
                         (load(b_.top + first) < splat(box.y2)) & (load(b_.bottom + first) > splat(box.y1));
      for (uint32_t bits = lane_bits(meets); bits; bits &= bits - 1) {
        const int64_t block = first + __builtin_ctz(bits);
        if (block != own) lower(block, box, b_.area[taken]);
      }
    }
  }

 private:
  void lower(int64_t block, const Box<T>& box, T box_area) const {
    using V = Simd<T>;
    const V zero{};
    const Box<V> selected{splat(box.x1), splat(box.y1), splat(box.x2), splat(box.y2)};
    const int64_t end = (block + 1) * kBlock;
    for (int64_t i = block * kBlock; i < end; i += kLanes<T>) {
      const Box<V> other{load(b_.x1 + i), load(b_.y1 + i), load(b_.x2 + i), load(b_.y2 + i)};
      const V inter = intersection(selected, other);
      if (!any(inter > zero)) continue;
      const V overlap = exact::div(inter, union_area(splat(box_area), load(b_.area + i), inter));
      store(b_.score + i, decayed(load(b_.score + i), overlap, threshold_, sigma_, method_));
    }
    b_.highest[block] = highest_of(b_.score + block * kBlock, kBlock);
  }

  Blocks<T> b_;
  Simd<T> threshold_, sigma_;
  SoftNmsMethod method_;
};

template <class Element>
int64_t run(const SoftNmsParams& p, void* workspace, int64_t* keep, void* decayed_scores) {
  using T = typename Compute<Element>::type;
  if (p.n == 0) return 0;
  const Blocks<T> b = Blocks<T>::carve(p, workspace);
  fill<Element>(p, b);
  const Decay<T> decay(p, b);
  auto* out = static_cast<Element*>(decayed_scores);
  const T least = floor_to<T>(p.score_threshold);
  int64_t count = 0;
  for (T best; (best = highest_of(b.highest, b.padded)) > least;) {
    const int64_t taken = first_with(b, best);
    keep[count] = b.index[taken];
    narrow(b.score[taken], out[count++]);  // not `best`: -0 equals it
    b.score[taken] = T(NAN);
    decay(taken);
  }
  return count;
}

}  // namespace

size_t soft_nms_workspace_bytes(const SoftNmsParams& p) {
  return p.dtype == DType::f64 ? Blocks<double>::carve(p, nullptr).bytes
                               : Blocks<float>::carve(p, nullptr).bytes;
}

int64_t soft_nms_cpu(const SoftNmsParams& p, void* workspace, int64_t* keep, void* decayed) {
  return GCV_BY_DTYPE(p.dtype, run, p, workspace, keep, decayed);
}

}  // namespace GCV_ISA
}  // namespace gcv

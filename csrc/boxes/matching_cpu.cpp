// Matching on the CPU, a block of anchors at a time against the gts that the block's bounding box touches:
// with all others its IoU is 0, and on a grid of anchors that is nearly all of them.
#include <cmath>
#include <type_traits>

#include "boxes/matching.h"
#include "common/simd.h"
#include "common/workspace.h"

namespace gcv::GCV_ISA {
namespace {

constexpr int kBlock = 64;
constexpr int64_t kGtPadding = 16;  // the lanes of the widest vector
static_assert(kMatchStrip % kBlock == 0);

template <class T>
using LaneInt = typename std::conditional<sizeof(T) == 8, int64_t, int32_t>::type;

template <class T>
struct MatchState {
  Box<T>* gts;
  T* gt_areas;
  // Of each gt, where the IoU of an anchor whose area is finite and at least 0 may differ from 0: everywhere
  // if the gt is empty or not finite. Nowhere in the padding.
  Box<T*> reach;
  T* best;        // of each gt, over all anchors
  T* strip_best;  // [strip][gt]
  size_t bytes;

  static MatchState carve(const MatchParams& p, void* base) {
    Workspace workspace(base);
    const int64_t padded = (p.gts.count + kGtPadding - 1) / kGtPadding * kGtPadding;
    MatchState s{};
    s.gts = workspace.take<Box<T>>(p.gts.count);
    s.gt_areas = workspace.take<T>(p.gts.count);
    s.reach = {workspace.take<T>(padded), workspace.take<T>(padded), workspace.take<T>(padded),
               workspace.take<T>(padded)};
    if (p.allow_low_quality) {
      s.best = workspace.take<T>(p.gts.count);
      s.strip_best = workspace.take<T>(match_strips(p) * p.gts.count);
    }
    s.bytes = workspace.used();
    return s;
  }
};

template <class T>
void set_reach(const Box<T*>& reach, int64_t i, const Box<T>& box) {
  reach.x1[i] = box.x1;
  reach.y1[i] = box.y1;
  reach.x2[i] = box.x2;
  reach.y2[i] = box.y2;
}

template <class Element>
void prepare(const MatchParams& p, void* workspace) {
  using T = typename Compute<Element>::type;
  const auto s = MatchState<T>::carve(p, workspace);
  constexpr T inf = T(INFINITY);
  int64_t i = 0;
  for (; i < p.gts.count; ++i) {
    const Box<T> gt = box_at<Element>(p.gts, i);
    s.gts[i] = gt;
    s.gt_areas[i] = area(gt);
    set_reach(s.reach, i, can_overlap(gt, s.gt_areas[i]) ? gt : Box<T>{-inf, -inf, inf, inf});
  }
  for (; i % kGtPadding != 0; ++i) set_reach(s.reach, i, Box<T>{inf, inf, -inf, -inf});
}

// Some anchors, coordinate by coordinate, and the best gt of each.
template <class T>
struct alignas(64) Block {
  T x1[kBlock], y1[kBlock], x2[kBlock], y2[kBlock], area[kBlock];
  T best[kBlock];
  LaneInt<T> index[kBlock];
  Box<T> bounds;  // of all anchors; everything where the area of one is negative or not finite
};

template <class Element, class T>
GCV_HD void read_anchors(const Element* __restrict e, int64_t row_stride, int64_t coord_stride, int64_t n,
                         Block<T>& b) {
  for (int64_t i = 0; i < n; ++i) {
    b.x1[i] = widen(e[i * row_stride]);
    b.y1[i] = widen(e[i * row_stride + coord_stride]);
    b.x2[i] = widen(e[i * row_stride + 2 * coord_stride]);
    b.y2[i] = widen(e[i * row_stride + 3 * coord_stride]);
  }
}

template <class T>
GCV_HD Box<Simd<T>> boxes_at(const Block<T>& b, int i) {
  return {load(b.x1 + i), load(b.y1 + i), load(b.x2 + i), load(b.y2 + i)};
}

// What op(op(lane 0, lane 1), ...) gives for an op that does not mind the order.
template <class T, class Op>
GCV_HD T fold(Simd<T> v, Op op) {
  using Lanes = Simd<LaneInt<T>>;
  Lanes lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  for (int step = kLanes<T> / 2; step > 0; step /= 2) v = op(v, __builtin_shuffle(v, lane ^ step));
  return v[0];
}

template <class T>
GCV_HD void find_areas_and_bounds(Block<T>& b) {
  using V = Simd<T>;
  Box<V> bounds = boxes_at(b, 0);
  Simd<LaneInt<T>> odd{};
  for (int i = 0; i < kBlock; i += kLanes<T>) {
    const Box<V> box = boxes_at(b, i);
    const V box_area = area(box);
    store(b.area + i, box_area);
    bounds = {smaller(bounds.x1, box.x1), smaller(bounds.y1, box.y1), larger(bounds.x2, box.x2),
              larger(bounds.y2, box.y2)};
    odd |= ~((box_area >= V{}) & (box_area - box_area == V{}));
  }
  constexpr T inf = T(INFINITY);
  if (any(odd)) {
    b.bounds = {-inf, -inf, inf, inf};
    return;
  }
  const auto least = [](V a, V c) { return smaller(a, c); };
  const auto most = [](V a, V c) { return larger(a, c); };
  b.bounds = {fold<T>(bounds.x1, least), fold<T>(bounds.y1, least), fold<T>(bounds.x2, most),
              fold<T>(bounds.y2, most)};
}

// `n` anchors from `first` on; a short block is filled up with its last anchor, which changes no maximum.
template <class Element, class T>
void load_block(const MatchParams& p, int64_t first, int64_t n, Block<T>& b) {
  const StridedBoxes& rows = p.anchors;
  const auto* e = static_cast<const Element*>(rows.data) + first * rows.row_stride;
  if (n == kBlock && rows.row_stride == 4 && rows.coord_stride == 1) {
    read_anchors(e, 4, 1, kBlock, b);
  } else {
    read_anchors(e, rows.row_stride, rows.coord_stride, n, b);
    for (int64_t i = n; i < kBlock; ++i) {
      b.x1[i] = b.x1[n - 1], b.y1[i] = b.y1[n - 1], b.x2[i] = b.x2[n - 1], b.y2[i] = b.y2[n - 1];
    }
  }
  find_areas_and_bounds(b);
}

template <class T>
struct SplatGt {
  Box<Simd<T>> box;
  Simd<T> area;

  SplatGt(const MatchState<T>& s, int64_t gt)
      : box{splat(s.gts[gt].x1), splat(s.gts[gt].y1), splat(s.gts[gt].x2), splat(s.gts[gt].y2)},
        area(splat(s.gt_areas[gt])) {}

  Simd<T> quality(const Block<T>& b, int i) const {
    return match_quality(box, area, boxes_at(b, i), load(b.area + i), splat(T(INFINITY)));
  }
};

// Offers one gt to all anchors of the block; returns the lanes' best qualities.
template <class T>
GCV_HD Simd<T> offer(const MatchState<T>& s, int64_t gt, Block<T>& b) {
  const SplatGt<T> candidate(s, gt);
  const auto index = splat(LaneInt<T>(gt));
  Simd<T> best{};
  for (int i = 0; i < kBlock; i += kLanes<T>) {
    const auto quality = candidate.quality(b, i);
    const auto known = load(b.best + i);
    const auto better = quality > known;
    store(b.best + i, better ? quality : known);
    store(b.index + i, better ? index : load(b.index + i));
    best = larger(best, quality);
  }
  return best;
}

// Fills in b.best and b.index, the first gt of the highest quality; raises best_of_gts where it is given.
template <class T>
void match_block(const MatchParams& p, const MatchState<T>& s, Block<T>& b, T* best_of_gts) {
  for (int i = 0; i < kBlock; ++i) b.best[i] = 0, b.index[i] = 0;
  const Box<Simd<T>> bounds{splat(b.bounds.x1), splat(b.bounds.y1), splat(b.bounds.x2), splat(b.bounds.y2)};
  for (int64_t first = 0; first < p.gts.count; first += kLanes<T>) {
    uint32_t touched =
        lane_bits((load(s.reach.x1 + first) < bounds.x2) & (load(s.reach.x2 + first) > bounds.x1) &
                  (load(s.reach.y1 + first) < bounds.y2) & (load(s.reach.y2 + first) > bounds.y1));
    for (; touched != 0; touched &= touched - 1) {
      const int64_t gt = first + __builtin_ctz(touched);
      const Simd<T> best = offer(s, gt, b);
      if (best_of_gts == nullptr || !any(best > splat(best_of_gts[gt]))) continue;
      best_of_gts[gt] = fold<T>(best, [](Simd<T> a, Simd<T> c) { return larger(a, c); });
    }
  }
}

// Calls f(first anchor, how many) for each block of the strip.
template <class F>
GCV_HD void for_blocks(const MatchParams& p, int64_t strip, F f) {
  const int64_t end = strip + 1 == match_strips(p) ? p.anchors.count : (strip + 1) * kMatchStrip;
  for (int64_t first = strip * kMatchStrip; first < end; first += kBlock) {
    f(first, end - first < kBlock ? end - first : int64_t(kBlock));
  }
}

template <class Element>
void match_all(const MatchParams& p, void* workspace, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const auto s = MatchState<T>::carve(p, workspace);
  const T low = T(p.low_threshold), high = T(p.high_threshold);
  Block<T> b;
  for (int64_t strip = begin; strip < end; ++strip) {
    T* best_of_gts = p.allow_low_quality ? s.strip_best + strip * p.gts.count : nullptr;
    if (best_of_gts != nullptr) std::memset(best_of_gts, 0, size_t(p.gts.count) * sizeof(T));
    for_blocks(p, strip, [&](int64_t first, int64_t n) {
      load_block<Element>(p, first, n, b);
      match_block(p, s, b, best_of_gts);
      int64_t* __restrict matches = p.matches + first;
      for (int64_t i = 0; i < n; ++i) matches[i] = thresholded(b.best[i], b.index[i], low, high);
    });
  }
}

template <class Element>
void find_best_of_gts(const MatchParams& p, void* workspace) {
  const auto s = MatchState<typename Compute<Element>::type>::carve(p, workspace);
  for (int64_t gt = 0; gt < p.gts.count; ++gt) s.best[gt] = 0;
  for (int64_t strip = 0; strip < match_strips(p); ++strip) {
    const auto* strip_best = s.strip_best + strip * p.gts.count;
    for (int64_t gt = 0; gt < p.gts.count; ++gt) s.best[gt] = larger(s.best[gt], strip_best[gt]);
  }
}

// Whether the strip holds anchors of the gt's best quality.
template <class T>
GCV_HD bool holds_best(const MatchParams& p, const MatchState<T>& s, int64_t strip, int64_t gt) {
  return s.strip_best[strip * p.gts.count + gt] == s.best[gt];
}

template <class Element>
void restore_low_quality(const MatchParams& p, void* workspace, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const auto s = MatchState<T>::carve(p, workspace);
  Block<T> b;
  alignas(64) LaneInt<T> chosen[kBlock];
  for (int64_t strip = begin; strip < end; ++strip) {
    int64_t first_gt = 0;
    while (first_gt < p.gts.count && !holds_best(p, s, strip, first_gt)) ++first_gt;
    if (first_gt == p.gts.count) continue;
    for_blocks(p, strip, [&](int64_t first, int64_t n) {
      load_block<Element>(p, first, n, b);
      std::memset(chosen, 0, sizeof chosen);
      bool any_chosen = false;
      for (int64_t gt = first_gt; gt < p.gts.count; ++gt) {
        if (!holds_best(p, s, strip, gt)) continue;
        const SplatGt<T> candidate(s, gt);
        for (int i = 0; i < kBlock; i += kLanes<T>) {
          const auto equal = candidate.quality(b, i) == splat(s.best[gt]);
          if (!any(equal)) continue;
          any_chosen = true;
          store(chosen + i, load(chosen + i) | equal);
        }
      }
      if (!any_chosen) return;
      match_block<T>(p, s, b, nullptr);
      for (int64_t i = 0; i < n; ++i) {
        if (chosen[i] != 0) p.matches[first + i] = b.index[i];
      }
    });
  }
}

}  // namespace

size_t match_workspace_bytes(const MatchParams& p) {
  return p.dtype == DType::f64 ? MatchState<double>::carve(p, nullptr).bytes
                               : MatchState<float>::carve(p, nullptr).bytes;
}

void match_prepare_cpu(const MatchParams& p, void* workspace) {
  GCV_BY_DTYPE(p.dtype, prepare, p, workspace);
}

void match_strips_cpu(const MatchParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, match_all, p, workspace, begin, end);
}

void match_best_of_gts_cpu(const MatchParams& p, void* workspace) {
  GCV_BY_DTYPE(p.dtype, find_best_of_gts, p, workspace);
}

void match_low_quality_cpu(const MatchParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, restore_low_quality, p, workspace, begin, end);
}

}  // namespace gcv::GCV_ISA

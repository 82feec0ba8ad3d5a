// Which ground-truth box each anchor is to predict: torchvision's Matcher over the IoU of all pairs, without
// the matrix. Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/box.h"
#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

struct StridedBoxes {
  const void* data;
  int64_t count;
  int64_t row_stride;
  int64_t coord_stride;
};

struct MatchParams {
  StridedBoxes gts;  // at most INT32_MAX
  StridedBoxes anchors;
  DType dtype;
  double high_threshold;
  double low_threshold;
  bool allow_low_quality;
  int64_t* matches;  // [anchors]
};

constexpr int64_t kBelowLowThreshold = -1;
constexpr int64_t kBetweenThresholds = -2;

template <class Element>
GCV_HD Box<typename Compute<Element>::type> box_at(const StridedBoxes& rows, int64_t index) {
  const Element* e = static_cast<const Element*>(rows.data) + index * rows.row_stride;
  const int64_t step = rows.coord_stride;
  return {widen(e[0]), widen(e[step]), widen(e[2 * step]), widen(e[3 * step])};
}

// The IoU, but infinity for NaN, which torch.max ranks first. No IoU is infinite or below 0. NaN equals
// nothing, so torchvision makes no low-quality match of it; but it is below no threshold, so the anchor has
// its match.
template <class V>
GCV_HD V match_quality(const Box<V>& gt, V gt_area, const Box<V>& anchor, V anchor_area, V infinity) {
  return smaller(infinity, iou(gt, gt_area, anchor, anchor_area));
}

// The match of an anchor whose best quality is with gt `index`.
template <class T, class Index>
GCV_HD Index thresholded(T quality, Index index, T low, T high) {
  return quality < low ? Index(kBelowLowThreshold) : quality < high ? Index(kBetweenThresholds) : index;
}

// Anchors are matched in strips of this many, which are independent of each other.
constexpr int64_t kMatchStrip = 1024;

inline int64_t match_strips(const MatchParams& p) {
  return (p.anchors.count + kMatchStrip - 1) / kMatchStrip;
}

// With at least one gt, in this order: prepare; strips over all strips; and where low-quality matches are
// allowed, best_of_gts and low_quality over all strips. The workspace is 64-byte aligned.
GCV_PER_ISA(size_t, match_workspace_bytes, (const MatchParams& p), (p))
GCV_PER_ISA(void, match_prepare_cpu, (const MatchParams& p, void* workspace), (p, workspace))
GCV_PER_ISA(void, match_strips_cpu, (const MatchParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))
GCV_PER_ISA(void, match_best_of_gts_cpu, (const MatchParams& p, void* workspace), (p, workspace))
GCV_PER_ISA(void, match_low_quality_cpu, (const MatchParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

}  // namespace gcv

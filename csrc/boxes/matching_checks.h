// The argument checks that the matcher's CPU and CUDA bindings share; contract.py makes the same ones for the
// other backends.
#pragma once

#include "boxes/matching.h"
#include "common/torch_tensor.h"

namespace gcv {

inline void check_match_boxes(const Tensor& gt_boxes, const Tensor& anchors, double high_threshold,
                              double low_threshold) {
  const char* op = "match_boxes";
  require_float(op, "gt_boxes", gt_boxes);
  require_like(op, "anchors", anchors, "gt_boxes", gt_boxes);
  GCV_REQUIRE(gt_boxes.dim() == 2 && gt_boxes.size(1) == 4, op, ": gt_boxes must be [M, 4], got ",
              shape_text(gt_boxes), ".");
  GCV_REQUIRE(anchors.dim() == 2 && anchors.size(1) == 4, op, ": anchors must be [A, 4], got ",
              shape_text(anchors), ".");
  GCV_REQUIRE(low_threshold <= high_threshold, op,
              ": low_threshold must not be greater than high_threshold (", high_threshold, "), got ",
              low_threshold, ".");
  GCV_REQUIRE(gt_boxes.size(0) <= INT32_MAX, op, ": at most 2147483647 gt_boxes are supported, got ",
              gt_boxes.size(0), ".");
}

inline StridedBoxes strided_boxes(const Tensor& boxes) {
  return {boxes.const_data_ptr(), boxes.size(0), boxes.stride(0), boxes.stride(1)};
}

// Calls run(MatchParams) and returns the matches.
template <class Run>
Tensor match_boxes_with(const Tensor& gt_boxes, const Tensor& anchors, double high_threshold,
                        double low_threshold, bool allow_low_quality_matches, Run run) {
  check_match_boxes(gt_boxes, anchors, high_threshold, low_threshold);
  const Tensor matches = new_output(anchors, {anchors.size(0)}, ScalarType::Long);
  run(MatchParams{strided_boxes(gt_boxes), strided_boxes(anchors), kernel_dtype(anchors.scalar_type()),
                  high_threshold, low_threshold, allow_low_quality_matches,
                  matches.mutable_data_ptr<int64_t>()});
  return matches;
}

}  // namespace gcv

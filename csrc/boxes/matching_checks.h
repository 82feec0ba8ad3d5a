// The argument checks that the matcher's CPU and CUDA bindings share; contract.py makes the same ones for the
// other backends.
#pragma once

#include "boxes/matching.h"
#include "common/torch_tensor.h"

namespace gcv {

inline void check_match_boxes(const Tensor& gt_boxes, const Tensor& anchors, double high_threshold,
                              double low_threshold) {
  const char* op = "match_boxes";
  const ScalarType dtype = gt_boxes.scalar_type();
  GCV_REQUIRE(is_kernel_dtype(dtype), op, ": gt_boxes must be float16, bfloat16, float32 or float64, got ",
              dtype_name(dtype), ".");
  GCV_REQUIRE(anchors.scalar_type() == dtype, op, ": anchors must have the dtype of gt_boxes (",
              dtype_name(dtype), "), got ", dtype_name(anchors.scalar_type()), ".");
  GCV_REQUIRE(same_device(gt_boxes, anchors), op, ": anchors must be on the device of gt_boxes (",
              device_text(gt_boxes), "), got ", device_text(anchors), ".");
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

inline BoxRows box_rows(const Tensor& boxes) {
  return {boxes.const_data_ptr(), boxes.size(0), boxes.stride(0), boxes.stride(1)};
}

// Calls run(MatchParams) and returns the matches.
template <class Run>
Tensor match_boxes_with(const Tensor& gt_boxes, const Tensor& anchors, double high_threshold,
                        double low_threshold, bool allow_low_quality_matches, Run run) {
  check_match_boxes(gt_boxes, anchors, high_threshold, low_threshold);
  const Tensor matches = torch::stable::new_empty(anchors, {anchors.size(0)}, ScalarType::Long);
  run(MatchParams{box_rows(gt_boxes), box_rows(anchors), kernel_dtype(anchors.scalar_type()), high_threshold,
                  low_threshold, allow_low_quality_matches, matches.mutable_data_ptr<int64_t>()});
  return matches;
}

}  // namespace gcv

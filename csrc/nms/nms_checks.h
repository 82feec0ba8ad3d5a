// The argument checks that the CPU and CUDA bindings share; contract.py makes the same ones for the other
// backends.
#pragma once

#include <string>

#include "common/torch_tensor.h"

namespace gcv {

inline void check_pair(const char* op, const Tensor& boxes, const Tensor& scores) {
  require_float(op, "boxes", boxes);
  require_like(op, "scores", scores, "boxes", boxes);
}

inline void check_per_box(const char* op, const char* name, const Tensor& boxes, const Tensor& values) {
  GCV_REQUIRE(values.dim() == 1, op, ": ", name, " must be [N], got ", shape_text(values), ".");
  GCV_REQUIRE(values.size(0) == boxes.size(0), op, ": ", name, " must have one entry per box (",
              boxes.size(0), "), got ", values.size(0), ".");
}

inline void check_box_count(const char* op, int64_t count) {
  GCV_REQUIRE(count <= INT32_MAX, op, ": at most 2147483647 boxes are supported, got ", count, ".");
}

inline void check_nms(const char* op, const Tensor& boxes, const Tensor& scores) {
  GCV_REQUIRE(boxes.dim() == 2 && boxes.size(1) == 4, op, ": boxes must be [N, 4], got ", shape_text(boxes),
              ".");
  check_per_box(op, "scores", boxes, scores);
  check_pair(op, boxes, scores);
  check_box_count(op, boxes.size(0));
}

inline void check_batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs) {
  const char* op = "batched_nms";
  check_nms(op, boxes, scores);
  const ScalarType type = idxs.scalar_type();
  GCV_REQUIRE(type == ScalarType::Long || type == ScalarType::Int || type == ScalarType::Short ||
                  type == ScalarType::Char || type == ScalarType::Byte,
              op, ": idxs must be int64, int32, int16, int8 or uint8, got ", dtype_name(type), ".");
  check_per_box(op, "idxs", boxes, idxs);
  require_device(op, "idxs", idxs, "boxes", boxes);
}

inline void check_soft_nms(const Tensor& boxes, const Tensor& scores, double sigma,
                           const std::string& method) {
  const char* op = "soft_nms";
  check_nms(op, boxes, scores);
  GCV_REQUIRE(method == "linear" || method == "gaussian", op,
              ": method must be 'linear' or 'gaussian', got '", method, "'.");
  GCV_REQUIRE(method != "gaussian" || sigma > 0, op, ": sigma must be greater than 0, got ", sigma, ".");
}

inline void check_multiclass_nms(const Tensor& boxes, const Tensor& scores, int64_t max_output_per_class,
                                 int64_t max_total) {
  const char* op = "multiclass_nms";
  GCV_REQUIRE(boxes.dim() == 3 && boxes.size(2) == 4, op, ": boxes must be [B, N, 4], got ",
              shape_text(boxes), ".");
  GCV_REQUIRE(scores.dim() == 3, op, ": scores must be [B, C, N], got ", shape_text(scores), ".");
  GCV_REQUIRE(scores.size(0) == boxes.size(0), op, ": scores must have the batch size of boxes (",
              boxes.size(0), "), got ", scores.size(0), ".");
  GCV_REQUIRE(scores.size(2) == boxes.size(1), op, ": scores must have one entry per box (", boxes.size(1),
              "), got ", scores.size(2), ".");
  check_pair(op, boxes, scores);
  check_box_count(op, boxes.size(1));
  GCV_REQUIRE(max_output_per_class >= 0, op, ": max_output_per_class must not be negative, got ",
              max_output_per_class, ".");
  GCV_REQUIRE(max_total >= 0, op, ": max_total must not be negative, got ", max_total, ".");
}

}  // namespace gcv

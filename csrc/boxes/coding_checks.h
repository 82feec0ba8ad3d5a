// Argument checks and allocation that the CPU and CUDA bindings share; contract.py makes the same checks for
// the other backends. Each *_with function checks, allocates, calls run(Params) and returns the results.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "boxes/coding.h"
#include "boxes/convert.h"
#include "common/torch_tensor.h"

namespace gcv {

inline void check_grad(const char* op, const Tensor& grad, const char* first_name, const Tensor& first,
                       Sizes result_shape) {
  require_like(op, "grad", grad, first_name, first);
  require_same_shape(op, "grad", grad, "the result", result_shape);
}

inline bool has_rows_of(const Tensor& t, int64_t width) {
  return t.dim() > 0 && t.size(t.dim() - 1) == width;
}

inline void check_weights(const char* op, const std::vector<double>& weights) {
  GCV_REQUIRE(weights.size() == 4, op, ": weights must be 4 numbers, got ", weights.size(), ".");
}

inline void check_box_encode(const char* op, const Tensor& reference_boxes, const Tensor& proposals,
                             const std::vector<double>& weights) {
  require_float(op, "reference_boxes", reference_boxes);
  require_like(op, "proposals", proposals, "reference_boxes", reference_boxes);
  GCV_REQUIRE(has_rows_of(reference_boxes, 4), op, ": reference_boxes must be [..., 4], got ",
              shape_text(reference_boxes), ".");
  require_same_shape(op, "proposals", proposals, "reference_boxes", reference_boxes.sizes());
  check_weights(op, weights);
}

inline void check_box_decode(const char* op, const Tensor& deltas, const Tensor& anchors,
                             const std::vector<double>& weights) {
  require_float(op, "deltas", deltas);
  require_like(op, "anchors", anchors, "deltas", deltas);
  GCV_REQUIRE(deltas.dim() == 2 && deltas.size(1) % 4 == 0, op, ": deltas must be [N, 4 * C], got ",
              shape_text(deltas), ".");
  GCV_REQUIRE(anchors.dim() == 2 && anchors.size(0) == deltas.size(0) && anchors.size(1) == 4, op,
              ": anchors must be [N, 4] with N = ", deltas.size(0), ", got ", shape_text(anchors), ".");
  check_weights(op, weights);
}

inline void check_clip_boxes(const char* op, const Tensor& boxes, const std::vector<int64_t>& size) {
  require_float(op, "boxes", boxes);
  GCV_REQUIRE(has_rows_of(boxes, 4), op, ": boxes must be [..., 4], got ", shape_text(boxes), ".");
  GCV_REQUIRE(size.size() == 2, op, ": size must be (height, width), got ", size.size(), " numbers.");
  GCV_REQUIRE(size[0] >= 0 && size[1] >= 0, op, ": size must not be negative, got (", size[0], ", ", size[1],
              ").");
}

inline void check_remove_small_boxes(const Tensor& boxes) {
  const char* op = "remove_small_boxes";
  require_float(op, "boxes", boxes);
  GCV_REQUIRE(boxes.dim() == 2 && boxes.size(1) == 4, op, ": boxes must be [N, 4], got ", shape_text(boxes),
              ".");
}

inline BoxFormat format_of(const char* op, const char* name, const std::string& text) {
  const char* names[] = {"xyxy", "xywh", "cxcywh", "xywhr", "cxcywhr", "xyxyxyxy"};
  for (int i = 0; i < 6; ++i) {
    if (text == names[i]) return BoxFormat(i);
  }
  fail(op, ": ", name, " must be one of xyxy, xywh, cxcywh, xywhr, cxcywhr, xyxyxyxy, got '", text, "'.");
}

struct Conversion {
  BoxFormat from, to;
};

inline Conversion check_box_convert(const char* op, const Tensor& boxes, const std::string& in_fmt,
                                    const std::string& out_fmt) {
  require_float(op, "boxes", boxes);
  const Conversion c = {format_of(op, "in_fmt", in_fmt), format_of(op, "out_fmt", out_fmt)};
  GCV_REQUIRE(is_rotated(c.from) == is_rotated(c.to), op, ": cannot convert from ", in_fmt, " to ", out_fmt,
              ".");
  const int width = format_width(c.from);
  GCV_REQUIRE(has_rows_of(boxes, width), op, ": boxes must be [..., ", width, "] for ", in_fmt, ", got ",
              shape_text(boxes), ".");
  return c;
}

// The rows of a tensor and what keeps their memory alive.
struct TensorRows {
  Tensor owner;
  BoxRows rows;
};

// In place where rows are whole, else those of a dense copy.
inline TensorRows rows_of(const Tensor& t, int64_t width) {
  const bool whole = t.dim() == 2 && t.size(1) == width && t.stride(1) == 1;
  const Tensor owner = whole || t.is_contiguous() ? t : torch::stable::contiguous(t);
  return {owner, {owner.const_data_ptr(), whole ? t.stride(0) : width}};
}

inline Tensor new_rows(const Tensor& like) { return new_output(like, like.sizes()); }

inline CoderWeights coder_weights(const std::vector<double>& w) { return {w[0], w[1], w[2], w[3]}; }

template <class Run>
Tensor box_encode_with(const Tensor& reference_boxes, const Tensor& proposals,
                       const std::vector<double>& weights, const Run& run) {
  check_box_encode("box_encode", reference_boxes, proposals, weights);
  const Tensor deltas = new_rows(reference_boxes);
  const TensorRows boxes = rows_of(reference_boxes, 4), from = rows_of(proposals, 4);
  run(BoxEncodeParams{boxes.rows, from.rows, deltas.mutable_data_ptr(), deltas.numel() / 4,
                      kernel_dtype(deltas.scalar_type()), coder_weights(weights)});
  return deltas;
}

template <class Run>
std::tuple<Tensor, Tensor> box_encode_backward_with(const Tensor& grad, const Tensor& reference_boxes,
                                                    const Tensor& proposals,
                                                    const std::vector<double>& weights, const Run& run) {
  const char* op = "box_encode_backward";
  check_box_encode(op, reference_boxes, proposals, weights);
  check_grad(op, grad, "reference_boxes", reference_boxes, reference_boxes.sizes());
  const Tensor grad_boxes = new_rows(reference_boxes), grad_from = new_rows(reference_boxes);
  const TensorRows grads = rows_of(grad, 4), boxes = rows_of(reference_boxes, 4),
                   from = rows_of(proposals, 4);
  run(BoxEncodeBackwardParams{grads.rows, boxes.rows, from.rows, grad_boxes.mutable_data_ptr(),
                              grad_from.mutable_data_ptr(), grad.numel() / 4,
                              kernel_dtype(grad.scalar_type()), coder_weights(weights)});
  return {grad_boxes, grad_from};
}

template <class Run>
Tensor box_decode_with(const Tensor& deltas, const Tensor& anchors, const std::vector<double>& weights,
                       double clip, const Run& run) {
  check_box_decode("box_decode", deltas, anchors, weights);
  const Tensor boxes = new_rows(deltas);
  const TensorRows codes = rows_of(deltas, 4), from = rows_of(anchors, 4);
  run(BoxDecodeParams{codes.rows, from.rows, boxes.mutable_data_ptr(), deltas.size(0), deltas.size(1) / 4,
                      kernel_dtype(deltas.scalar_type()), coder_weights(weights), clip});
  return boxes;
}

template <class Run>
std::tuple<Tensor, Tensor> box_decode_backward_with(const Tensor& grad, const Tensor& deltas,
                                                    const Tensor& anchors, const std::vector<double>& weights,
                                                    double clip, const Run& run) {
  const char* op = "box_decode_backward";
  check_box_decode(op, deltas, anchors, weights);
  check_grad(op, grad, "deltas", deltas, deltas.sizes());
  const Tensor grad_deltas = new_rows(deltas), grad_anchors = new_rows(anchors);
  const TensorRows grads = rows_of(grad, 4), codes = rows_of(deltas, 4), from = rows_of(anchors, 4);
  run(BoxDecodeBackwardParams{grads.rows, codes.rows, from.rows, grad_deltas.mutable_data_ptr(),
                              grad_anchors.mutable_data_ptr(), deltas.size(0), deltas.size(1) / 4,
                              kernel_dtype(deltas.scalar_type()), coder_weights(weights), clip});
  return {grad_deltas, grad_anchors};
}

template <class Run>
Tensor clip_boxes_with(const Tensor& boxes, const std::vector<int64_t>& size, const Run& run) {
  check_clip_boxes("clip_boxes", boxes, size);
  const Tensor clipped = new_rows(boxes);
  const TensorRows rows = rows_of(boxes, 4);
  run(ClipBoxesParams{rows.rows, clipped.mutable_data_ptr(), boxes.numel() / 4,
                      kernel_dtype(boxes.scalar_type()), double(size[0]), double(size[1])});
  return clipped;
}

template <class Run>
Tensor clip_boxes_backward_with(const Tensor& grad, const Tensor& boxes, const std::vector<int64_t>& size,
                                const Run& run) {
  const char* op = "clip_boxes_backward";
  check_clip_boxes(op, boxes, size);
  check_grad(op, grad, "boxes", boxes, boxes.sizes());
  const Tensor grad_boxes = new_rows(boxes);
  const TensorRows grads = rows_of(grad, 4), rows = rows_of(boxes, 4);
  run(ClipBoxesBackwardParams{grads.rows, rows.rows, grad_boxes.mutable_data_ptr(), boxes.numel() / 4,
                              kernel_dtype(boxes.scalar_type()), double(size[0]), double(size[1])});
  return grad_boxes;
}

inline Shape converted_shape(const Tensor& boxes, BoxFormat to) {
  Shape shape = boxes.sizes().vec();
  shape.back() = format_width(to);
  return shape;
}

inline Tensor dense_copy(const Tensor& t) {
  Tensor copy = new_rows(t);
  return torch::stable::copy_(copy, t);
}

template <class Run>
Tensor box_convert_with(const Tensor& boxes, const std::string& in_fmt, const std::string& out_fmt,
                        const Run& run) {
  const Conversion c = check_box_convert("box_convert", boxes, in_fmt, out_fmt);
  if (c.from == c.to) return dense_copy(boxes);
  const Tensor converted = new_output(boxes, converted_shape(boxes, c.to));
  const int width = format_width(c.from);
  const TensorRows rows = rows_of(boxes, width);
  run(BoxConvertParams{rows.rows, converted.mutable_data_ptr(), boxes.numel() / width,
                       kernel_dtype(boxes.scalar_type()), c.from, c.to});
  return converted;
}

template <class Run>
Tensor box_convert_backward_with(const Tensor& grad, const Tensor& boxes, const std::string& in_fmt,
                                 const std::string& out_fmt, const Run& run) {
  const char* op = "box_convert_backward";
  const Conversion c = check_box_convert(op, boxes, in_fmt, out_fmt);
  check_grad(op, grad, "boxes", boxes, converted_shape(boxes, c.to));
  if (c.from == c.to) return dense_copy(grad);
  const Tensor grad_boxes = new_rows(boxes);
  const int width = format_width(c.from);
  const TensorRows grads = rows_of(grad, format_width(c.to)), rows = rows_of(boxes, width);
  run(BoxConvertBackwardParams{grads.rows, rows.rows, grad_boxes.mutable_data_ptr(), boxes.numel() / width,
                               kernel_dtype(boxes.scalar_type()), c.from, c.to});
  return grad_boxes;
}

inline SmallBoxesParams small_boxes_params(const TensorRows& rows, double min_size) {
  return {rows.rows, rows.owner.size(0), kernel_dtype(rows.owner.scalar_type()), min_size};
}

}  // namespace gcv

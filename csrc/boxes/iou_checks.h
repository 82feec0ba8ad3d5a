// Argument checks and allocation that the CPU and CUDA bindings of the overlap operators share; contract.py
// makes the same checks for the other backends.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "boxes/iou_params.h"
#include "common/torch_tensor.h"

namespace gcv {

inline void check_box_tensors(const char* op, const Tensor& boxes1, const Tensor& boxes2) {
  require_float(op, "boxes1", boxes1);
  require_like(op, "boxes2", boxes2, "boxes1", boxes1);
}

// [..., N, 4] and [..., M, 4]; returns [..., N, M].
inline Shape check_pairwise(const char* op, const Tensor& boxes1, const Tensor& boxes2) {
  check_box_tensors(op, boxes1, boxes2);
  const Sizes shape1 = boxes1.sizes(), shape2 = boxes2.sizes();
  GCV_REQUIRE(shape1.size() >= 2 && shape1.back() == 4, op, ": boxes1 must be [..., N, 4], got ",
              shape_text(shape1), ".");
  GCV_REQUIRE(shape2.size() >= 2 && shape2.back() == 4, op, ": boxes2 must be [..., M, 4], got ",
              shape_text(shape2), ".");
  const Sizes leading1 = shape1.slice(0, shape1.size() - 2), leading2 = shape2.slice(0, shape2.size() - 2);
  GCV_REQUIRE(leading1 == leading2, op, ": boxes2 must have the leading dimensions of boxes1 (",
              shape_text(leading1), "), got ", shape_text(leading2), ".");
  Shape result = shape1.vec();
  result.back() = shape2[shape2.size() - 2];
  return result;
}

// [..., 4] twice; returns [...].
inline Shape check_aligned(const char* op, const Tensor& boxes1, const Tensor& boxes2) {
  check_box_tensors(op, boxes1, boxes2);
  const Sizes shape = boxes1.sizes();
  GCV_REQUIRE(!shape.empty() && shape.back() == 4, op, ": boxes1 must be [..., 4], got ", shape_text(shape),
              ".");
  require_same_shape(op, "boxes2", boxes2, "boxes1", shape);
  return shape.slice(0, shape.size() - 1).vec();
}

inline ScalarType result_dtype(const Tensor& boxes) {
  return boxes.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_grad_type(const char* op, const Tensor& grad, const Tensor& boxes1) {
  require_dtype(op, "grad", grad, "the result", result_dtype(boxes1));
  require_device(op, "grad", grad, "boxes1", boxes1);
}

inline IouKind loss_kind_of(const char* op, const std::string& kind, const char* expected) {
  GCV_REQUIRE(kind == "giou" || kind == "diou" || kind == "ciou", op, ": kind must be ", expected, ", got '",
              kind, "'.");
  return kind == "giou" ? IouKind::giou : kind == "diou" ? IouKind::diou : IouKind::ciou;
}

inline IouKind loss_kind_of(const char* op, const std::string& kind) {
  return loss_kind_of(op, kind, "'giou', 'diou' or 'ciou'");
}

inline IouKind kind_of(const char* op, const std::string& kind) {
  return kind == "iou" ? IouKind::iou : loss_kind_of(op, kind, "'iou', 'giou', 'diou' or 'ciou'");
}

// Over the leading dimensions, all but the last two, which lie one regular step apart.
struct Leading {
  int64_t count, stride;
  bool regular;
};

inline Leading leading_of(const Tensor& t) {
  const int64_t last = t.dim() - 3;
  if (last < 0) return {1, 0, true};
  Leading leading{1, t.stride(last), true};
  for (int64_t d = last; d >= 0; --d) {
    leading.regular &= t.size(d) == 1 || t.stride(d) == leading.stride * leading.count;
    leading.count *= t.size(d);
  }
  return leading;
}

// `t` itself where its leading dimensions are one regular step apart, else a dense copy.
inline Tensor with_regular_leading(const Tensor& t) {
  return leading_of(t).regular ? t : torch::stable::contiguous(t);
}

inline BoxList box_list(const Tensor& boxes) {
  const int64_t d = boxes.dim();
  return {boxes.const_data_ptr(), boxes.size(d - 2), leading_of(boxes).stride, boxes.stride(d - 2),
          boxes.stride(d - 1)};
}

// More than a core's share of the last cache on most processors.
constexpr int64_t kStreamedBytes = int64_t(8) << 20;

// Calls run(PairwiseIouParams) and returns the result.
template <class Run>
Tensor pairwise_iou_with(const char* op, const Tensor& boxes1, const Tensor& boxes2, IouKind kind, double eps,
                         Run run) {
  const Shape shape = check_pairwise(op, boxes1, boxes2);
  const Tensor result = new_output(boxes1, shape, result_dtype(boxes1));
  if (result.numel() == 0) return result;
  const Tensor from1 = with_regular_leading(boxes1), from2 = with_regular_leading(boxes2);
  run(PairwiseIouParams{box_list(from1), box_list(from2), leading_of(from1).count, result.mutable_data_ptr(),
                        kernel_dtype(boxes1.scalar_type()), kind, eps, bytes_of(result) > kStreamedBytes});
  return result;
}

inline Tensor new_gradient(const Tensor& boxes, bool zero) {
  return zero ? torch::stable::new_zeros(boxes, boxes.sizes()) : new_output(boxes, boxes.sizes());
}

template <class Run>
std::tuple<Tensor, Tensor> pairwise_iou_backward_with(const Tensor& grad, const Tensor& boxes1,
                                                      const Tensor& boxes2, const std::string& kind,
                                                      double eps, Run run) {
  const char* op = "pairwise_box_iou_backward";
  const Shape shape = check_pairwise(op, boxes1, boxes2);
  check_grad_type(op, grad, boxes1);
  GCV_REQUIRE(grad.sizes() == Sizes(shape), op, ": grad must be [..., N, M] (", shape_text(shape), "), got ",
              shape_text(grad), ".");
  const IouKind iou_kind = kind_of(op, kind);
  const bool empty = grad.numel() == 0;
  const Tensor grad1 = new_gradient(boxes1, empty), grad2 = new_gradient(boxes2, empty);
  if (empty) return {grad1, grad2};
  const Tensor from = with_regular_leading(grad);
  const Tensor from1 = with_regular_leading(boxes1), from2 = with_regular_leading(boxes2);
  const Leading leading = leading_of(from);
  const int64_t d = from.dim();
  run(PairwiseIouBackwardParams{from.const_data_ptr(), leading.stride, from.stride(d - 2), from.stride(d - 1),
                                box_list(from1), box_list(from2), leading.count, grad1.mutable_data_ptr(),
                                grad2.mutable_data_ptr(), kernel_dtype(boxes1.scalar_type()), iou_kind, eps});
  return {grad1, grad2};
}

template <class Run>
Tensor iou_loss_with(const char* op, const Tensor& boxes1, const Tensor& boxes2, IouKind kind, double eps,
                     Run run) {
  const Tensor result = new_output(boxes1, check_aligned(op, boxes1, boxes2), result_dtype(boxes1));
  const Tensor dense1 = torch::stable::contiguous(boxes1), dense2 = torch::stable::contiguous(boxes2);
  run(IouLossParams{dense1.const_data_ptr(), dense2.const_data_ptr(), result.mutable_data_ptr(),
                    result.numel(), kernel_dtype(boxes1.scalar_type()), kind, eps});
  return result;
}

template <class Run>
std::tuple<Tensor, Tensor> iou_loss_backward_with(const Tensor& grad, const Tensor& boxes1,
                                                  const Tensor& boxes2, const std::string& kind, double eps,
                                                  Run run) {
  const char* op = "box_iou_loss_backward";
  const Shape shape = check_aligned(op, boxes1, boxes2);
  check_grad_type(op, grad, boxes1);
  require_same_shape(op, "grad", grad, "the result", shape);
  const IouKind loss_kind = loss_kind_of(op, kind);
  const Tensor grad1 = new_gradient(boxes1, false), grad2 = new_gradient(boxes2, false);
  const Tensor dense = torch::stable::contiguous(grad);
  const Tensor dense1 = torch::stable::contiguous(boxes1), dense2 = torch::stable::contiguous(boxes2);
  run(IouLossBackwardParams{dense.const_data_ptr(), dense1.const_data_ptr(), dense2.const_data_ptr(),
                            grad1.mutable_data_ptr(), grad2.mutable_data_ptr(), grad.numel(),
                            kernel_dtype(boxes1.scalar_type()), loss_kind, eps});
  return {grad1, grad2};
}

}  // namespace gcv

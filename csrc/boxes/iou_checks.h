// Argument checks and allocation that the CPU and CUDA bindings of the overlap operators share; contract.py
// makes the same checks for the other backends.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "boxes/iou_params.h"
#include "common/torch_tensor.h"

namespace gcv {

using Shape = std::vector<int64_t>;

inline Shape shape_of(const Tensor& t) {
  const auto sizes = t.sizes();
  return Shape(sizes.begin(), sizes.end());
}

inline std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (size_t d = 0; d < shape.size(); ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + "]";
}

inline void check_box_tensors(const char* op, const Tensor& boxes1, const Tensor& boxes2) {
  const ScalarType dtype = boxes1.scalar_type();
  GCV_REQUIRE(is_kernel_dtype(dtype), op, ": boxes1 must be float16, bfloat16, float32 or float64, got ",
              dtype_name(dtype), ".");
  GCV_REQUIRE(boxes2.scalar_type() == dtype, op, ": boxes2 must have the dtype of boxes1 (",
              dtype_name(dtype), "), got ", dtype_name(boxes2.scalar_type()), ".");
  GCV_REQUIRE(same_device(boxes1, boxes2), op, ": boxes2 must be on the device of boxes1 (",
              device_text(boxes1), "), got ", device_text(boxes2), ".");
}

// [..., N, 4] and [..., M, 4]; returns [..., N, M].
inline Shape check_pairwise(const char* op, const Tensor& boxes1, const Tensor& boxes2) {
  check_box_tensors(op, boxes1, boxes2);
  Shape shape1 = shape_of(boxes1), shape2 = shape_of(boxes2);
  GCV_REQUIRE(shape1.size() >= 2 && shape1.back() == 4, op, ": boxes1 must be [..., N, 4], got ",
              text_of(shape1), ".");
  GCV_REQUIRE(shape2.size() >= 2 && shape2.back() == 4, op, ": boxes2 must be [..., M, 4], got ",
              text_of(shape2), ".");
  const Shape leading1(shape1.begin(), shape1.end() - 2), leading2(shape2.begin(), shape2.end() - 2);
  GCV_REQUIRE(leading1 == leading2, op, ": boxes2 must have the leading dimensions of boxes1 (",
              text_of(leading1), "), got ", text_of(leading2), ".");
  shape1.back() = shape2[shape2.size() - 2];
  return shape1;
}

// [..., 4] twice; returns [...].
inline Shape check_aligned(const char* op, const Tensor& boxes1, const Tensor& boxes2) {
  check_box_tensors(op, boxes1, boxes2);
  Shape shape = shape_of(boxes1);
  GCV_REQUIRE(!shape.empty() && shape.back() == 4, op, ": boxes1 must be [..., 4], got ", text_of(shape),
              ".");
  GCV_REQUIRE(shape_of(boxes2) == shape, op, ": boxes2 must have the shape of boxes1 (", text_of(shape),
              "), got ", shape_text(boxes2), ".");
  shape.pop_back();
  return shape;
}

inline ScalarType result_dtype(const Tensor& boxes) {
  return boxes.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_grad(const char* op, const Tensor& grad, const Tensor& boxes, const Shape& shape,
                       const char* expected) {
  GCV_REQUIRE(grad.scalar_type() == result_dtype(boxes), op, ": grad must have the dtype of the result (",
              dtype_name(result_dtype(boxes)), "), got ", dtype_name(grad.scalar_type()), ".");
  GCV_REQUIRE(same_device(grad, boxes), op, ": grad must be on the device of boxes1 (", device_text(boxes),
              "), got ", device_text(grad), ".");
  GCV_REQUIRE(shape_of(grad) == shape, op, ": grad must ", expected, " (", text_of(shape), "), got ",
              shape_text(grad), ".");
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

inline int64_t bytes_of(const Tensor& result) {
  return result.numel() * (result.scalar_type() == ScalarType::Double ? 8 : 4);
}

// Calls run(PairwiseIouParams) and returns the result.
template <class Run>
Tensor pairwise_iou_with(const char* op, const Tensor& boxes1, const Tensor& boxes2, IouKind kind, double eps,
                         Run run) {
  const Shape shape = check_pairwise(op, boxes1, boxes2);
  const Tensor result = torch::stable::new_empty(boxes1, shape, result_dtype(boxes1));
  if (result.numel() == 0) return result;
  const Tensor from1 = with_regular_leading(boxes1), from2 = with_regular_leading(boxes2);
  run(PairwiseIouParams{box_list(from1), box_list(from2), leading_of(from1).count, result.mutable_data_ptr(),
                        kernel_dtype(boxes1.scalar_type()), kind, eps, bytes_of(result) > kStreamedBytes});
  return result;
}

inline Tensor new_gradient(const Tensor& boxes, bool zero) {
  return zero ? torch::stable::new_zeros(boxes, shape_of(boxes))
              : torch::stable::new_empty(boxes, shape_of(boxes));
}

template <class Run>
std::tuple<Tensor, Tensor> pairwise_iou_backward_with(const Tensor& grad, const Tensor& boxes1,
                                                      const Tensor& boxes2, const std::string& kind,
                                                      double eps, Run run) {
  const char* op = "pairwise_box_iou_backward";
  check_grad(op, grad, boxes1, check_pairwise(op, boxes1, boxes2), "be [..., N, M]");
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
  const Tensor result =
      torch::stable::new_empty(boxes1, check_aligned(op, boxes1, boxes2), result_dtype(boxes1));
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
  check_grad(op, grad, boxes1, check_aligned(op, boxes1, boxes2), "have the shape of the result");
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

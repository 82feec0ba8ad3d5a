// The overlap metrics and losses for CUDA tensors; in the emulated build, for CPU tensors.
#include "boxes/iou_checks.h"
#include "boxes/iou_cuda.h"
#include "common/torch_cuda.h"

namespace gcv {
namespace {

Tensor pairwise(const char* op, const Tensor& boxes1, const Tensor& boxes2, IouKind kind, double eps) {
  return pairwise_iou_with(op, boxes1, boxes2, kind, eps, on_current_stream(boxes1, pairwise_iou_cuda));
}

Tensor box_iou(const Tensor& boxes1, const Tensor& boxes2) {
  return pairwise("box_iou", boxes1, boxes2, IouKind::iou, 0);
}

Tensor generalized_box_iou(const Tensor& boxes1, const Tensor& boxes2) {
  return pairwise("generalized_box_iou", boxes1, boxes2, IouKind::giou, 0);
}

Tensor distance_box_iou(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return pairwise("distance_box_iou", boxes1, boxes2, IouKind::diou, eps);
}

Tensor complete_box_iou(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return pairwise("complete_box_iou", boxes1, boxes2, IouKind::ciou, eps);
}

std::tuple<Tensor, Tensor> pairwise_box_iou_backward(const Tensor& grad, const Tensor& boxes1,
                                                     const Tensor& boxes2, const std::string& kind,
                                                     double eps) {
  return pairwise_iou_backward_with(grad, boxes1, boxes2, kind, eps,
                                    on_current_stream(boxes1, pairwise_iou_backward_cuda));
}

Tensor loss(const char* op, const Tensor& boxes1, const Tensor& boxes2, IouKind kind, double eps) {
  return iou_loss_with(op, boxes1, boxes2, kind, eps, on_current_stream(boxes1, iou_loss_cuda));
}

Tensor generalized_box_iou_loss(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return loss("generalized_box_iou_loss", boxes1, boxes2, IouKind::giou, eps);
}

Tensor distance_box_iou_loss(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return loss("distance_box_iou_loss", boxes1, boxes2, IouKind::diou, eps);
}

Tensor complete_box_iou_loss(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return loss("complete_box_iou_loss", boxes1, boxes2, IouKind::ciou, eps);
}

std::tuple<Tensor, Tensor> box_iou_loss_backward(const Tensor& grad, const Tensor& boxes1,
                                                 const Tensor& boxes2, const std::string& kind, double eps) {
  return iou_loss_backward_with(grad, boxes1, boxes2, kind, eps,
                                on_current_stream(boxes1, iou_loss_backward_cuda));
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def("box_iou(Tensor boxes1, Tensor boxes2) -> Tensor");
  m.def("generalized_box_iou(Tensor boxes1, Tensor boxes2) -> Tensor");
  m.def("distance_box_iou(Tensor boxes1, Tensor boxes2, float eps=1e-07) -> Tensor");
  m.def("complete_box_iou(Tensor boxes1, Tensor boxes2, float eps=1e-07) -> Tensor");
  m.def(
      "pairwise_box_iou_backward(Tensor grad, Tensor boxes1, Tensor boxes2, str kind, float eps) "
      "-> (Tensor, Tensor)");
  m.def("generalized_box_iou_loss(Tensor boxes1, Tensor boxes2, float eps=1e-07) -> Tensor");
  m.def("distance_box_iou_loss(Tensor boxes1, Tensor boxes2, float eps=1e-07) -> Tensor");
  m.def("complete_box_iou_loss(Tensor boxes1, Tensor boxes2, float eps=1e-07) -> Tensor");
  m.def(
      "box_iou_loss_backward(Tensor grad, Tensor boxes1, Tensor boxes2, str kind, float eps) "
      "-> (Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("box_iou", TORCH_BOX(&box_iou));
  m.impl("generalized_box_iou", TORCH_BOX(&generalized_box_iou));
  m.impl("distance_box_iou", TORCH_BOX(&distance_box_iou));
  m.impl("complete_box_iou", TORCH_BOX(&complete_box_iou));
  m.impl("pairwise_box_iou_backward", TORCH_BOX(&pairwise_box_iou_backward));
  m.impl("generalized_box_iou_loss", TORCH_BOX(&generalized_box_iou_loss));
  m.impl("distance_box_iou_loss", TORCH_BOX(&distance_box_iou_loss));
  m.impl("complete_box_iou_loss", TORCH_BOX(&complete_box_iou_loss));
  m.impl("box_iou_loss_backward", TORCH_BOX(&box_iou_loss_backward));
}

}  // namespace
}  // namespace gcv

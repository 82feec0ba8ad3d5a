// The room's operators for CUDA tensors; and, in the emulated build, the same code as operators of their own
// for CPU tensors.
#include <array>
#include <tuple>

#include "common/torch_cuda.h"
#include "yolo/yolo_arguments.h"
#include "yolo/yolo_cuda.h"

namespace gcv {
namespace {

std::tuple<Tensor, Tensor> yolo_decode(Tensors preds, Anchors anchors, Integers strides, std::string version,
                                       int64_t boxes_per_cell, int64_t reg_max) {
  const YoloMaps m = yolo_maps("yolo_decode", preds, {anchors, strides, version, boxes_per_cell, reg_max});
  const YoloDecoded out(preds[0], m);
  on_current_stream(preds[0], yolo_decode_cuda)(out.params(m));
  return {out.boxes, torch::stable::transpose(out.scores, 1, 2)};
}

Tensor yolo_decode_backward(Tensor grad_boxes, Tensor grad_scores, Tensors preds, Anchors anchors,
                            Integers strides, std::string version, int64_t boxes_per_cell, int64_t reg_max) {
  YoloDecodeBackwardParams p = yolo_backward_params(grad_boxes, grad_scores, preds,
                                                    {anchors, strides, version, boxes_per_cell, reg_max});
  const Tensor grad_maps = torch::stable::new_empty(preds[0], {p.maps.batch, p.maps.numbers});
  p.grad_maps = grad_maps.mutable_data_ptr();
  on_current_stream(preds[0], yolo_decode_backward_cuda)(p);
  return grad_maps;
}

struct Sorted {
  Tensor keys, order;
};

// Along the last dimension, highest first, ties by index.
Sorted sort_descending(const Tensor& keys) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(keys), from(std::optional<bool>(true)), from(int64_t{-1}),
                                    from(true)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

void detect(const YoloDetectParams& p, const Tensor& like) {
  const CurrentStream stream(like);
  const ScalarType compute = p.maps.dtype == DType::f64 ? ScalarType::Double : ScalarType::Float;
  const Tensor keys = torch::stable::new_empty(like, {p.maps.batch, yolo_candidates(p)}, compute);
  const Tensor best_class =
      torch::stable::new_empty(like, {p.multi_label ? 0 : p.maps.batch, p.maps.boxes}, ScalarType::Int);
  auto* classes = static_cast<int32_t*>(best_class.mutable_data_ptr());
  check_cuda(yolo_keys_cuda({p, keys.mutable_data_ptr(), classes}, stream.get()));
  const Sorted sorted = sort_descending(keys);
  const Tensor workspace = new_workspace(like, yolo_greedy_cuda_workspace_bytes(p));
  check_cuda(yolo_greedy_cuda({p, sorted.keys.const_data_ptr(), sorted.order.const_data_ptr<int64_t>(),
                               classes, workspace.mutable_data_ptr()},
                              stream.get()));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> yolo_detect(
    Tensors preds, Anchors anchors, Integers strides, std::string version, double score_threshold,
    double iou_threshold, int64_t max_detections, bool class_agnostic, bool multi_label,
    int64_t max_candidates, std::optional<Tensor> letterbox, int64_t boxes_per_cell, int64_t reg_max) {
  YoloDetectParams p = yolo_detect_params(
      preds, {anchors, strides, version, boxes_per_cell, reg_max},
      {score_threshold, iou_threshold, max_detections, class_agnostic, multi_label, max_candidates},
      letterbox);
  const YoloDetections out(preds[0], p.maps.batch, max_detections);
  out.put_into(p);
  detect(p, preds[0]);
  return {out.boxes, out.scores, out.labels, out.counts};
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "yolo_decode(Tensor[] preds, float[]? anchors, int[] strides, str version=\"v8\", int "
      "boxes_per_cell=2, "
      "int reg_max=16) -> (Tensor, Tensor)");
  m.def(
      "yolo_decode_backward(Tensor grad_boxes, Tensor grad_scores, Tensor[] preds, float[]? anchors, "
      "int[] strides, str version=\"v8\", int boxes_per_cell=2, int reg_max=16) -> Tensor");
  m.def(
      "yolo_detect(Tensor[] preds, float[]? anchors, int[] strides, str version=\"v8\", "
      "float score_threshold=0.25, float iou_threshold=0.45, int max_detections=300, "
      "bool class_agnostic=False, bool multi_label=False, int max_candidates=30000, "
      "Tensor? letterbox=None, int boxes_per_cell=2, int reg_max=16) -> (Tensor, Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("yolo_decode", TORCH_BOX(&yolo_decode));
  m.impl("yolo_decode_backward", TORCH_BOX(&yolo_decode_backward));
  m.impl("yolo_detect", TORCH_BOX(&yolo_detect));
}

}  // namespace
}  // namespace gcv

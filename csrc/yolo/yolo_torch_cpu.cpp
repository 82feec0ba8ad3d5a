// The room's operators for CPU tensors.
#include <algorithm>
#include <tuple>

#include "common/share_out.h"
#include "yolo/yolo_arguments.h"

namespace gcv {
namespace {

// Fewer numbers than this per thread, some 0.1 ms, are not worth waking one for.
constexpr int64_t kNumbersPerTask = 65536;

// Blocks of cells for a thread.
int64_t block_grain(const YoloMaps& m) {
  return std::max<int64_t>(1, kNumbersPerTask / (kYoloBlock * std::max<int64_t>(1, m.classes)));
}

std::tuple<Tensor, Tensor> yolo_decode(Tensors preds, Anchors anchors, Integers strides, std::string version,
                                       int64_t boxes_per_cell, int64_t reg_max) {
  const YoloMaps m = yolo_maps("yolo_decode", preds, {anchors, strides, version, boxes_per_cell, reg_max});
  const YoloDecoded out(preds[0], m);
  const YoloDecodeParams p = out.params(m);
  torch::stable::parallel_for(0, m.batch * yolo_blocks(m), block_grain(m),
                              [&](int64_t begin, int64_t end) { yolo_decode_cpu(p, begin, end); });
  return {out.boxes, torch::stable::transpose(out.scores, 1, 2)};
}

Tensor yolo_decode_backward(Tensor grad_boxes, Tensor grad_scores, Tensors preds, Anchors anchors,
                            Integers strides, std::string version, int64_t boxes_per_cell, int64_t reg_max) {
  YoloDecodeBackwardParams p = yolo_backward_params(grad_boxes, grad_scores, preds,
                                                    {anchors, strides, version, boxes_per_cell, reg_max});
  const Tensor grad_maps = new_output(preds[0], Shape{p.maps.batch, p.maps.numbers});
  p.grad_maps = grad_maps.mutable_data_ptr();
  torch::stable::parallel_for(0, p.maps.batch * yolo_blocks(p.maps), block_grain(p.maps),
                              [&](int64_t begin, int64_t end) { yolo_decode_backward_cpu(p, begin, end); });
  return grad_maps;
}

void run_images(const YoloDetectParams& p) {
  const int64_t batch = p.maps.batch, useful_threads = batch * p.maps.numbers / kNumbersPerTask;
  share_out(batch, 1, useful_threads, yolo_detect_workspace_bytes(p),
            [&](void* workspace, int64_t begin, int64_t end) { yolo_detect_cpu(p, workspace, begin, end); });
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
  run_images(p);
  return {out.boxes, out.scores, out.labels, out.counts};
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("yolo_decode", TORCH_BOX(&yolo_decode));
  m.impl("yolo_decode_backward", TORCH_BOX(&yolo_decode_backward));
  m.impl("yolo_detect", TORCH_BOX(&yolo_detect));
}

}  // namespace
}  // namespace gcv

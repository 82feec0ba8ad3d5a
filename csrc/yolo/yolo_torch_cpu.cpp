// The room's operators for CPU tensors.
#include <algorithm>
#include <atomic>
#include <tuple>

#include "common/scratch.h"
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

// A thread takes the next image when it is done with one; each has a workspace of its own.
void run_images(const YoloDetectParams& p) {
  const int64_t batch = p.maps.batch, useful = batch * p.maps.numbers / kNumbersPerTask;
  const int64_t most = std::min<int64_t>(torch::stable::get_num_threads(), batch);
  const int64_t threads = std::max<int64_t>(1, std::min(most, useful));
  const size_t bytes = yolo_detect_workspace_bytes(p);
  const Scratch scratch(bytes * size_t(threads));
  char* base = static_cast<char*>(scratch.data());
  if (threads == 1) {
    yolo_detect_cpu(p, base, 0, batch);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) {
      for (int64_t image = next++; image < batch; image = next++)
        yolo_detect_cpu(p, base + bytes * size_t(thread), image, image + 1);
    }
  });
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

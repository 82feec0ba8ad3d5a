// Encoding, decoding, clipping, removal of small boxes and format conversion for CUDA tensors; in the
// emulated build, for CPU tensors.
#include "boxes/coding_checks.h"
#include "boxes/coding_cuda.h"
#include "common/torch_cuda.h"

namespace gcv {
namespace {

Tensor box_encode(const Tensor& reference_boxes, const Tensor& proposals, std::vector<double> weights) {
  return box_encode_with(reference_boxes, proposals, weights,
                         on_current_stream(reference_boxes, box_encode_cuda));
}

std::tuple<Tensor, Tensor> box_encode_backward(const Tensor& grad, const Tensor& reference_boxes,
                                               const Tensor& proposals, std::vector<double> weights) {
  return box_encode_backward_with(grad, reference_boxes, proposals, weights,
                                  on_current_stream(reference_boxes, box_encode_backward_cuda));
}

Tensor box_decode(const Tensor& deltas, const Tensor& anchors, std::vector<double> weights, double clip) {
  return box_decode_with(deltas, anchors, weights, clip, on_current_stream(deltas, box_decode_cuda));
}

std::tuple<Tensor, Tensor> box_decode_backward(const Tensor& grad, const Tensor& deltas,
                                               const Tensor& anchors, std::vector<double> weights,
                                               double clip) {
  return box_decode_backward_with(grad, deltas, anchors, weights, clip,
                                  on_current_stream(deltas, box_decode_backward_cuda));
}

Tensor clip_boxes(const Tensor& boxes, std::vector<int64_t> size) {
  return clip_boxes_with(boxes, size, on_current_stream(boxes, clip_boxes_cuda));
}

Tensor clip_boxes_backward(const Tensor& grad, const Tensor& boxes, std::vector<int64_t> size) {
  return clip_boxes_backward_with(grad, boxes, size, on_current_stream(boxes, clip_boxes_backward_cuda));
}

Tensor box_convert(const Tensor& boxes, const std::string& in_fmt, const std::string& out_fmt) {
  return box_convert_with(boxes, in_fmt, out_fmt, on_current_stream(boxes, box_convert_cuda));
}

Tensor box_convert_backward(const Tensor& grad, const Tensor& boxes, const std::string& in_fmt,
                            const std::string& out_fmt) {
  return box_convert_backward_with(grad, boxes, in_fmt, out_fmt,
                                   on_current_stream(boxes, box_convert_backward_cuda));
}

Tensor remove_small_boxes(const Tensor& boxes, double min_size) {
  check_remove_small_boxes(boxes);
  const TensorRows rows = rows_of(boxes, 4);
  const SmallBoxesParams p = small_boxes_params(rows, min_size);
  Tensor indices = torch::stable::new_empty(boxes, {p.n}, ScalarType::Long);
  const Tensor count = torch::stable::new_empty(boxes, {1}, ScalarType::Long);
  const Tensor workspace = new_workspace(boxes, remove_small_boxes_cuda_workspace_bytes(p));
  const CurrentStream stream(boxes);
  check_cuda(remove_small_boxes_cuda(p, workspace.mutable_data_ptr(), indices.mutable_data_ptr<int64_t>(),
                                     count.mutable_data_ptr<int64_t>(), stream.get()));
  return torch::stable::narrow(indices, 0, 0, read_count(count));
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def("box_encode(Tensor reference_boxes, Tensor proposals, float[] weights) -> Tensor");
  m.def(
      "box_encode_backward(Tensor grad, Tensor reference_boxes, Tensor proposals, float[] weights) "
      "-> (Tensor, Tensor)");
  m.def("box_decode(Tensor deltas, Tensor anchors, float[] weights, float clip) -> Tensor");
  m.def(
      "box_decode_backward(Tensor grad, Tensor deltas, Tensor anchors, float[] weights, float clip) "
      "-> (Tensor, Tensor)");
  m.def("clip_boxes(Tensor boxes, SymInt[] size) -> Tensor");
  m.def("clip_boxes_backward(Tensor grad, Tensor boxes, SymInt[] size) -> Tensor");
  m.def("remove_small_boxes(Tensor boxes, float min_size) -> Tensor");
  m.def("box_convert(Tensor boxes, str in_fmt, str out_fmt) -> Tensor");
  m.def("box_convert_backward(Tensor grad, Tensor boxes, str in_fmt, str out_fmt) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("box_encode", TORCH_BOX(&box_encode));
  m.impl("box_encode_backward", TORCH_BOX(&box_encode_backward));
  m.impl("box_decode", TORCH_BOX(&box_decode));
  m.impl("box_decode_backward", TORCH_BOX(&box_decode_backward));
  m.impl("clip_boxes", TORCH_BOX(&clip_boxes));
  m.impl("clip_boxes_backward", TORCH_BOX(&clip_boxes_backward));
  m.impl("remove_small_boxes", TORCH_BOX(&remove_small_boxes));
  m.impl("box_convert", TORCH_BOX(&box_convert));
  m.impl("box_convert_backward", TORCH_BOX(&box_convert_backward));
}

}  // namespace
}  // namespace gcv

// RoI align of CUDA tensors; in the emulated build, of CPU tensors.
#include "common/torch_cuda.h"
#include "roi/roi_align_checks.h"
#include "roi/roi_align_cuda.h"

namespace gcv {
namespace {

// On a GPU, looking would wait for it: a region of no image is NaN.
void check_images([[maybe_unused]] const char* op, [[maybe_unused]] const TensorRegions& boxes,
                  [[maybe_unused]] int64_t images) {
#ifdef GCV_EMULATED
  check_images_of(op, boxes, images);
#endif
}

// Runs a launcher with the workspace that it asks for.
template <class Params>
auto on_stream_of(const Tensor& tensor, size_t (*workspace_bytes)(const Params&),
                  cudaError_t (*launch)(const Params&, void*, cudaStream_t)) {
  return [&tensor, workspace_bytes, launch](const char* op, const TensorRegions& boxes, const Params& p) {
    check_images(op, boxes, p.regions.batch);
    const CurrentStream stream(tensor);
    const Tensor workspace = new_workspace(tensor, workspace_bytes(p));
    check_cuda(launch(p, workspace.mutable_data_ptr(), stream.get()));
  };
}

auto forward_of(const Tensor& tensor) {
  return on_stream_of(tensor, roi_align_cuda_workspace_bytes, roi_align_cuda);
}

auto backward_of(const Tensor& tensor) {
  return on_stream_of(tensor, roi_align_backward_cuda_workspace_bytes, roi_align_backward_cuda);
}

Tensor roi_align(const Tensor& input, const Tensor& boxes, Numbers output_size, double spatial_scale,
                 int64_t sampling_ratio, bool aligned, const std::string& mode, bool, bool channels_last) {
  return roi_align_with(input, boxes, output_size, spatial_scale, sampling_ratio, aligned, mode,
                        channels_last, forward_of(input));
}

std::tuple<Tensor, Tensor> roi_align_backward(const Tensor& grad, const Tensor& boxes,
                                              std::optional<Tensor> input, Numbers input_size,
                                              double spatial_scale, int64_t sampling_ratio, bool aligned,
                                              const std::string& mode, bool differentiable_boxes,
                                              bool channels_last) {
  return roi_align_backward_with(grad, boxes, input, input_size, spatial_scale, sampling_ratio, aligned, mode,
                                 differentiable_boxes, channels_last, backward_of(grad));
}

Tensor multiscale_roi_align(Tensors features, const Tensor& boxes, Numbers output_size, Scales scales,
                            int64_t sampling_ratio, int64_t canonical_scale, int64_t canonical_level,
                            bool aligned) {
  return multiscale_roi_align_with(features, boxes, output_size, scales, sampling_ratio, canonical_scale,
                                   canonical_level, aligned, forward_of(boxes));
}

Tensors multiscale_roi_align_backward(const Tensor& grad, const Tensor& boxes, Numbers feature_sizes,
                                      Scales scales, int64_t sampling_ratio, int64_t canonical_scale,
                                      int64_t canonical_level, bool aligned, bool channels_last) {
  return multiscale_roi_align_backward_with(grad, boxes, feature_sizes, scales, sampling_ratio,
                                            canonical_scale, canonical_level, aligned, channels_last,
                                            backward_of(grad));
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "roi_align(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0, "
      "int sampling_ratio=-1, bool aligned=False, str mode=\"avg\", bool differentiable_boxes=False, "
      "bool channels_last=False) -> Tensor");
  m.def(
      "roi_align_backward(Tensor grad, Tensor boxes, Tensor? input, SymInt[] input_size, "
      "float spatial_scale, int sampling_ratio, bool aligned, str mode, bool differentiable_boxes, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "multiscale_roi_align(Tensor[] features, Tensor boxes, SymInt[] output_size, float[] scales, "
      "int sampling_ratio, int canonical_scale=224, int canonical_level=4, bool aligned=False) -> Tensor");
  m.def(
      "multiscale_roi_align_backward(Tensor grad, Tensor boxes, SymInt[] feature_sizes, float[] scales, "
      "int sampling_ratio, int canonical_scale, int canonical_level, bool aligned, bool channels_last) "
      "-> Tensor[]");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
  m.impl("multiscale_roi_align", TORCH_BOX(&multiscale_roi_align));
  m.impl("multiscale_roi_align_backward", TORCH_BOX(&multiscale_roi_align_backward));
}

}  // namespace
}  // namespace gcv

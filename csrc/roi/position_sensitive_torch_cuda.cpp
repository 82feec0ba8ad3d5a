// Position-sensitive regions of CUDA tensors; in the emulated build, of CPU tensors.
#include "common/torch_cuda.h"
#include "roi/position_sensitive_checks.h"
#include "roi/position_sensitive_cuda.h"

namespace gcv {
namespace {

// A function of Params that launches on the current stream of the tensor's device.
template <class Params>
auto launching(const Tensor& tensor, cudaError_t (*launch)(const Params&, cudaStream_t)) {
  return [&tensor, launch](const char* op, const TensorRegions& regions, const Params& p) {
    if (tensor.is_cpu()) check_images_of(op, regions, p.geometry.images);
    on_current_stream(tensor, launch)(p);
  };
}

Tensor ps_roi_align(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                    double spatial_scale, int64_t sampling_ratio, bool) {
  return ps_forward_with("ps_roi_align", input, boxes, output_size, {spatial_scale, sampling_ratio, false},
                         launching(input, ps_forward_cuda));
}

Tensor ps_roi_pool(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                   double spatial_scale) {
  return ps_forward_with("ps_roi_pool", input, boxes, output_size, {spatial_scale, 0, true},
                         launching(input, ps_forward_cuda));
}

Tensor ps_roi_align_backward(const Tensor& grad, const Tensor& boxes, std::vector<int64_t> input_size,
                             double spatial_scale, int64_t sampling_ratio) {
  return ps_backward_with("ps_roi_align_backward", grad, boxes, input_size,
                          {spatial_scale, sampling_ratio, false}, launching(grad, ps_backward_cuda));
}

Tensor ps_roi_pool_backward(const Tensor& grad, const Tensor& boxes, std::vector<int64_t> input_size,
                            double spatial_scale) {
  return ps_backward_with("ps_roi_pool_backward", grad, boxes, input_size, {spatial_scale, 0, true},
                          launching(grad, ps_backward_cuda));
}

Tensor ps_roi_align_boxes_backward(const Tensor& grad, const Tensor& input, const Tensor& boxes,
                                   double spatial_scale, int64_t sampling_ratio) {
  return ps_boxes_backward_with("ps_roi_align_boxes_backward", grad, input, boxes,
                                {spatial_scale, sampling_ratio, false},
                                launching(input, ps_boxes_backward_cuda));
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "ps_roi_align(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0, "
      "int sampling_ratio=-1, bool differentiable_boxes=False) -> Tensor");
  m.def(
      "ps_roi_align_backward(Tensor grad, Tensor boxes, SymInt[] input_size, float spatial_scale, "
      "int sampling_ratio) -> Tensor");
  m.def(
      "ps_roi_align_boxes_backward(Tensor grad, Tensor input, Tensor boxes, float spatial_scale, "
      "int sampling_ratio) -> Tensor");
  m.def("ps_roi_pool(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0) -> Tensor");
  m.def(
      "ps_roi_pool_backward(Tensor grad, Tensor boxes, SymInt[] input_size, float spatial_scale) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("ps_roi_align", TORCH_BOX(&ps_roi_align));
  m.impl("ps_roi_align_backward", TORCH_BOX(&ps_roi_align_backward));
  m.impl("ps_roi_align_boxes_backward", TORCH_BOX(&ps_roi_align_boxes_backward));
  m.impl("ps_roi_pool", TORCH_BOX(&ps_roi_pool));
  m.impl("ps_roi_pool_backward", TORCH_BOX(&ps_roi_pool_backward));
}

}  // namespace
}  // namespace gcv

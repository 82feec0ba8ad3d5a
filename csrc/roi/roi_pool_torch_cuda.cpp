// RoI pooling of CUDA tensors; in the emulated build, of CPU tensors.
#include <vector>

#include "common/torch_cuda.h"
#include "roi/roi_pool_checks.h"
#include "roi/roi_pool_cuda.h"

namespace gcv {
namespace {

// On a GPU a look at the indices would wait for it.
void check_images(const char* op, const Tensor& tensor, const TensorRegions& regions) {
  if (tensor.is_cpu()) check_images_of(op, regions, tensor.size(0));
}

Tensor roi_pool(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                double spatial_scale) {
  return roi_pool_with(input, boxes, output_size, spatial_scale,
                       [&](const TensorRegions& regions, const RoiPoolParams& p) {
                         check_images("roi_pool", input, regions);
                         on_current_stream(input, roi_pool_cuda)(p);
                       });
}

Tensor roi_pool_pick(const Tensor& values, const Tensor& input, const Tensor& boxes,
                     std::vector<int64_t> output_size, double spatial_scale) {
  return roi_pool_pick_with(values, input, boxes, output_size, spatial_scale,
                            [&](const TensorRegions& regions, const RoiPoolPickParams& p) {
                              check_images("roi_pool_pick", input, regions);
                              on_current_stream(input, roi_pool_pick_cuda)(p);
                            });
}

Tensor roi_pool_backward(const Tensor& grad, const Tensor& input, const Tensor& boxes, double spatial_scale) {
  return roi_pool_backward_with(
      grad, input, boxes, spatial_scale, [&](const TensorRegions& regions, const RoiPoolBackwardParams& p) {
        check_images("roi_pool_backward", input, regions);
        const Tensor maxima = torch::stable::new_empty(grad, grad.sizes(), ScalarType::Int);
        const CurrentStream stream(input);
        check_cuda(roi_pool_backward_cuda(p, maxima.mutable_data_ptr<int32_t>(), stream.get()));
      });
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def("roi_pool(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0) -> Tensor");
  m.def("roi_pool_backward(Tensor grad, Tensor input, Tensor boxes, float spatial_scale=1.0) -> Tensor");
  m.def(
      "roi_pool_pick(Tensor values, Tensor input, Tensor boxes, SymInt[] output_size, float "
      "spatial_scale=1.0) "
      "-> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("roi_pool", TORCH_BOX(&roi_pool));
  m.impl("roi_pool_backward", TORCH_BOX(&roi_pool_backward));
  m.impl("roi_pool_pick", TORCH_BOX(&roi_pool_pick));
}

}  // namespace
}  // namespace gcv

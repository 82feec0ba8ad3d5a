// Spatial pyramid pooling for CUDA tensors; in the emulated build, for CPU tensors.
#include "common/torch_cuda.h"
#include "roi/pyramid_checks.h"
#include "roi/pyramid_cuda.h"

namespace gcv {
namespace {

Tensor spatial_pyramid_pool(const Tensor& input, std::vector<int64_t> levels, const std::string& mode,
                            const std::string& bins, std::optional<Tensor> boxes, double spatial_scale) {
  return pyramid_pool_with({"spatial_pyramid_pool", levels, mode, bins, boxes, spatial_scale}, input,
                           on_current_stream(input, pyramid_pool_cuda));
}

Tensor spatial_pyramid_pool_backward(const Tensor& grad, const Tensor& input, std::vector<int64_t> levels,
                                     const std::string& mode, const std::string& bins,
                                     std::optional<Tensor> boxes, double spatial_scale) {
  return pyramid_backward_with({"spatial_pyramid_pool_backward", levels, mode, bins, boxes, spatial_scale},
                               grad, input, [&](const PyramidBackwardParams& p) {
                                 const int64_t places = p.pyramid.average ? 0 : grad.numel();
                                 const Tensor workspace =
                                     new_workspace(input, size_t(places) * sizeof(int32_t));
                                 const CurrentStream stream(input);
                                 check_cuda(pyramid_backward_cuda(
                                     p, static_cast<int32_t*>(workspace.mutable_data_ptr()), stream.get()));
                               });
}

Tensor spatial_pyramid_pool_at(const Tensor& values, const Tensor& input, std::vector<int64_t> levels,
                               const std::string& bins, std::optional<Tensor> boxes, double spatial_scale) {
  return pyramid_at_with({"spatial_pyramid_pool_at", levels, "max", bins, boxes, spatial_scale}, values,
                         input, on_current_stream(input, pyramid_at_cuda));
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "spatial_pyramid_pool(Tensor input, int[] levels, str mode, str bins, Tensor? boxes, "
      "float spatial_scale) -> Tensor");
  m.def(
      "spatial_pyramid_pool_backward(Tensor grad, Tensor input, int[] levels, str mode, str bins, Tensor? "
      "boxes, "
      "float spatial_scale) -> Tensor");
  m.def(
      "spatial_pyramid_pool_at(Tensor values, Tensor input, int[] levels, str bins, Tensor? boxes, "
      "float spatial_scale) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("spatial_pyramid_pool", TORCH_BOX(&spatial_pyramid_pool));
  m.impl("spatial_pyramid_pool_backward", TORCH_BOX(&spatial_pyramid_pool_backward));
  m.impl("spatial_pyramid_pool_at", TORCH_BOX(&spatial_pyramid_pool_at));
}

}  // namespace
}  // namespace gcv

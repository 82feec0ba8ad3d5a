// The demo room's operators for CUDA tensors; in the emulated build, for CPU tensors.
#include "common/torch_cuda.h"
#include "demo/demo_checks.h"
#include "demo/demo_cuda.h"

namespace gcv {
namespace {

Tensor scaled_tanh(const Tensor& x, const Tensor& scale) {
  return scaled_tanh_with(x, scale, on_current_stream(x, scaled_tanh_cuda));
}

std::tuple<Tensor, Tensor> scaled_tanh_backward(const Tensor& grad, const Tensor& x, const Tensor& scale) {
  return scaled_tanh_backward_with(grad, x, scale, on_current_stream(x, scaled_tanh_backward_cuda));
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def("scaled_tanh(Tensor x, Tensor scale) -> Tensor");
  m.def("scaled_tanh_backward(Tensor grad, Tensor x, Tensor scale) -> (Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("scaled_tanh", TORCH_BOX(&scaled_tanh));
  m.impl("scaled_tanh_backward", TORCH_BOX(&scaled_tanh_backward));
}

}  // namespace
}  // namespace gcv

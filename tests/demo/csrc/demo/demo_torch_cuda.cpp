// The demo room's operators for CUDA tensors; in the emulated build, for CPU tensors.
#include "demo/demo_checks.h"
#include "demo/demo_cuda.h"

#ifdef GCV_EMULATED
extern "C" const char* gcv_emulator_last_error();
#else
#include <torch/csrc/stable/accelerator.h>
#endif

namespace gcv {
namespace {

#ifdef GCV_EMULATED

template <class Launch>
void on_current_stream(const Tensor&, Launch launch) {
  const cudaError_t error = launch(nullptr);
  GCV_REQUIRE(error == cudaSuccess, "CUDA error: ", cudaGetErrorString(error), ": ",
              gcv_emulator_last_error());
}

#else

template <class Launch>
void on_current_stream(const Tensor& tensor, Launch launch) {
  const torch::stable::accelerator::DeviceGuard guard(tensor.get_device());
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device(), &stream));
  STD_CUDA_CHECK(launch(static_cast<cudaStream_t>(stream)));
}

#endif

Tensor scaled_tanh(const Tensor& x, const Tensor& scale) {
  return scaled_tanh_with(x, scale, [&](const ScaledTanhParams& p) {
    on_current_stream(x, [&](cudaStream_t stream) { return scaled_tanh_cuda(p, stream); });
  });
}

std::tuple<Tensor, Tensor> scaled_tanh_backward(const Tensor& grad, const Tensor& x, const Tensor& scale) {
  return scaled_tanh_backward_with(grad, x, scale, [&](const ScaledTanhBackwardParams& p) {
    on_current_stream(x, [&](cudaStream_t stream) { return scaled_tanh_backward_cuda(p, stream); });
  });
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

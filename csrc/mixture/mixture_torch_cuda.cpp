// The room's operators for CUDA tensors; in the emulated build, for CPU tensors.
#include "common/torch_cuda.h"
#include "mixture/mixture_checks.h"
#include "mixture/mixture_cuda.h"

namespace gcv {
namespace {

Tensor nll(const Tensor& params, const Tensor& x, int64_t channels) {
  return mixture_nll_with(params, x, channels, on_current_stream(params, mixture_nll_cuda));
}

Tensor nll_backward(const Tensor& grad, const Tensor& params, const Tensor& x, int64_t channels) {
  return mixture_nll_backward_with(grad, params, x, channels,
                                   on_current_stream(params, mixture_nll_backward_cuda));
}

Tensor sample(const Tensor& params, int64_t channels, int64_t seed, double temperature,
              std::optional<Tensor> noise) {
  return mixture_sample_with(params, channels, seed, temperature, noise,
                             on_current_stream(params, mixture_sample_cuda));
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def("mixture_logistics_nll(Tensor params, Tensor x, int channels=3) -> Tensor");
  m.def("mixture_logistics_nll_backward(Tensor grad, Tensor params, Tensor x, int channels=3) -> Tensor");
  m.def(
      "mixture_logistics_sample(Tensor params, int channels=3, int seed=0, float temperature=1.0, "
      "Tensor? noise=None) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("mixture_logistics_nll", TORCH_BOX(&nll));
  m.impl("mixture_logistics_nll_backward", TORCH_BOX(&nll_backward));
  m.impl("mixture_logistics_sample", TORCH_BOX(&sample));
}

}  // namespace
}  // namespace gcv

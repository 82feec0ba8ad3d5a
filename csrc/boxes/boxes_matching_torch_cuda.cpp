// The matcher for CUDA tensors; in the emulated build, for CPU tensors.
#include "boxes/matching_checks.h"
#include "boxes/matching_cuda.h"

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

// With the tensor's device as the current one.
template <class Launch>
void on_current_stream(const Tensor& tensor, Launch launch) {
  const torch::stable::accelerator::DeviceGuard guard(tensor.get_device());
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device(), &stream));
  STD_CUDA_CHECK(launch(static_cast<cudaStream_t>(stream)));
}

#endif

Tensor match_boxes(const Tensor& gt_boxes, const Tensor& anchors, double high_threshold, double low_threshold,
                   bool allow_low_quality_matches) {
  return match_boxes_with(
      gt_boxes, anchors, high_threshold, low_threshold, allow_low_quality_matches, [&](const MatchParams& p) {
        const Tensor workspace =
            torch::stable::new_empty(anchors, {int64_t(match_cuda_workspace_bytes(p))}, ScalarType::Byte);
        on_current_stream(anchors, [&](cudaStream_t stream) {
          return match_cuda(p, workspace.mutable_data_ptr(), stream);
        });
      });
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "match_boxes(Tensor gt_boxes, Tensor anchors, float high_threshold, float low_threshold, "
      "bool allow_low_quality_matches=False) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("match_boxes", TORCH_BOX(&match_boxes));
}

}  // namespace
}  // namespace gcv

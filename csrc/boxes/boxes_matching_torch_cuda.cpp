// The matcher for CUDA tensors; in the emulated build, for CPU tensors.
#include "boxes/matching_checks.h"
#include "boxes/matching_cuda.h"
#include "common/torch_cuda.h"

namespace gcv {
namespace {

Tensor match_boxes(const Tensor& gt_boxes, const Tensor& anchors, double high_threshold, double low_threshold,
                   bool allow_low_quality_matches) {
  return match_boxes_with(gt_boxes, anchors, high_threshold, low_threshold, allow_low_quality_matches,
                          [&](const MatchParams& p) {
                            const Tensor workspace = new_workspace(anchors, match_cuda_workspace_bytes(p));
                            const CurrentStream stream(anchors);
                            check_cuda(match_cuda(p, workspace.mutable_data_ptr(), stream.get()));
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

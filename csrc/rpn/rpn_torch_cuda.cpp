// The room's operator for CUDA tensors; and, in the emulated build, the same code as an operator of its own
// for CPU tensors.
#include <tuple>

#include "common/torch_cuda.h"
#include "rpn/rpn_arguments.h"
#include "rpn/rpn_cuda.h"

namespace gcv {
namespace {

std::tuple<Tensor, Tensor, Tensor> rpn_proposals(Tensors objectness, Tensors deltas, Tensor anchors,
                                                 Numbers image_sizes, int64_t pre_nms_top_n,
                                                 int64_t post_nms_top_n, double nms_threshold,
                                                 double score_threshold, double min_size,
                                                 std::optional<Numbers> strides) {
  check_rpn_proposals(objectness, deltas, anchors, image_sizes, pre_nms_top_n, post_nms_top_n, strides);
  const CurrentStream stream(anchors);
  RpnCudaParams p{};
  p.rpn = rpn_params(objectness, deltas, anchors, image_sizes, pre_nms_top_n, strides);
  p.rpn.post_nms_top_n = post_nms_top_n;
  p.rpn.nms_threshold = nms_threshold;
  p.rpn.score_threshold = score_threshold;
  p.rpn.min_size = min_size;
  const Tensor boxes = torch::stable::new_empty(anchors, {p.rpn.batch, post_nms_top_n, 4});
  const Tensor scores = torch::stable::new_empty(anchors, {p.rpn.batch, post_nms_top_n});
  const Tensor counts = torch::stable::new_empty(anchors, {p.rpn.batch}, ScalarType::Long);
  p.rpn.boxes = boxes.mutable_data_ptr();
  p.rpn.scores = scores.mutable_data_ptr();
  p.rpn.counts = counts.mutable_data_ptr<int64_t>();
  p.chunk_rows = kRpnChunkRows;
  const Tensor workspace = new_workspace(anchors, rpn_proposals_cuda_workspace_bytes(p));
  p.workspace = workspace.mutable_data_ptr();
  check_cuda(rpn_proposals_cuda(p, stream.get()));
  return {boxes, scores, counts};
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "rpn_proposals(Tensor[] objectness, Tensor[] deltas, Tensor anchors, SymInt[] image_sizes, "
      "int pre_nms_top_n, int post_nms_top_n, float nms_threshold, float score_threshold=0.0, "
      "float min_size=0.001, SymInt[]? strides=None) -> (Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("rpn_proposals", TORCH_BOX(&rpn_proposals));
}

}  // namespace
}  // namespace gcv

// The room's operator for CPU tensors.
#include <tuple>

#include "common/share_out.h"
#include "rpn/rpn.h"
#include "rpn/rpn_arguments.h"

namespace gcv {
namespace {

// Less than this many candidates per thread, some 0.15 ms, is not worth waking one for. Most logits are only
// compared with a threshold: so many of them take as long as a candidate.
constexpr int64_t kCandidatesPerTask = 4096;
constexpr int64_t kLogitsPerCandidate = 256;

int64_t useful_threads(const RpnParams& p) {
  int64_t logits = 0;
  for (int64_t l = 0; l < p.level_count; ++l) logits += rpn_size(p.levels[l]);
  return p.batch * (rpn_selected(p) + logits / kLogitsPerCandidate) / kCandidatesPerTask;
}

void run_images(const RpnParams& p) {
  share_out(
      p.batch, 1, useful_threads(p), rpn_workspace_bytes(p),
      [&](void* workspace, int64_t begin, int64_t end) { rpn_proposals_cpu(p, workspace, begin, end); });
}

std::tuple<Tensor, Tensor, Tensor> rpn_proposals(Tensors objectness, Tensors deltas, Tensor anchors,
                                                 Numbers image_sizes, int64_t pre_nms_top_n,
                                                 int64_t post_nms_top_n, double nms_threshold,
                                                 double score_threshold, double min_size,
                                                 std::optional<Numbers> strides) {
  check_rpn_proposals(objectness, deltas, anchors, image_sizes, pre_nms_top_n, post_nms_top_n, strides);
  RpnParams p = rpn_params(objectness, deltas, anchors, image_sizes, pre_nms_top_n, strides);
  p.post_nms_top_n = post_nms_top_n;
  p.nms_threshold = nms_threshold;
  p.score_threshold = score_threshold;
  p.min_size = min_size;
  const Tensor boxes = torch::stable::new_empty(anchors, {p.batch, post_nms_top_n, 4});
  const Tensor scores = torch::stable::new_empty(anchors, {p.batch, post_nms_top_n});
  const Tensor counts = torch::stable::new_empty(anchors, {p.batch}, ScalarType::Long);
  p.boxes = boxes.mutable_data_ptr();
  p.scores = scores.mutable_data_ptr();
  p.counts = counts.mutable_data_ptr<int64_t>();

  run_images(p);
  return {boxes, scores, counts};
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) { m.impl("rpn_proposals", TORCH_BOX(&rpn_proposals)); }

}  // namespace
}  // namespace gcv

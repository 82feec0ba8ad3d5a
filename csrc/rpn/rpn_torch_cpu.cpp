// The room's operator for CPU tensors.
#include <algorithm>
#include <atomic>
#include <tuple>

#include "common/scratch.h"
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
  const int64_t work = p.batch * (rpn_selected(p) + logits / kLogitsPerCandidate);
  const int64_t most = std::min<int64_t>(torch::stable::get_num_threads(), p.batch);
  return std::max<int64_t>(1, std::min(most, work / kCandidatesPerTask));
}

// A thread takes the next image when it is done with one; each has a workspace of its own.
void run_images(const RpnParams& p) {
  const int64_t threads = useful_threads(p);
  const size_t bytes = rpn_workspace_bytes(p);
  const Scratch scratch(bytes * size_t(threads));
  char* base = static_cast<char*>(scratch.data());
  if (threads == 1) {
    rpn_proposals_cpu(p, base, 0, p.batch);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) {
      for (int64_t image = next++; image < p.batch; image = next++)
        rpn_proposals_cpu(p, base + bytes * size_t(thread), image, image + 1);
    }
  });
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

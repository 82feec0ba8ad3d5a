// The room's operator for CPU tensors.
#include <algorithm>
#include <atomic>
#include <tuple>

#include "common/scratch.h"
#include "rpn/rpn.h"
#include "rpn/rpn_arguments.h"

namespace gcv {
namespace {

// Less work than this per thread is not worth waking one for: about 0.1 ms.
constexpr int64_t kLogitsPerTask = 65536;
constexpr int64_t kCandidatesPerTask = 2048;

int64_t useful_threads(int64_t items, int64_t tasks) {
  return std::max<int64_t>(1, std::min({torch::stable::get_num_threads() + int64_t(0), items, tasks}));
}

// Runs items [0, count) one by one, each thread with a slice of the workspace of its own. They differ much in
// size, so that each thread takes the next one when it is free.
template <class Run>
void for_each_item(int64_t count, int64_t threads, size_t bytes_per_thread, const Run& run) {
  const Scratch scratch(bytes_per_thread * size_t(threads));
  char* base = static_cast<char*>(scratch.data());
  if (threads == 1) {
    run(base, 0, count);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) {
      for (int64_t item = next++; item < count; item = next++)
        run(base + bytes_per_thread * size_t(thread), item, item + 1);
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

  const Scratch state(rpn_state_bytes(p));
  const size_t bytes = rpn_workspace_bytes(p);
  int64_t logits = 0;
  for (int64_t l = 0; l < p.level_count; ++l) logits += p.batch * rpn_size(p.levels[l]);
  const int64_t items = p.batch * p.level_count, candidates = p.batch * rpn_selected(p);
  for_each_item(items, useful_threads(items, logits / kLogitsPerTask + candidates / kCandidatesPerTask),
                bytes, [&](void* workspace, int64_t begin, int64_t end) {
                  rpn_select_cpu(p, state.data(), workspace, begin, end);
                });
  for_each_item(p.batch, useful_threads(p.batch, candidates / kCandidatesPerTask), bytes,
                [&](void* workspace, int64_t begin, int64_t end) {
                  rpn_suppress_cpu(p, state.data(), workspace, begin, end);
                });
  return {boxes, scores, counts};
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) { m.impl("rpn_proposals", TORCH_BOX(&rpn_proposals)); }

}  // namespace
}  // namespace gcv

// The matcher for CPU tensors.
#include <algorithm>

#include "boxes/matching.h"
#include "boxes/matching_checks.h"
#include "common/scratch.h"

namespace gcv {
namespace {

// About 0.1 ms a thread where every anchor meets every gt; waking one for less does not pay. Reading an
// anchor and writing its match cost as much as some 16 pairs.
constexpr int64_t kPairsPerTask = int64_t(1) << 19;
constexpr int64_t kPairsPerAnchor = 16;

template <class Run>
void for_strips(const MatchParams& p, const Run& run) {
  const int64_t strips = match_strips(p);
  const int64_t grain = std::max<int64_t>(1, kPairsPerTask / (kMatchStrip * (p.gts.count + kPairsPerAnchor)));
  if (strips <= grain) {
    run(0, strips);
  } else {
    torch::stable::parallel_for(0, strips, grain, run);
  }
}

void match(const MatchParams& p) {
  if (p.gts.count == 0) {
    std::fill_n(p.matches, p.anchors.count, kBelowLowThreshold);
    return;
  }
  const Scratch scratch(match_workspace_bytes(p));
  void* workspace = scratch.data();
  match_prepare_cpu(p, workspace);
  for_strips(p, [&](int64_t begin, int64_t end) { match_strips_cpu(p, workspace, begin, end); });
  if (!p.allow_low_quality) return;
  match_best_of_gts_cpu(p, workspace);
  for_strips(p, [&](int64_t begin, int64_t end) { match_low_quality_cpu(p, workspace, begin, end); });
}

Tensor match_boxes(const Tensor& gt_boxes, const Tensor& anchors, double high_threshold, double low_threshold,
                   bool allow_low_quality_matches) {
  return match_boxes_with(gt_boxes, anchors, high_threshold, low_threshold, allow_low_quality_matches, match);
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) { m.impl("match_boxes", TORCH_BOX(&match_boxes)); }

}  // namespace
}  // namespace gcv

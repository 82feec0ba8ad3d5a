// The room's operators for CPU tensors.
#include <algorithm>
#include <tuple>
#include <vector>

#include "common/scratch.h"
#include "nms/nms.h"
#include "nms/nms_checks.h"

namespace gcv {
namespace {

// Fewer boxes than this per task are not worth waking a thread for.
constexpr int64_t kBoxesPerTask = 2048;

Tensor to_tensor(const Tensor& like, const int64_t* indices, int64_t count) {
  Tensor result = torch::stable::new_empty(like, {count}, ScalarType::Long);
  std::copy_n(indices, count, result.mutable_data_ptr<int64_t>());
  return result;
}

Tensor run_nms(const Tensor& boxes, const NmsParams& p) {
  const size_t state_bytes = nms_workspace_bytes(p);
  Scratch scratch(state_bytes + size_t(p.n) * sizeof(int64_t) + 64);
  void* state = scratch.data();
  auto* keep = reinterpret_cast<int64_t*>(static_cast<char*>(state) + state_bytes);
  const int64_t groups = nms_prepare_cpu(p, state);
  const int64_t grain = std::max<int64_t>(1, groups * kBoxesPerTask / std::max<int64_t>(1, p.n));
  if (groups <= grain) {
    nms_groups_cpu(p, state, 0, groups);
  } else {
    torch::stable::parallel_for(0, groups, grain,
                                [&](int64_t begin, int64_t end) { nms_groups_cpu(p, state, begin, end); });
  }
  return to_tensor(boxes, keep, nms_collect_cpu(p, state, keep));
}

NmsParams nms_params(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  NmsParams p{};
  p.boxes = boxes.const_data_ptr();
  p.box_stride = boxes.stride(0);
  p.coord_stride = boxes.stride(1);
  p.scores = scores.const_data_ptr();
  p.score_stride = scores.stride(0);
  p.n = boxes.size(0);
  p.dtype = kernel_dtype(boxes.scalar_type());
  p.iou_threshold = iou_threshold;
  return p;
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  check_nms("nms", boxes, scores);
  return run_nms(boxes, nms_params(boxes, scores, iou_threshold));
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs, double iou_threshold) {
  check_batched_nms(boxes, scores, idxs);
  const Tensor ids =
      idxs.scalar_type() == ScalarType::Long ? idxs : torch::stable::to(idxs, ScalarType::Long);
  NmsParams p = nms_params(boxes, scores, iou_threshold);
  p.class_ids = ids.const_data_ptr<int64_t>();
  p.class_stride = ids.stride(0);
  return run_nms(boxes, p);
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("batched_nms", TORCH_BOX(&batched_nms));
}

}  // namespace
}  // namespace gcv

// The room's operators for CPU tensors.
#include <algorithm>
#include <tuple>

#include "common/scratch.h"
#include "nms/nms.h"
#include "nms/nms_checks.h"

namespace gcv {
namespace {

// Less work than this per thread, some 0.2 ms, is not worth waking one for: on a busy machine the caller
// would wait for it far longer. Most scores of multiclass_nms are only compared with the threshold.
constexpr int64_t kBoxesPerTask = 16384;
constexpr int64_t kScoresPerTask = 65536;

// The first `count` entries in memory of their own: a view would hold on to all n.
Tensor first(const Tensor& all, int64_t count) {
  Tensor view = all;
  return torch::stable::clone(torch::stable::narrow(view, 0, 0, count));
}

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

// What the Params of every flat operator share.
template <class Params>
Params flat_params(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  Params p{};
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
  return run_nms(boxes, flat_params<NmsParams>(boxes, scores, iou_threshold));
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs, double iou_threshold) {
  check_batched_nms(boxes, scores, idxs);
  const Tensor ids =
      idxs.scalar_type() == ScalarType::Long ? idxs : torch::stable::to(idxs, ScalarType::Long);
  NmsParams p = flat_params<NmsParams>(boxes, scores, iou_threshold);
  p.class_ids = ids.const_data_ptr<int64_t>();
  p.class_stride = ids.stride(0);
  return run_nms(boxes, p);
}

std::tuple<Tensor, Tensor> soft_nms(const Tensor& boxes, const Tensor& scores, double iou_threshold,
                                    double sigma, double score_threshold, const std::string& method) {
  check_soft_nms(boxes, scores, sigma, method);
  auto p = flat_params<SoftNmsParams>(boxes, scores, iou_threshold);
  p.method = method == "linear" ? SoftNmsMethod::linear : SoftNmsMethod::gaussian;
  p.sigma = sigma;
  p.score_threshold = score_threshold;
  const Tensor keep = torch::stable::new_empty(boxes, {p.n}, ScalarType::Long);
  const Tensor decayed = torch::stable::new_empty(scores, {p.n});
  const Scratch scratch(soft_nms_workspace_bytes(p));
  const int64_t count =
      soft_nms_cpu(p, scratch.data(), keep.mutable_data_ptr<int64_t>(), decayed.mutable_data_ptr());
  return {first(keep, count), first(decayed, count)};
}

// Splits [0, items) so that each chunk owns one slice of the workspace. `scores`: how many all items look at.
template <class Run>
void for_chunks(int64_t items, int64_t scores, size_t bytes_per_chunk, const Run& run) {
  const int64_t useful = std::min(items, scores / kScoresPerTask);
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(torch::stable::get_num_threads(), useful));
  const int64_t grain = (items + threads - 1) / threads;
  const Scratch scratch(bytes_per_chunk * size_t(threads));
  char* base = static_cast<char*>(scratch.data());
  if (threads == 1) {
    run(base, 0, items);
    return;
  }
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first_chunk, int64_t last_chunk) {
    for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) {
      run(base + bytes_per_chunk * size_t(chunk), std::min(chunk * grain, items),
          std::min((chunk + 1) * grain, items));
    }
  });
}

std::tuple<Tensor, Tensor, Tensor> multiclass_nms(const Tensor& boxes, const Tensor& scores,
                                                  double iou_threshold, double score_threshold,
                                                  int64_t max_output_per_class, int64_t max_total) {
  check_multiclass_nms(boxes, scores, max_output_per_class, max_total);
  MulticlassNmsParams p{};
  p.boxes = boxes.const_data_ptr();
  p.image_stride = boxes.stride(0);
  p.box_stride = boxes.stride(1);
  p.coord_stride = boxes.stride(2);
  p.scores = scores.const_data_ptr();
  p.score_image_stride = scores.stride(0);
  p.score_class_stride = scores.stride(1);
  p.score_stride = scores.stride(2);
  p.batch = boxes.size(0);
  p.classes = scores.size(1);
  p.n = boxes.size(1);
  p.dtype = kernel_dtype(boxes.scalar_type());
  p.iou_threshold = iou_threshold;
  p.score_threshold = score_threshold;
  p.max_output_per_class = max_output_per_class;
  p.max_total = max_total;
  const Tensor indices = torch::stable::new_empty(boxes, {p.batch, max_total, 2}, ScalarType::Long);
  const Tensor out_scores = torch::stable::new_empty(scores, {p.batch, max_total});
  const Tensor counts = torch::stable::new_empty(boxes, {p.batch}, ScalarType::Long);
  p.indices = indices.mutable_data_ptr<int64_t>();
  p.out_scores = out_scores.mutable_data_ptr();
  p.counts = counts.mutable_data_ptr<int64_t>();
  const int64_t tasks = p.batch * p.classes;
  const int64_t merged = p.classes * p.most_per_class();
  GCV_REQUIRE(merged <= UINT32_MAX,
              "multiclass_nms: at most 4294967295 detections per image before the merge are supported, got ",
              merged, " (classes times max_output_per_class).");
  const Scratch kept(size_t(p.batch * merged + tasks) * sizeof(uint32_t));
  p.kept = static_cast<uint32_t*>(kept.data());
  p.kept_count = p.kept + tasks * p.most_per_class();
  const size_t bytes = multiclass_nms_workspace_bytes(p);
  for_chunks(tasks, tasks * p.n, bytes, [&](void* workspace, int64_t begin, int64_t end) {
    multiclass_nms_classes_cpu(p, workspace, begin, end);
  });
  for_chunks(p.batch, p.batch * merged, bytes, [&](void* workspace, int64_t begin, int64_t end) {
    multiclass_nms_merge_cpu(p, workspace, begin, end);
  });
  return {indices, out_scores, counts};
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("batched_nms", TORCH_BOX(&batched_nms));
  m.impl("soft_nms", TORCH_BOX(&soft_nms));
  m.impl("multiclass_nms", TORCH_BOX(&multiclass_nms));
}

}  // namespace
}  // namespace gcv

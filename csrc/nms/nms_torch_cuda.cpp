// The room's operators for CUDA tensors; and, in the emulated build, the same code as operators of their own
// for CPU tensors.
#include <algorithm>
#include <array>
#include <string>
#include <tuple>

#include "common/torch_cuda.h"
#include "nms/nms_checks.h"
#include "nms/nms_cuda.h"

namespace gcv {
namespace {

struct Sorted {
  Tensor values;
  Tensor order;
};

// Along the last dimension, highest first, ties by index.
Sorted sort_descending(const Tensor& keys) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(keys), from(std::optional<bool>(true)), from(int64_t{-1}),
                                    from(true)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

Tensor new_indices(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef shape) {
  return torch::stable::new_empty(like, shape, ScalarType::Long);
}

Tensor sort_by_score(const Tensor& scores, cudaStream_t stream) {
  const Tensor keys = torch::stable::new_empty(scores, {scores.size(0)});
  SortKeysParams p{};
  p.scores = scores.const_data_ptr();
  p.outer = p.inner = 1;
  p.n = scores.size(0);
  p.score_stride = scores.stride(0);
  p.dtype = kernel_dtype(scores.scalar_type());
  p.keys = keys.mutable_data_ptr();
  check_cuda(sort_keys_cuda(p, stream));
  return sort_descending(keys).order;
}

Tensor run_nms(const Tensor& boxes, const Tensor& scores, const Tensor* class_ids, double iou_threshold) {
  const int64_t n = boxes.size(0);
  if (n == 0) return new_indices(boxes, {0});
  const CurrentStream stream(boxes);
  const Tensor order = sort_by_score(scores, stream.get());
  Tensor keep = new_indices(boxes, {n});
  const Tensor count = new_indices(boxes, {1});
  NmsCudaParams p{};
  p.boxes = boxes.const_data_ptr();
  p.box_stride = boxes.stride(0);
  p.coord_stride = boxes.stride(1);
  p.order = order.const_data_ptr<int64_t>();
  p.class_ids = class_ids != nullptr ? class_ids->const_data_ptr<int64_t>() : nullptr;
  p.class_stride = class_ids != nullptr ? class_ids->stride(0) : 0;
  p.n = n;
  p.dtype = kernel_dtype(boxes.scalar_type());
  p.iou_threshold = iou_threshold;
  p.chunk_rows = kNmsChunkRows;
  p.keep = keep.mutable_data_ptr<int64_t>();
  p.count = count.mutable_data_ptr<int64_t>();
  const Tensor workspace = new_workspace(boxes, nms_cuda_workspace_bytes(p));
  p.workspace = workspace.mutable_data_ptr();
  check_cuda(nms_cuda(p, stream.get()));
  return torch::stable::narrow(keep, 0, 0, read_count(count));
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  check_nms("nms", boxes, scores);
  return run_nms(boxes, scores, nullptr, iou_threshold);
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs, double iou_threshold) {
  check_batched_nms(boxes, scores, idxs);
  const Tensor ids =
      idxs.scalar_type() == ScalarType::Long ? idxs : torch::stable::to(idxs, ScalarType::Long);
  return run_nms(boxes, scores, &ids, iou_threshold);
}

std::tuple<Tensor, Tensor> soft_nms(const Tensor& boxes, const Tensor& scores, double iou_threshold,
                                    double sigma, double score_threshold, const std::string& method) {
  check_soft_nms(boxes, scores, sigma, method);
  const int64_t n = boxes.size(0);
  if (n == 0) return {new_indices(boxes, {0}), torch::stable::new_empty(scores, {0})};
  const CurrentStream stream(boxes);
  Tensor keep = new_indices(boxes, {n});
  Tensor kept_scores = torch::stable::new_empty(scores, {n});
  const Tensor count = new_indices(boxes, {1});
  SoftNmsCudaParams p{};
  p.boxes = boxes.const_data_ptr();
  p.box_stride = boxes.stride(0);
  p.coord_stride = boxes.stride(1);
  p.scores = scores.const_data_ptr();
  p.score_stride = scores.stride(0);
  p.n = n;
  p.dtype = kernel_dtype(boxes.scalar_type());
  p.method = method == "linear" ? SoftNmsMethod::linear : SoftNmsMethod::gaussian;
  p.iou_threshold = iou_threshold;
  p.sigma = sigma;
  p.score_threshold = score_threshold;
  p.boxes_per_block = kSoftNmsBoxesPerBlock;
  p.keep = keep.mutable_data_ptr<int64_t>();
  p.kept_scores = kept_scores.mutable_data_ptr();
  p.count = count.mutable_data_ptr<int64_t>();
  const Tensor workspace = new_workspace(boxes, soft_nms_cuda_workspace_bytes(p));
  p.workspace = workspace.mutable_data_ptr();
  check_cuda(soft_nms_cuda(p, stream.get()));
  const int64_t kept = read_count(count);
  return {torch::stable::narrow(keep, 0, 0, kept), torch::stable::narrow(kept_scores, 0, 0, kept)};
}

Sorted sort_candidates(const Tensor& scores, double score_threshold, cudaStream_t stream) {
  const Tensor keys = torch::stable::new_empty(scores, scores.sizes());
  SortKeysParams p{};
  p.scores = scores.const_data_ptr();
  p.outer = scores.size(0);
  p.inner = scores.size(1);
  p.n = scores.size(2);
  p.outer_stride = scores.stride(0);
  p.inner_stride = scores.stride(1);
  p.score_stride = scores.stride(2);
  p.dtype = kernel_dtype(scores.scalar_type());
  p.candidates_only = true;
  p.score_threshold = score_threshold;
  p.keys = keys.mutable_data_ptr();
  check_cuda(sort_keys_cuda(p, stream));
  return sort_descending(keys);
}

// What is kept of each image and class, before the classes are merged.
struct KeptPerClass {
  Tensor keys, boxes, counts;
};

KeptPerClass keep_per_class(const Tensor& boxes, const Tensor& scores, double iou_threshold,
                            double score_threshold, int64_t max_per_class, cudaStream_t stream) {
  const Sorted candidates = sort_candidates(scores, score_threshold, stream);
  MulticlassNmsCudaParams p{};
  p.batch = scores.size(0);
  p.classes = scores.size(1);
  p.n = scores.size(2);
  p.max_per_class = max_per_class;
  const KeptPerClass kept{torch::stable::new_empty(scores, {p.batch, p.classes * max_per_class}),
                          new_indices(boxes, {p.batch, p.classes * max_per_class}),
                          new_indices(boxes, {p.batch, p.classes})};
  p.boxes = boxes.const_data_ptr();
  p.image_stride = boxes.stride(0);
  p.box_stride = boxes.stride(1);
  p.coord_stride = boxes.stride(2);
  p.sorted_keys = candidates.values.const_data_ptr();
  p.order = candidates.order.const_data_ptr<int64_t>();
  p.dtype = kernel_dtype(boxes.scalar_type());
  p.iou_threshold = iou_threshold;
  p.kept_keys = kept.keys.mutable_data_ptr();
  p.kept_boxes = kept.boxes.mutable_data_ptr<int64_t>();
  p.kept_counts = kept.counts.mutable_data_ptr<int64_t>();
  const Tensor workspace = new_workspace(boxes, multiclass_nms_cuda_workspace_bytes(p));
  p.workspace = workspace.mutable_data_ptr();
  check_cuda(multiclass_nms_cuda(p, stream));
  return kept;
}

std::tuple<Tensor, Tensor, Tensor> multiclass_nms(const Tensor& boxes, const Tensor& scores,
                                                  double iou_threshold, double score_threshold,
                                                  int64_t max_output_per_class, int64_t max_total) {
  check_multiclass_nms(boxes, scores, max_output_per_class, max_total);
  const int64_t batch = scores.size(0), classes = scores.size(1);
  const int64_t max_per_class = std::min(max_output_per_class, boxes.size(1));
  const CurrentStream stream(boxes);
  const KeptPerClass kept =
      keep_per_class(boxes, scores, iou_threshold, score_threshold, max_per_class, stream.get());
  // Slots lie in the order class, then box among equal scores: a stable sort by score settles all ties.
  const Sorted merged = sort_descending(kept.keys);
  Tensor indices = new_indices(boxes, {batch, max_total, 2});
  Tensor best_scores = torch::stable::new_empty(scores, {batch, max_total});
  Tensor counts = new_indices(boxes, {batch});
  MulticlassGatherParams p{};
  p.scores = scores.const_data_ptr();
  p.image_stride = scores.stride(0);
  p.class_stride = scores.stride(1);
  p.score_stride = scores.stride(2);
  p.order = merged.order.const_data_ptr<int64_t>();
  p.kept_boxes = kept.boxes.const_data_ptr<int64_t>();
  p.kept_counts = kept.counts.const_data_ptr<int64_t>();
  p.batch = batch;
  p.classes = classes;
  p.max_per_class = max_per_class;
  p.max_total = max_total;
  p.dtype = kernel_dtype(scores.scalar_type());
  p.indices = indices.mutable_data_ptr<int64_t>();
  p.best_scores = best_scores.mutable_data_ptr();
  p.counts = counts.mutable_data_ptr<int64_t>();
  check_cuda(multiclass_gather_cuda(p, stream.get()));
  return {indices, best_scores, counts};
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
  m.def("batched_nms(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor");
  m.def(
      "soft_nms(Tensor boxes, Tensor scores, float iou_threshold=0.3, float sigma=0.5, "
      "float score_threshold=0.001, str method=\"linear\") -> (Tensor, Tensor)");
  m.def(
      "multiclass_nms(Tensor boxes, Tensor scores, float iou_threshold, float score_threshold, "
      "int max_output_per_class, int max_total) -> (Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("batched_nms", TORCH_BOX(&batched_nms));
  m.impl("soft_nms", TORCH_BOX(&soft_nms));
  m.impl("multiclass_nms", TORCH_BOX(&multiclass_nms));
}

}  // namespace
}  // namespace gcv

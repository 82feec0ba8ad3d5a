// CUDA launchers of the room. They queue work on `stream` and never synchronise. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "nms/soft_nms.h"

namespace gcv {

// Scores made ready for a stable descending sort: every NaN becomes the same NaN and -0 becomes +0, because a
// radix sort goes by bits.
struct SortKeysParams {
  const void* scores;  // [outer, inner, n]
  int64_t outer, inner, n;
  int64_t outer_stride, inner_stride, score_stride;  // in elements
  DType dtype;
  bool candidates_only;  // scores that are not > score_threshold become -inf, NaN included
  double score_threshold;
  void* keys;  // out [outer, inner, n], contiguous, of the scores' dtype
};

cudaError_t sort_keys_cuda(const SortKeysParams& p, cudaStream_t stream);

constexpr int kNmsChunkRows = 2048;

struct NmsCudaParams {
  const void* boxes;   // [n, 4]: x1, y1, x2, y2
  int64_t box_stride;  // in elements
  int64_t coord_stride;
  const int64_t* order;      // [n]: indices by score, highest first, stable
  const int64_t* class_ids;  // [n], or nullptr: boxes of one class only suppress one another
  int64_t class_stride;
  int64_t n;  // at most 2^31 - 1
  DType dtype;
  double iou_threshold;
  int chunk_rows;   // rows decided at a time: a multiple of 64, at most kNmsChunkRows (the fastest)
  void* workspace;  // nms_cuda_workspace_bytes(p), aligned to 64
  int64_t* keep;    // out [n]: kept indices, best score first
  int64_t* count;   // out [1]: how many
};

// Linear in n: no more than chunk_rows * chunk_rows bits of pairwise mask exist at a time.
size_t nms_cuda_workspace_bytes(const NmsCudaParams& p);
cudaError_t nms_cuda(const NmsCudaParams& p, cudaStream_t stream);

constexpr int kSoftNmsBoxesPerBlock = 4096;

struct SoftNmsCudaParams {
  const void* boxes;   // [n, 4]
  int64_t box_stride;  // in elements
  int64_t coord_stride;
  const void* scores;  // [n], of the boxes' dtype
  int64_t score_stride;
  int64_t n;  // at most 2^31 - 1
  DType dtype;
  SoftNmsMethod method;
  double iou_threshold;
  double sigma;
  double score_threshold;
  int boxes_per_block;  // kSoftNmsBoxesPerBlock is the fastest; more blocks wait longer for each other
  void* workspace;      // soft_nms_cuda_workspace_bytes(p), aligned to 64
  int64_t* keep;        // out [n]: indices in the order of selection
  void* kept_scores;    // out [n]: their decayed scores, of the scores' dtype
  int64_t* count;       // out [1]: how many
};

size_t soft_nms_cuda_workspace_bytes(const SoftNmsCudaParams& p);
cudaError_t soft_nms_cuda(const SoftNmsCudaParams& p, cudaStream_t stream);

// The greedy pass of multiclass_nms, one problem per image and class. The caller sorts `kept_keys`
// afterwards (each image a row of classes * max_per_class, stable, descending) and calls
// multiclass_gather_cuda.
struct MulticlassNmsCudaParams {
  const void* boxes;     // [batch, n, 4]
  int64_t image_stride;  // in elements
  int64_t box_stride;
  int64_t coord_stride;
  const void* sorted_keys;  // [batch, classes, n]: sort_keys_cuda with candidates_only, sorted
  const int64_t* order;     // [batch, classes, n]: where each sorted key came from
  int64_t batch, classes, n;
  DType dtype;
  double iou_threshold;
  int64_t max_per_class;  // at most n
  void* workspace;        // multiclass_nms_cuda_workspace_bytes(p), aligned to 64
  void* kept_keys;        // out [batch, classes, max_per_class]: sort keys, padded with -inf
  int64_t* kept_boxes;    // out [batch, classes, max_per_class]; the padding is not written
  int64_t* kept_counts;   // out [batch, classes]
};

size_t multiclass_nms_cuda_workspace_bytes(const MulticlassNmsCudaParams& p);
cudaError_t multiclass_nms_cuda(const MulticlassNmsCudaParams& p, cudaStream_t stream);

struct MulticlassGatherParams {
  const void* scores;  // [batch, classes, n]: what the caller passed; sort keys have lost the sign of zero
  int64_t image_stride, class_stride, score_stride;  // in elements
  const int64_t* order;                              // [batch, classes * max_per_class]
  const int64_t* kept_boxes;                         // of multiclass_nms_cuda
  const int64_t* kept_counts;
  int64_t batch, classes, max_per_class, max_total;
  DType dtype;
  int64_t* indices;   // out [batch, max_total, 2]: class, box; padded with -1
  void* best_scores;  // out [batch, max_total], padded with 0
  int64_t* counts;    // out [batch]
};

cudaError_t multiclass_gather_cuda(const MulticlassGatherParams& p, cudaStream_t stream);

}  // namespace gcv

// What a caller hands to the overlap kernels, CPU and CUDA alike. Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "boxes/iou.h"
#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

// [batch, count, 4]: x1, y1, x2, y2
struct BoxList {
  const void* data;
  int64_t count;
  int64_t batch_stride, box_stride, coord_stride;  // in elements
};

// All pairs. Results are of the type that is computed in: float64 for float64 boxes, else float32.
struct PairwiseIouParams {
  BoxList boxes1, boxes2;
  int64_t batch;
  void* result;  // [batch, count1, count2], dense
  DType dtype;
  IouKind kind;
  double eps;
  bool stream;  // CPU: write past the caches; for results that they cannot hold
};

struct PairwiseIouBackwardParams {
  const void* grad;  // [batch, count1, count2]
  int64_t grad_batch_stride, grad_row_stride, grad_column_stride;
  BoxList boxes1, boxes2;
  int64_t batch;
  void* grad1;  // [batch, count1, 4], dense
  void* grad2;  // [batch, count2, 4], dense
  DType dtype;
  IouKind kind;
  double eps;
};

// Box i of one list with box i of the other; all arrays are dense.
struct IouLossParams {
  const void* boxes1;  // [n, 4]
  const void* boxes2;  // [n, 4]
  void* result;        // [n]
  int64_t n;
  DType dtype;
  IouKind kind;  // not iou
  double eps;
};

struct IouLossBackwardParams {
  const void* grad;    // [n]
  const void* boxes1;  // [n, 4]
  const void* boxes2;  // [n, 4]
  void* grad1;         // [n, 4]
  void* grad2;         // [n, 4]
  int64_t n;
  DType dtype;
  IouKind kind;  // not iou
  double eps;
};

// Items are rows of tiles of columns, pairwise_iou_items(p) of them.
GCV_PER_ISA(int64_t, pairwise_iou_items, (const PairwiseIouParams& p), (p))
GCV_PER_ISA(void, pairwise_iou_cpu, (const PairwiseIouParams& p, int64_t begin, int64_t end), (p, begin, end))

// Three phases, each over items [begin, end) that may be shared among threads. `workspace` holds
// pairwise_iou_backward_workspace_bytes(p) bytes, aligned to 64.
GCV_PER_ISA(size_t, pairwise_iou_backward_workspace_bytes, (const PairwiseIouBackwardParams& p), (p))

// Items are the images of the batch.
GCV_PER_ISA(void, pairwise_iou_backward_prepare_cpu,
            (const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

// Items are the batch * count1 boxes of the first list: writes grad1.
GCV_PER_ISA(void, pairwise_iou_backward_rows_cpu,
            (const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

// Items are vectors of boxes of the second list, batch * pairwise_iou_column_blocks(p) of them: writes grad2.
GCV_PER_ISA(int64_t, pairwise_iou_column_blocks, (const PairwiseIouBackwardParams& p), (p))
GCV_PER_ISA(void, pairwise_iou_backward_columns_cpu,
            (const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

// For pairs [begin, end).
GCV_PER_ISA(void, iou_loss_cpu, (const IouLossParams& p, int64_t begin, int64_t end), (p, begin, end))
GCV_PER_ISA(void, iou_loss_backward_cpu, (const IouLossBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

}  // namespace gcv

// Calls f<kind, Element>(...) for the kind of metric or loss.
#define GCV_BY_LOSS_KIND(kind, f, Element, ...)                                     \
  ((kind) == ::gcv::IouKind::giou   ? f<::gcv::IouKind::giou, Element>(__VA_ARGS__) \
   : (kind) == ::gcv::IouKind::diou ? f<::gcv::IouKind::diou, Element>(__VA_ARGS__) \
                                    : f<::gcv::IouKind::ciou, Element>(__VA_ARGS__))
#define GCV_BY_KIND(kind, f, Element, ...)                                      \
  ((kind) == ::gcv::IouKind::iou ? f<::gcv::IouKind::iou, Element>(__VA_ARGS__) \
                                 : GCV_BY_LOSS_KIND(kind, f, Element, __VA_ARGS__))

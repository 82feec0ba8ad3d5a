// The overlap metrics and losses for CPU tensors.
#include <algorithm>

#include "boxes/iou_checks.h"
#include "common/scratch.h"

namespace gcv {
namespace {

// Less work than this per thread, some 0.1 ms, is not worth waking one for.
constexpr int64_t kPairsPerTask = 1 << 18;
constexpr int64_t kGradientsPerTask = 1 << 15;
constexpr int64_t kLossesPerTask = 1 << 14;

// Splits [0, items), of which each is `pairs` pairs of boxes.
template <class Body>
void for_items(int64_t items, int64_t pairs, int64_t pairs_per_task, Body body) {
  const int64_t grain = std::max<int64_t>(1, pairs_per_task / std::max<int64_t>(1, pairs));
  if (items <= grain) {
    body(0, items);
  } else {
    torch::stable::parallel_for(0, items, grain, body);
  }
}

Tensor pairwise(const char* op, const Tensor& boxes1, const Tensor& boxes2, IouKind kind, double eps) {
  return pairwise_iou_with(op, boxes1, boxes2, kind, eps, [](const PairwiseIouParams& p) {
    const int64_t pairs = p.batch * p.boxes1.count * p.boxes2.count, items = pairwise_iou_items(p);
    for_items(items, pairs / items, kPairsPerTask,
              [&](int64_t begin, int64_t end) { pairwise_iou_cpu(p, begin, end); });
  });
}

Tensor box_iou(const Tensor& boxes1, const Tensor& boxes2) {
  return pairwise("box_iou", boxes1, boxes2, IouKind::iou, 0);
}

Tensor generalized_box_iou(const Tensor& boxes1, const Tensor& boxes2) {
  return pairwise("generalized_box_iou", boxes1, boxes2, IouKind::giou, 0);
}

Tensor distance_box_iou(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return pairwise("distance_box_iou", boxes1, boxes2, IouKind::diou, eps);
}

Tensor complete_box_iou(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return pairwise("complete_box_iou", boxes1, boxes2, IouKind::ciou, eps);
}

std::tuple<Tensor, Tensor> pairwise_box_iou_backward(const Tensor& grad, const Tensor& boxes1,
                                                     const Tensor& boxes2, const std::string& kind,
                                                     double eps) {
  return pairwise_iou_backward_with(grad, boxes1, boxes2, kind, eps, [](const PairwiseIouBackwardParams& p) {
    const int64_t n = p.boxes1.count, m = p.boxes2.count, blocks = pairwise_iou_column_blocks(p);
    const Scratch scratch(pairwise_iou_backward_workspace_bytes(p));
    for_items(p.batch, n + m, kLossesPerTask, [&](int64_t begin, int64_t end) {
      pairwise_iou_backward_prepare_cpu(p, scratch.data(), begin, end);
    });
    for_items(p.batch * n, m, kGradientsPerTask, [&](int64_t begin, int64_t end) {
      pairwise_iou_backward_rows_cpu(p, scratch.data(), begin, end);
    });
    for_items(p.batch * blocks, n * m / blocks, kGradientsPerTask, [&](int64_t begin, int64_t end) {
      pairwise_iou_backward_columns_cpu(p, scratch.data(), begin, end);
    });
  });
}

Tensor loss(const char* op, const Tensor& boxes1, const Tensor& boxes2, IouKind kind, double eps) {
  return iou_loss_with(op, boxes1, boxes2, kind, eps, [](const IouLossParams& p) {
    for_items(p.n, 1, kLossesPerTask, [&](int64_t begin, int64_t end) { iou_loss_cpu(p, begin, end); });
  });
}

Tensor generalized_box_iou_loss(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return loss("generalized_box_iou_loss", boxes1, boxes2, IouKind::giou, eps);
}

Tensor distance_box_iou_loss(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return loss("distance_box_iou_loss", boxes1, boxes2, IouKind::diou, eps);
}

Tensor complete_box_iou_loss(const Tensor& boxes1, const Tensor& boxes2, double eps) {
  return loss("complete_box_iou_loss", boxes1, boxes2, IouKind::ciou, eps);
}

std::tuple<Tensor, Tensor> box_iou_loss_backward(const Tensor& grad, const Tensor& boxes1,
                                                 const Tensor& boxes2, const std::string& kind, double eps) {
  return iou_loss_backward_with(grad, boxes1, boxes2, kind, eps, [](const IouLossBackwardParams& p) {
    for_items(p.n, 1, kLossesPerTask,
              [&](int64_t begin, int64_t end) { iou_loss_backward_cpu(p, begin, end); });
  });
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("box_iou", TORCH_BOX(&box_iou));
  m.impl("generalized_box_iou", TORCH_BOX(&generalized_box_iou));
  m.impl("distance_box_iou", TORCH_BOX(&distance_box_iou));
  m.impl("complete_box_iou", TORCH_BOX(&complete_box_iou));
  m.impl("pairwise_box_iou_backward", TORCH_BOX(&pairwise_box_iou_backward));
  m.impl("generalized_box_iou_loss", TORCH_BOX(&generalized_box_iou_loss));
  m.impl("distance_box_iou_loss", TORCH_BOX(&distance_box_iou_loss));
  m.impl("complete_box_iou_loss", TORCH_BOX(&complete_box_iou_loss));
  m.impl("box_iou_loss_backward", TORCH_BOX(&box_iou_loss_backward));
}

}  // namespace
}  // namespace gcv

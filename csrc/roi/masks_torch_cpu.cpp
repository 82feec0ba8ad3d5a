// paste_masks for CPU tensors.
#include "common/scratch.h"
#include "roi/masks_checks.h"

namespace gcv {
namespace {

// Fewer pixels than this per thread are not worth waking one for.
constexpr int64_t kPixelsPerTask = 32768;

template <class Run>
void in_parallel(int64_t items, int64_t pixels_of_item, const Run& run) {
  const int64_t grain = kPixelsPerTask / (pixels_of_item > 0 ? pixels_of_item : 1) + 1;
  if (items <= grain) {
    run(0, items);
  } else {
    torch::stable::parallel_for(0, items, grain, run);
  }
}

Tensor paste_masks(const Tensor& masks, const Tensor& boxes, std::vector<int64_t> image_size,
                   int64_t padding) {
  return paste_masks_with(masks, boxes, image_size, padding, [](const PasteMasksParams& p) {
    in_parallel(grids_in(p.masks) * mask_strips(p.height), kMaskStrip * p.width,
                [&](int64_t begin, int64_t end) { paste_masks_cpu(p, begin, end); });
  });
}

Tensor paste_masks_backward(const Tensor& grad, const Tensor& boxes, std::vector<int64_t> mask_size,
                            int64_t padding) {
  return paste_masks_backward_with(grad, boxes, mask_size, padding, [](PasteMasksBackwardParams p) {
    const bool half = p.grad.dtype == DType::f16 || p.grad.dtype == DType::bf16;
    const Scratch scratch(half ? size_t(grids_in(p.grad) * p.height * p.width) * sizeof(float) : 0);
    if (half) p.sums = scratch.data();
    in_parallel(grids_in(p.grad), p.grad.height * p.grad.width,
                [&](int64_t begin, int64_t end) { paste_masks_backward_cpu(p, begin, end); });
  });
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("paste_masks", TORCH_BOX(&paste_masks));
  m.impl("paste_masks_backward", TORCH_BOX(&paste_masks_backward));
}

}  // namespace
}  // namespace gcv

// crop_and_resize for CPU tensors.
#include <algorithm>

#include "common/scratch.h"
#include "common/share_out.h"
#include "roi/crop_checks.h"

namespace gcv {
namespace {

// Fewer numbers than this per thread are not worth waking one for.
constexpr int64_t kNumbersPerThread = 16384;

int64_t threads_for(int64_t numbers, int64_t items) {
  const int64_t most = std::min<int64_t>(torch::stable::get_num_threads(), items);
  return std::max<int64_t>(1, std::min(most, numbers / kNumbersPerThread));
}

Tensor crop_and_resize(const Tensor& images, const Tensor& boxes, const Tensor& box_indices,
                       std::vector<int64_t> size, std::string method, double extrapolation_value,
                       ChannelNumbers mean, ChannelNumbers std, bool differentiable_boxes) {
  return crop_and_resize_with(
      images, boxes, box_indices, size, method, extrapolation_value, mean, std, differentiable_boxes,
      [](const CropParams& p) {
        check_crop_indices("crop_and_resize", p.boxes, p.images.number);
        const int64_t items = crop_items(p);
        if (items == 0) return;
        const int64_t numbers = p.boxes.count * p.images.channels * p.height * p.width;
        // Shares of whole boxes where there are enough: the columns of a box are worked out once a share.
        const int64_t threads = threads_for(numbers, items), of_a_box = items / p.boxes.count;
        const int64_t share =
            p.boxes.count >= 8 * threads ? of_a_box : (items + 8 * threads - 1) / (8 * threads);
        share_out(items, share, threads, crop_workspace_bytes(p),
                  [&](void* workspace, int64_t begin, int64_t end) {
                    crop_and_resize_cpu(p, workspace, begin, end);
                  });
      });
}

Tensor crop_and_resize_backward(const Tensor& grad, const Tensor& boxes, const Tensor& box_indices,
                                std::vector<int64_t> image_size, std::string method, ChannelNumbers std) {
  return crop_and_resize_backward_with(
      grad, boxes, box_indices, image_size, method, std, [](CropBackwardParams p) {
        check_crop_indices("crop_and_resize_backward", p.boxes, p.number);
        const int64_t rows = p.number * p.height, numbers = rows * p.width * p.crops.channels;
        if (numbers == 0) return;
        const bool half = p.dtype == DType::f16 || p.dtype == DType::bf16;
        const Scratch sums(half ? size_t(numbers) * sizeof(float) : 0);
        if (half) p.sums = sums.data();
        const int64_t work = numbers + p.boxes.count * p.crops.channels * p.crops.height * p.crops.width;
        const int64_t threads = threads_for(work, rows);
        // Every share works out the columns of the boxes that it meets.
        const int64_t share = std::max<int64_t>(1, (rows + 4 * threads - 1) / (4 * threads));
        share_out(rows, share, threads, crop_backward_workspace_bytes(p),
                  [&](void* workspace, int64_t begin, int64_t end) {
                    crop_and_resize_backward_cpu(p, workspace, begin, end);
                  });
      });
}

Tensor crop_and_resize_boxes_backward(const Tensor& grad, const Tensor& images, const Tensor& boxes,
                                      const Tensor& box_indices, ChannelNumbers std) {
  return crop_and_resize_boxes_backward_with(
      grad, images, boxes, box_indices, std, [](const CropBoxesBackwardParams& p) {
        check_crop_indices("crop_and_resize_boxes_backward", p.boxes, p.images.number);
        const int64_t of_a_box = p.grad.channels * p.grad.height * p.grad.width;
        const int64_t grain = std::max<int64_t>(1, kNumbersPerThread / std::max<int64_t>(1, of_a_box));
        torch::stable::parallel_for(0, p.boxes.count, grain, [&](int64_t begin, int64_t end) {
          crop_and_resize_boxes_backward_cpu(p, begin, end);
        });
      });
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("crop_and_resize", TORCH_BOX(&crop_and_resize));
  m.impl("crop_and_resize_backward", TORCH_BOX(&crop_and_resize_backward));
  m.impl("crop_and_resize_boxes_backward", TORCH_BOX(&crop_and_resize_boxes_backward));
}

}  // namespace
}  // namespace gcv

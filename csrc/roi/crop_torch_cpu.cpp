// crop_and_resize for CPU tensors.
#include <algorithm>
#include <atomic>

#include "common/scratch.h"
#include "roi/crop_checks.h"

namespace gcv {
namespace {

// Fewer numbers than this per thread are not worth waking one for.
constexpr int64_t kNumbersPerThread = 16384;

int64_t threads_for(int64_t numbers, int64_t items) {
  const int64_t most = std::min<int64_t>(torch::stable::get_num_threads(), items);
  return std::max<int64_t>(1, std::min(most, numbers / kNumbersPerThread));
}

// A thread takes the next `share` items when it is done with some; each has a workspace of its own.
template <class Run>
void share_out(int64_t items, int64_t share, int64_t threads, size_t bytes, const Run& run) {
  const Scratch scratch(bytes * size_t(threads));
  char* base = static_cast<char*>(scratch.data());
  if (threads == 1) {
    run(base, 0, items);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) {
      for (int64_t begin = next.fetch_add(share); begin < items; begin = next.fetch_add(share)) {
        run(base + bytes * size_t(thread), begin, std::min(begin + share, items));
      }
    }
  });
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

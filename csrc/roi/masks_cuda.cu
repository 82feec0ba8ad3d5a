// Forward: a block takes a row of an image, so that its threads write neighbouring pixels. Backward: a warp
// takes a cell and adds up the pixels that touch it, in an order that is always the same.
#include "common/cuda.h"
#include "roi/masks_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 128;
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int64_t kMostBlocks = (int64_t(1) << 31) - 1;

template <class T>
__device__ __forceinline__ T not_a_number() {
  return T(nan(""));
}

template <class T, class Element>
__device__ __forceinline__ T cell(const MaskGrids& masks, int64_t k, int64_t row, int64_t column) {
  if (row < 0 || row >= masks.height || column < 0 || column >= masks.width) return T(0);
  const int64_t at = grid_offset(masks, k) + row * masks.row_stride + column * masks.column_stride;
  return T(widen(static_cast<const Element*>(masks.cells)[at]));
}

template <class T, class Element>
__device__ __forceinline__ T pasted(const MaskGrids& masks, int64_t k, const MaskPlace<T>& y,
                                    const MaskPlace<T>& x) {
  const T top = cell<T, Element>(masks, k, y.below, x.below) * (1 - x.weight) +
                cell<T, Element>(masks, k, y.below, x.above) * x.weight;
  const T bottom = cell<T, Element>(masks, k, y.above, x.below) * (1 - x.weight) +
                   cell<T, Element>(masks, k, y.above, x.above) * x.weight;
  return top * (1 - y.weight) + bottom * y.weight;
}

template <class Element>
__global__ void __launch_bounds__(kThreads) paste_masks_kernel(PasteMasksParams p) {
  using T = typename Compute<Element>::type;
  const int64_t rows = grids_in(p.masks) * p.height;
  for (int64_t at = blockIdx.x; at < rows; at += gridDim.x) {
    const int64_t k = at / p.height, row = at % p.height;
    const MaskBox<T> box = mask_box<T>(p.boxes, k / p.masks.channels, p.masks.height, p.masks.width,
                                       p.padding, p.height, p.width);
    const bool crosses = row >= box.y.begin && row < box.y.end;
    const MaskPlace<T> y = mask_place(box.y, row);
    auto* out = static_cast<Element*>(p.images) + at * p.width;
    for (int64_t column = threadIdx.x; column < p.width; column += kThreads) {
      T value = box.sound ? T(0) : not_a_number<T>();
      if (crosses && column >= box.x.begin && column < box.x.end) {
        value = pasted<T, Element>(p.masks, k, y, mask_place(box.x, column));
      }
      narrow(value, out[column]);
    }
  }
}

struct Pixels {
  int64_t begin, end;
};

// Pixels that may touch a cell, counted without the border: none that does is missing.
template <class T>
__device__ __forceinline__ Pixels pixels_of(const MaskSpan<T>& s, int64_t cell) {
  const T at = T(cell + s.padding);
  // With room for rounding.
  const T margin = T(2) + (at + T(1.5)) / s.ratio * T(1e-5);
  const T low = (at - T(0.5)) / s.ratio - margin, high = (at + T(1.5)) / s.ratio + margin;
  const T most = T(s.end - s.first), least = T(s.begin - s.first);
  Pixels found{s.begin, s.end};
  if (low > least) found.begin = low < most ? s.first + int64_t(low) : s.end;
  if (high < most) found.end = high > least ? s.first + int64_t(high) + 1 : s.begin;
  if (found.end > s.end) found.end = s.end;
  if (found.begin < s.begin) found.begin = s.begin;
  return found;
}

template <class Element>
__global__ void __launch_bounds__(kThreads) paste_masks_backward_kernel(PasteMasksBackwardParams p) {
  using T = typename Compute<Element>::type;
  const int lane = threadIdx.x % kWarp;
  const int64_t cells = grids_in(p.grad) * p.height * p.width;
  const int64_t step = int64_t(gridDim.x) * kWarps;
  for (int64_t at = int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp; at < cells; at += step) {
    const int64_t k = at / (p.height * p.width), i = at % p.width, j = at / p.width % p.height;
    const MaskBox<T> box =
        mask_box<T>(p.boxes, k / p.grad.channels, p.height, p.width, p.padding, p.grad.height, p.grad.width);
    const Pixels rows = pixels_of(box.y, j), columns = pixels_of(box.x, i);
    const auto* grad = static_cast<const Element*>(p.grad.cells) + grid_offset(p.grad, k);
    T sum = 0;
    for (int64_t column = columns.begin + lane; column < columns.end; column += kWarp) {
      const T across = mask_weight(mask_place(box.x, column), i);
      if (across == 0) continue;
      T down = 0;
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        const T weight = mask_weight(mask_place(box.y, row), j);
        if (weight != 0) {
          down += weight * T(widen(grad[row * p.grad.row_stride + column * p.grad.column_stride]));
        }
      }
      sum += across * down;
    }
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(kFullWarp, sum, distance);
    }
    if (lane == 0) narrow(sum, static_cast<Element*>(p.grad_masks)[at]);
  }
}

unsigned blocks_for(int64_t n) { return unsigned(n < kMostBlocks ? n : kMostBlocks); }

template <class Element>
cudaError_t forward(const PasteMasksParams& p, cudaStream_t stream) {
  const int64_t rows = grids_in(p.masks) * p.height;
  return launch(paste_masks_kernel<Element>, {dim3(blocks_for(rows)), dim3(kThreads), 0, stream}, p);
}

template <class Element>
cudaError_t backward(const PasteMasksBackwardParams& p, cudaStream_t stream) {
  const int64_t blocks = (grids_in(p.grad) * p.height * p.width + kWarps - 1) / kWarps;
  return launch(paste_masks_backward_kernel<Element>, {dim3(blocks_for(blocks)), dim3(kThreads), 0, stream},
                p);
}

}  // namespace

cudaError_t paste_masks_cuda(const PasteMasksParams& p, cudaStream_t stream) {
  if (grids_in(p.masks) * p.height * p.width == 0) return cudaSuccess;
  return GCV_BY_DTYPE(p.masks.dtype, forward, p, stream);
}

cudaError_t paste_masks_backward_cuda(const PasteMasksBackwardParams& p, cudaStream_t stream) {
  if (grids_in(p.grad) * p.height * p.width == 0) return cudaSuccess;
  return GCV_BY_DTYPE(p.grad.dtype, backward, p, stream);
}

}  // namespace gcv

#include "nms/kernels_cuda.h"
#include "nms/nms_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 256;

template <class Element>
__global__ void __launch_bounds__(kThreads) sort_keys_kernel(SortKeysParams p, unsigned blocks_per_row) {
  using T = ComputeOf<Element>;
  const unsigned row = blockIdx.x / blocks_per_row, inner_count = unsigned(p.inner);
  const int64_t i = int64_t(blockIdx.x % blocks_per_row) * kThreads + threadIdx.x;
  if (i >= p.n) return;
  const int64_t outer = row / inner_count, inner = row % inner_count;
  const int64_t from = outer * p.outer_stride + inner * p.inner_stride + i * p.score_stride;
  const T score = widen(static_cast<const Element*>(p.scores)[from]);
  T key = exact::add(score, T(0));
  if (p.candidates_only) {
    if (!(double(score) > p.score_threshold)) key = -T(INFINITY);
  } else if (score != score) {
    key = T(NAN);
  }
  static_cast<Element*>(p.keys)[row * p.n + i] = narrow<Element>(key);
}

}  // namespace

cudaError_t sort_keys_cuda(const SortKeysParams& p, cudaStream_t stream) {
  const int64_t blocks_per_row = ceil_div<int64_t>(p.n, kThreads);
  const int64_t blocks = p.outer * p.inner * blocks_per_row;
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  return with_element(p.dtype, [&](auto element) {
    return launch(sort_keys_kernel<decltype(element)>, {dim3(unsigned(blocks)), dim3(kThreads), 0, stream}, p,
                  unsigned(blocks_per_row));
  });
}

}  // namespace gcv

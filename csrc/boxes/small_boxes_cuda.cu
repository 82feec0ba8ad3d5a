// Removal of small boxes on the device: every block counts its large boxes, one block turns the counts into
// first places, and every block writes its indices there. Nothing depends on the order of blocks.
#include "boxes/coding_cuda.h"
#include "boxes/coding_rows.h"
#include "boxes/row_map_cuda.h"

namespace gcv {
namespace {

constexpr int kScanThreads = 1024;
constexpr unsigned kWarp = 32, kFullWarp = 0xffffffffu;

int64_t block_count(const SmallBoxesParams& p) { return (p.n + kRowThreads - 1) / kRowThreads; }

template <class Element>
struct LargeBoxes {
  RowInput<Element> boxes;
  int64_t n;
  typename Compute<Element>::type min_size;

  __device__ __forceinline__ bool contains(int64_t i) const {
    if (i >= n) return false;
    typename Compute<Element>::type b[4];
    load_row<4>(boxes, i, b);
    return is_large<typename Compute<Element>::type>({b[0], b[1], b[2], b[3]}, min_size);
  }
};

__device__ __forceinline__ int64_t own_box() { return int64_t(blockIdx.x) * kRowThreads + threadIdx.x; }

template <class Element>
__global__ void __launch_bounds__(kRowThreads) count_kernel(LargeBoxes<Element> large, int64_t* counts) {
  const int count = __syncthreads_count(large.contains(own_box()));
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// The sum over this thread and those before it; `sums` has one entry per warp. For whole blocks.
template <class Integer>
__device__ __forceinline__ Integer inclusive_sum(Integer value, Integer* sums) {
  const unsigned lane = lane_id(), warp = threadIdx.x / kWarp;
  for (unsigned delta = 1; delta < kWarp; delta *= 2) {
    const Integer before = __shfl_up_sync(kFullWarp, value, delta);
    if (lane >= delta) value += before;
  }
  __syncthreads();  // all have read the sums of an earlier call
  if (lane == kWarp - 1) sums[warp] = value;
  __syncthreads();
  for (unsigned earlier = 0; earlier < warp; ++earlier) value += sums[earlier];
  return value;
}

// Turns each block's count into the sum of those before it. One block.
__global__ void __launch_bounds__(kScanThreads) scan_kernel(int64_t* counts, int64_t blocks, int64_t* total) {
  GCV_SHARED(int64_t, sums, [kScanThreads / kWarp]);
  GCV_SHARED(int64_t, last);
  int64_t before = 0;
  for (int64_t first = 0; first < blocks; first += kScanThreads) {
    const int64_t i = first + threadIdx.x;
    const int64_t count = i < blocks ? counts[i] : 0;
    const int64_t sum = before + inclusive_sum(count, sums);
    if (i < blocks) counts[i] = sum - count;
    if (threadIdx.x == kScanThreads - 1) last = sum;
    __syncthreads();
    before = last;
  }
  if (threadIdx.x == 0) *total = before;
}

template <class Element>
__global__ void __launch_bounds__(kRowThreads)
    scatter_kernel(LargeBoxes<Element> large, const int64_t* starts, int64_t* indices) {
  GCV_SHARED(int, sums, [kRowThreads / kWarp]);
  const bool is_kept = large.contains(own_box());
  const int place = inclusive_sum(int(is_kept), sums) - 1;
  if (is_kept) indices[starts[blockIdx.x] + place] = own_box();
}

template <class Element>
cudaError_t remove_small(const SmallBoxesParams& p, void* workspace, int64_t* indices, int64_t* count,
                         cudaStream_t stream) {
  using T = typename Compute<Element>::type;
  LargeBoxes<Element> large{{}, p.n, T(p.min_size)};
  describe(Widths<4>{}, &p.boxes, &large.boxes);
  auto* counts = static_cast<int64_t*>(workspace);
  const LaunchConfig per_box = {blocks_of(p.n, kRowThreads), dim3(kRowThreads), 0, stream};
  if (cudaError_t error = launch(count_kernel<Element>, per_box, large, counts)) return error;
  if (cudaError_t error =
          launch(scan_kernel, {dim3(1), dim3(kScanThreads), 0, stream}, counts, block_count(p), count)) {
    return error;
  }
  return launch(scatter_kernel<Element>, per_box, large, counts, indices);
}

}  // namespace

size_t remove_small_boxes_cuda_workspace_bytes(const SmallBoxesParams& p) {
  return size_t(block_count(p)) * sizeof(int64_t);
}

cudaError_t remove_small_boxes_cuda(const SmallBoxesParams& p, void* workspace, int64_t* indices,
                                    int64_t* count, cudaStream_t stream) {
  if (p.n == 0) return cudaMemsetAsync(count, 0, sizeof *count, stream);
  return GCV_BY_DTYPE(p.dtype, remove_small, p, workspace, indices, count, stream);
}

}  // namespace gcv

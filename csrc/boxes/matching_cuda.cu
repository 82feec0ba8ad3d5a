// Matching on the device, a thread for each anchor against gts in shared memory. Low-quality matches take a
// second pass, in which a block of anchors looks only at gts whose best quality it attains.
#include <cmath>

#include "boxes/matching_cuda.h"
#include "common/cuda.h"
#include "common/workspace.h"

namespace gcv {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 128;
constexpr unsigned kFullWarp = 0xffffffffu;

// Qualities ordered as integers, which atomicMax needs.
template <class T>
using Key = typename std::conditional<sizeof(T) == 8, unsigned long long, unsigned>::type;

template <class T>
__device__ __forceinline__ Key<T> key_of(T quality) {
  Key<T> bits;
  memcpy(&bits, &quality, sizeof bits);
  return quality > T(0) ? bits : 0;
}

template <class T>
struct Workspaces {
  Key<T>* best;        // of each gt, over all anchors
  Key<T>* block_best;  // [block][gt]
  size_t bytes;
};

template <class T>
struct GtTile {
  Box<T> boxes[kTile];
  T areas[kTile];
  Key<T> best[kTile];
};

template <class T>
__device__ __forceinline__ T warp_max(T value) {
  for (int distance = 16; distance > 0; distance /= 2)
    value = larger(value, __shfl_xor_sync(kFullWarp, value, distance));
  return value;
}

__device__ __forceinline__ int64_t own_index() { return int64_t(blockIdx.x) * kThreads + threadIdx.x; }

template <class Element, bool kLowQuality, class T = typename Compute<Element>::type>
__global__ void __launch_bounds__(kThreads) match_kernel(MatchParams p, Workspaces<T> workspace) {
  GCV_SHARED(GtTile<T>, tile);
  const int thread = int(threadIdx.x);
  // Threads past the end repeat the last anchor, which changes no maximum.
  const int64_t last = p.anchors.count - 1;
  const Box<T> anchor = box_at<Element>(p.anchors, own_index() < last ? own_index() : last);
  const T anchor_area = area(anchor);
  T best = 0;
  int32_t match = 0;
  for (int64_t first = 0; first < p.gts.count; first += kTile) {
    const int gts = int(p.gts.count - first < kTile ? p.gts.count - first : kTile);
    __syncthreads();
    if (thread < gts) {
      tile.boxes[thread] = box_at<Element>(p.gts, first + thread);
      tile.areas[thread] = area(tile.boxes[thread]);
      if (kLowQuality) tile.best[thread] = 0;
    }
    __syncthreads();
    for (int i = 0; i < gts; ++i) {
      const T inter = intersection<T>(tile.boxes[i], anchor);
      const T whole = union_area<T>(tile.areas[i], anchor_area, inter);
      const bool surely_zero = !(inter > T(0)) && (whole > T(0) || whole < T(0));
      if (!__any_sync(kFullWarp, !surely_zero)) continue;
      const T quality = smaller<T>(T(INFINITY), exact::div(inter, whole));
      if (quality > best) {
        best = quality;
        match = int32_t(first + i);
      }
      if (!kLowQuality) continue;
      const Key<T> warp_best = key_of(warp_max(quality));
      if (lane_id() == 0) atomicMax(tile.best + i, warp_best);
    }
    if (!kLowQuality) continue;
    __syncthreads();
    if (thread < gts) {
      const Key<T> block_best = tile.best[thread];
      workspace.block_best[int64_t(blockIdx.x) * p.gts.count + first + thread] = block_best;
      if (block_best != 0) atomicMax(workspace.best + first + thread, block_best);
    }
  }
  if (own_index() > last) return;
  p.matches[own_index()] = thresholded(best, int64_t(match), T(p.low_threshold), T(p.high_threshold));
}

template <class Element, class T = typename Compute<Element>::type>
__global__ void __launch_bounds__(kThreads) low_quality_kernel(MatchParams p, Workspaces<T> workspace) {
  const int64_t index = own_index();
  if (index >= p.anchors.count) return;
  const Key<T>* block_best = workspace.block_best + int64_t(blockIdx.x) * p.gts.count;
  const Box<T> anchor = box_at<Element>(p.anchors, index);
  const T anchor_area = area(anchor);
  const auto quality_with = [&](int64_t gt_index) {
    const Box<T> gt = box_at<Element>(p.gts, gt_index);
    return match_quality<T>(gt, area(gt), anchor, anchor_area, T(INFINITY));
  };
  bool chosen = false;
  for (int64_t gt = 0; gt < p.gts.count && !chosen; ++gt) {
    const Key<T> best = workspace.best[gt];
    chosen = block_best[gt] == best && key_of(quality_with(gt)) == best;
  }
  if (!chosen) return;
  T best = 0;
  int64_t match = 0;
  for (int64_t gt = 0; gt < p.gts.count; ++gt) {
    const T quality = quality_with(gt);
    if (!(quality > best)) continue;
    best = quality;
    match = gt;
  }
  p.matches[index] = match;
}

int64_t block_count(const MatchParams& p) { return (p.anchors.count + kThreads - 1) / kThreads; }

template <class T>
Workspaces<T> carve(const MatchParams& p, void* base) {
  Workspace workspace(base);
  Workspaces<T> w{};
  if (p.allow_low_quality) {
    w.best = workspace.take<Key<T>>(p.gts.count);
    w.block_best = workspace.take<Key<T>>(block_count(p) * p.gts.count);
  }
  w.bytes = workspace.used();
  return w;
}

template <class Element>
cudaError_t match(const MatchParams& p, void* base, cudaStream_t stream) {
  using T = typename Compute<Element>::type;
  const Workspaces<T> workspace = carve<T>(p, base);
  const LaunchConfig config{dim3(unsigned(block_count(p))), dim3(kThreads), 0, stream};
  if (!p.allow_low_quality) return launch(match_kernel<Element, false>, config, p, workspace);
  const size_t best_bytes = size_t(p.gts.count) * sizeof(Key<T>);
  if (cudaError_t error = cudaMemsetAsync(workspace.best, 0, best_bytes, stream)) return error;
  if (cudaError_t error = launch(match_kernel<Element, true>, config, p, workspace)) return error;
  return launch(low_quality_kernel<Element>, config, p, workspace);
}

}  // namespace

size_t match_cuda_workspace_bytes(const MatchParams& p) {
  return p.dtype == DType::f64 ? carve<double>(p, nullptr).bytes : carve<float>(p, nullptr).bytes;
}

cudaError_t match_cuda(const MatchParams& p, void* workspace, cudaStream_t stream) {
  if (p.gts.count > INT32_MAX) return cudaErrorInvalidValue;
  if (p.anchors.count == 0) return cudaSuccess;
  static_assert(kBelowLowThreshold == -1, "all bits set");
  if (p.gts.count == 0)
    return cudaMemsetAsync(p.matches, 0xff, size_t(p.anchors.count) * sizeof(int64_t), stream);
  return GCV_BY_DTYPE(p.dtype, match, p, workspace, stream);
}

}  // namespace gcv

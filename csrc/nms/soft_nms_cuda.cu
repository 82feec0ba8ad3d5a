// Soft-NMS: one launch selects all boxes. Each thread owns some boxes; in one pass over them it lowers their
// scores by the last selection and finds its best one for the next.
#include "common/suppress.h"
#include "common/workspace.h"
#include "nms/kernels_cuda.h"
#include "nms/nms_cuda.h"

namespace gcv {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxWarps = kMaxThreads / 32;

template <class T>
struct Best {
  T score;
  int32_t index;
};

// Worse than every score that can be taken: nothing is less than -inf, so -inf exceeds no threshold.
template <class T>
__device__ __forceinline__ Best<T> nothing() {
  return {-T(INFINITY), INT32_MAX};
}

template <class T>
__device__ __forceinline__ Best<T> better(const Best<T>& a, const Best<T>& b) {
  const bool second = b.score > a.score || (b.score == a.score && b.index < a.index);
  return second ? b : a;
}

template <class T>
__device__ __forceinline__ Best<T> best_of_warp(Best<T> best) {
  for (int distance = 16; distance > 0; distance /= 2) {
    best = better(best, {__shfl_xor_sync(kFullWarp, best.score, distance),
                         __shfl_xor_sync(kFullWarp, best.index, distance)});
  }
  return best;
}

// Every thread gets the answer. `slots` must be another array than in the call before, so that one barrier is
// enough.
template <class T>
__device__ __forceinline__ Best<T> best_of_block(Best<T> best, Best<T>* slots) {
  best = best_of_warp(best);
  const int lane = int(lane_id()), warps = int(blockDim.x) / 32;
  if (lane == 0) slots[threadIdx.x / 32] = best;
  __syncthreads();
  return best_of_warp(lane < warps ? slots[lane] : nothing<T>());
}

template <class T>
__device__ __forceinline__ Best<T> best_of_grid(Best<T> best, Best<T>* slots, unsigned* arrivals) {
  if (threadIdx.x == 0) slots[blockIdx.x] = best;
  grid_barrier(arrivals);
  best = nothing<T>();
  for (unsigned block = lane_id(); block < gridDim.x; block += 32) best = better(best, slots[block]);
  return best_of_warp(best);
}

template <class Element>
struct SoftNms {
  using T = ComputeOf<Element>;
  StridedBoxes<Element> from;
  const Element* from_scores;
  int64_t score_stride;
  int32_t n;
  SoftNmsMethod method;
  T iou_threshold;
  T sigma;
  double score_threshold;
  PackedBox<T>* boxes;  // [n]
  T* scores;            // [n]: NaN once taken, since NaN is never taken
  Best<T>* slots[2];    // [blocks] each
  unsigned* arrivals;
  int64_t* keep;
  Element* kept_scores;
  int64_t* count;
};

// Calls f(i) for the boxes that this thread owns.
template <class F>
__device__ __forceinline__ void for_own(int32_t n, F f) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(int32_t(i));
}

template <class Element>
__device__ __forceinline__ Best<ComputeOf<Element>> decay_own(const SoftNms<Element>& p, int32_t selected) {
  using T = ComputeOf<Element>;
  const Box<T> selected_box = p.boxes[selected];
  const T selected_area = area(selected_box);
  Best<T> best = nothing<T>();
  for_own(p.n, [&](int32_t i) {
    T score = p.scores[i];
    if (i == selected) {
      p.scores[i] = T(NAN);
    } else if (score == score) {
      const Box<T> box = p.boxes[i];
      const T overlap = iou(selected_box, selected_area, box, area(box));
      score = decayed(score, overlap, p.iou_threshold, p.sigma, p.method);
      p.scores[i] = score;
      best = better(best, {score, i});
    }
  });
  return best;
}

template <class Element>
__global__ void __launch_bounds__(kMaxThreads, 1) soft_nms_kernel(SoftNms<Element> p) {
  using T = ComputeOf<Element>;
  using Slots = Best<T>;
  GCV_SHARED(Slots, slots, [2][kMaxWarps]);
  Best<T> best = nothing<T>();
  for_own(p.n, [&](int32_t i) {
    p.boxes[i] = load_box(p.from, i);
    p.scores[i] = widen(p.from_scores[i * p.score_stride]);
    best = better(best, {p.scores[i], i});
  });

  int32_t taken = 0;
  for (;; ++taken) {
    best = best_of_block(best, slots[taken % 2]);
    if (gridDim.x > 1) best = best_of_grid(best, p.slots[taken % 2], p.arrivals);
    if (!(double(best.score) > p.score_threshold)) break;
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      p.keep[taken] = best.index;
      p.kept_scores[taken] = narrow<Element>(best.score);
    }
    best = decay_own(p, best.index);
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) *p.count = taken;
}

int64_t block_limit(const SoftNmsCudaParams& p) { return ceil_div<int64_t>(p.n, p.boxes_per_block); }

template <class Element>
size_t lay_out(const SoftNmsCudaParams& p, SoftNms<Element>& to) {
  using T = ComputeOf<Element>;
  Workspace workspace(p.workspace);
  to.arrivals = workspace.take<unsigned>(1);
  for (auto& slots : to.slots) slots = workspace.take<Best<T>>(block_limit(p));
  to.scores = workspace.take<T>(p.n);
  to.boxes = workspace.take<PackedBox<T>>(p.n);
  return workspace.used();
}

template <class Element>
cudaError_t run(const SoftNmsCudaParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  SoftNms<Element> to{};
  to.from = strided_boxes<Element>(p.boxes, p.box_stride, p.coord_stride);
  to.from_scores = static_cast<const Element*>(p.scores);
  to.score_stride = p.score_stride;
  to.n = int32_t(p.n);
  to.method = p.method;
  to.iou_threshold = floor_to<T>(p.iou_threshold);
  to.sigma = T(p.sigma);
  to.score_threshold = p.score_threshold;
  to.keep = p.keep;
  to.kept_scores = static_cast<Element*>(p.kept_scores);
  to.count = p.count;
  lay_out(p, to);

  const int64_t per_block = min(int64_t(p.boxes_per_block), p.n);
  const int threads = int(min(ceil_div<int64_t>(per_block, 32) * 32, int64_t(kMaxThreads)));
  int resident = 0;
  if (cudaError_t error = max_cooperative_blocks(soft_nms_kernel<Element>, threads, 0, &resident))
    return error;
  const int64_t blocks = min(block_limit(p), int64_t(resident));
  if (cudaError_t error = cudaMemsetAsync(to.arrivals, 0, sizeof *to.arrivals, stream)) return error;
  const LaunchConfig config{dim3(unsigned(blocks)), dim3(unsigned(threads)), 0, stream};
  return blocks > 1 ? launch_cooperative(soft_nms_kernel<Element>, config, to)
                    : launch(soft_nms_kernel<Element>, config, to);
}

}  // namespace

size_t soft_nms_cuda_workspace_bytes(const SoftNmsCudaParams& p) {
  if (p.dtype == DType::f64) {
    SoftNms<double> to{};
    return lay_out(p, to);
  }
  SoftNms<float> to{};
  return lay_out(p, to);
}

cudaError_t soft_nms_cuda(const SoftNmsCudaParams& p, cudaStream_t stream) {
  if (p.n > INT32_MAX || p.boxes_per_block <= 0) return cudaErrorInvalidValue;
  if (p.n == 0) return cudaMemsetAsync(p.count, 0, sizeof *p.count, stream);
  return with_element(p.dtype, [&](auto element) { return run<decltype(element)>(p, stream); });
}

}  // namespace gcv

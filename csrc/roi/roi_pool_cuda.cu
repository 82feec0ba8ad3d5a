// A thread for each bin and channel finds a maximum. Backward, a warp owns a stretch of one row of 32
// channels and collects from the regions that reach it, in their order: no atomics, and equal bits every
// time.
#include "common/elements_cuda.h"
#include "roi/roi_pool_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ int64_t own_index() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

dim3 grid_for(int64_t items, int per_block) { return dim3(unsigned(ceil_div<int64_t>(items, per_block))); }

int64_t outputs_of(const PoolShape& s) { return s.regions.count * s.channels * bin_count(s); }

struct Place {
  int64_t region, channel, row, column;

  __device__ __forceinline__ int64_t output(const PoolShape& s) const {
    return ((region * s.channels + channel) * s.rows + row) * s.columns + column;
  }
};

// Neighbouring threads read neighbouring numbers: channels where those lie together, else bins.
__device__ __forceinline__ Place place_of(const PoolShape& s, const PoolMaps& input, int64_t i) {
  Place at;
  int64_t bin;
  if (input.strides[1] == 1) {
    at.channel = i % s.channels;
    bin = i / s.channels % bin_count(s);
    at.region = i / s.channels / bin_count(s);
  } else {
    bin = i % bin_count(s);
    at.channel = i / bin_count(s) % s.channels;
    at.region = i / bin_count(s) / s.channels;
  }
  at.row = bin / s.columns;
  at.column = bin % s.columns;
  return at;
}

template <class T>
struct Largest {
  T value;
  int64_t pixel;  // -1: none
};

template <class Element>
__device__ __forceinline__ Largest<ComputeOf<Element>> find_largest(
    const PoolShape& s, const PoolMaps& input, const PoolRegion<ComputeOf<Element>>& region,
    const Place& at) {
  using T = ComputeOf<Element>;
  const Extent y = pool_extent(region.y, at.row, s.height), x = pool_extent(region.x, at.column, s.width);
  if (y.begin >= y.end || x.begin >= x.end) return {T(0), -1};
  Largest<T> best{T(kLowest), -1};
  const auto* map = static_cast<const Element*>(input.data) + region.image * input.strides[0] +
                    at.channel * input.strides[1];
  for (int64_t row = y.begin; row < y.end; ++row) {
    for (int64_t column = x.begin; column < x.end; ++column) {
      const T value = widen(map[row * input.strides[2] + column * input.strides[3]]);
      if (value > best.value) best = {value, row * s.width + column};
    }
  }
  return best;
}

template <class Element>
__global__ void __launch_bounds__(kThreads) pool_kernel(RoiPoolParams p) {
  using T = ComputeOf<Element>;
  const int64_t i = own_index();
  if (i >= p.shape.regions.count * p.shape.channels * bin_count(p.shape)) return;
  const Place at = place_of(p.shape, p.input, i);
  const PoolRegion<T> region = pool_region<T>(p.shape, at.region);
  const T result = region.sound ? find_largest<Element>(p.shape, p.input, region, at).value : T(NAN);
  static_cast<Element*>(p.output)[at.output(p.shape)] = narrow<Element>(result);
}

template <class Element>
__global__ void __launch_bounds__(kThreads) pick_kernel(RoiPoolPickParams p) {
  using T = ComputeOf<Element>;
  const int64_t i = own_index();
  if (i >= p.shape.regions.count * p.shape.channels * bin_count(p.shape)) return;
  const Place at = place_of(p.shape, p.input, i);
  const PoolRegion<T> region = pool_region<T>(p.shape, at.region);
  const int64_t pixel = region.sound ? find_largest<Element>(p.shape, p.input, region, at).pixel : -1;
  Element picked = narrow<Element>(T(0));
  if (pixel >= 0) {
    const auto& strides = p.values.strides;
    picked = static_cast<const Element*>(
        p.values.data)[region.image * strides[0] + at.channel * strides[1] +
                       pixel / p.shape.width * strides[2] + pixel % p.shape.width * strides[3]];
  }
  static_cast<Element*>(p.output)[at.output(p.shape)] = picked;
}

template <class Element>
__global__ void __launch_bounds__(kThreads) maxima_kernel(PoolShape s, PoolMaps input, int32_t* maxima) {
  using T = ComputeOf<Element>;
  const int64_t i = own_index();
  if (i >= s.regions.count * s.channels * bin_count(s)) return;
  const Place at = place_of(s, input, i);
  const PoolRegion<T> region = pool_region<T>(s, at.region);
  maxima[at.output(s)] = region.sound ? int32_t(find_largest<Element>(s, input, region, at).pixel) : -1;
}

// What a warp owns: pixels [x, x + kStretch) of row y in channels [channel, channel + 32) of an image.
constexpr int kStretch = 32, kLanesOfWarp = 32, kWarps = 4;

struct Stretch {
  int64_t image, channel, y, x;
};

GCV_HD int64_t stretches_of(const PoolShape& s) {
  return s.images * ceil_div<int64_t>(s.channels, kLanesOfWarp) * s.height *
         ceil_div<int64_t>(s.width, kStretch);
}

__device__ __forceinline__ Stretch stretch_of(const PoolShape& s, int64_t i) {
  const int64_t columns = ceil_div<int64_t>(s.width, kStretch);
  const int64_t groups = ceil_div<int64_t>(s.channels, kLanesOfWarp);
  return {i / columns / s.height / groups, i / columns / s.height % groups * kLanesOfWarp,
          i / columns % s.height, i % columns * kStretch};
}

template <class T>
__device__ __forceinline__ bool reaches(const PoolShape& s, const PoolRegion<T>& region, const Stretch& own) {
  if (!region.sound || region.image != own.image) return false;
  return pool_extent(region.y, 0, s.height).begin <= own.y &&
         own.y < pool_extent(region.y, s.rows - 1, s.height).end &&
         pool_extent(region.x, 0, s.width).begin < own.x + kStretch &&
         own.x < pool_extent(region.x, s.columns - 1, s.width).end;
}

// Of one region, each lane for its channel. sums[i][lane] belongs to pixel own.x + i.
template <class Element>
__device__ __forceinline__ void collect(const RoiPoolBackwardParams& p, const int32_t* maxima, int64_t k,
                                        const Stretch& own, ComputeOf<Element> (*sums)[kLanesOfWarp + 1]) {
  using T = ComputeOf<Element>;
  const PoolShape& s = p.shape;
  const int64_t channel = own.channel + lane_id();
  const PoolRegion<T> region = pool_region<T>(s, k);
  const auto* grad =
      static_cast<const Element*>(p.grad.data) + k * p.grad.strides[0] + channel * p.grad.strides[1];
  const int64_t row_start = own.y * s.width + own.x;
  for (int64_t i = 0; i < s.rows; ++i) {
    const Extent y = pool_extent(region.y, i, s.height);
    if (own.y < y.begin || own.y >= y.end) continue;
    const int32_t* of_row = maxima + ((k * s.channels + channel) * s.rows + i) * s.columns;
    for (int64_t j = 0; j < s.columns; ++j) {
      const Extent x = pool_extent(region.x, j, s.width);
      if (x.end <= own.x || x.begin >= own.x + kStretch) continue;
      const int64_t at = of_row[j] - row_start;
      if (at >= 0 && at < kStretch && own.x + at < s.width)
        sums[at][lane_id()] += widen(grad[i * p.grad.strides[2] + j * p.grad.strides[3]]);
    }
  }
}

// Lanes write neighbouring numbers: channels where those lie together, else pixels.
template <class Element>
__device__ __forceinline__ void write_sums(const RoiPoolBackwardParams& p, const Stretch& own,
                                           const ComputeOf<Element> (*sums)[kLanesOfWarp + 1]) {
  const auto& strides = p.grad_input.strides;
  auto* first = static_cast<Element*>(p.grad_input.data) + own.image * strides[0] + own.channel * strides[1] +
                own.y * strides[2] + own.x * strides[3];
  const bool by_channel = strides[1] == 1;
  const int lane = int(lane_id());
  for (int step = 0; step < kStretch; ++step) {
    const int c = by_channel ? lane : step, x = by_channel ? step : lane;
    if (own.channel + c < p.shape.channels && own.x + x < p.shape.width)
      first[c * strides[1] + x * strides[3]] = narrow<Element>(sums[x][c]);
  }
}

// The blocks that are to be resident: ptxas, left to choose its number of registers, spills around its calls
// of division routines.
constexpr int kCollectBlocks = 6;

template <class Element>
__global__ void __launch_bounds__(kWarps* kLanesOfWarp, kCollectBlocks)
    collect_kernel(RoiPoolBackwardParams p, const int32_t* maxima) {
  using T = ComputeOf<Element>;
  GCV_SHARED(T, all_sums, [kWarps][kStretch][kLanesOfWarp + 1]);
  const PoolShape& s = p.shape;
  const int64_t index = own_index() / kLanesOfWarp;
  if (index >= stretches_of(s)) return;
  const Stretch own = stretch_of(s, index);
  auto* sums = all_sums[threadIdx.x / kLanesOfWarp];
  const unsigned lane = lane_id();
  for (int x = 0; x < kStretch; ++x) sums[x][lane] = 0;
  for (int64_t first = 0; first < s.regions.count; first += kLanesOfWarp) {
    const int64_t k = first + lane;
    const bool mine = k < s.regions.count && reaches(s, pool_region<T>(s, k), own);
    for (unsigned left = __ballot_sync(kFullWarp, mine); left != 0; left &= left - 1) {
      if (own.channel + lane < s.channels)
        collect<Element>(p, maxima, first + __ffs(int(left)) - 1, own, sums);
    }
  }
  __syncwarp();
  write_sums<Element>(p, own, sums);
}

}  // namespace

cudaError_t roi_pool_cuda(const RoiPoolParams& p, cudaStream_t stream) {
  const int64_t outputs = outputs_of(p.shape);
  if (outputs == 0) return cudaSuccess;
  return with_element(p.shape.dtype, [&](auto element) {
    return launch(pool_kernel<decltype(element)>, {grid_for(outputs, kThreads), dim3(kThreads), 0, stream},
                  p);
  });
}

cudaError_t roi_pool_pick_cuda(const RoiPoolPickParams& p, cudaStream_t stream) {
  const int64_t outputs = outputs_of(p.shape);
  if (outputs == 0) return cudaSuccess;
  return with_element(p.shape.dtype, [&](auto element) {
    return launch(pick_kernel<decltype(element)>, {grid_for(outputs, kThreads), dim3(kThreads), 0, stream},
                  p);
  });
}

cudaError_t roi_pool_backward_cuda(const RoiPoolBackwardParams& p, int32_t* maxima, cudaStream_t stream) {
  const PoolShape& s = p.shape;
  const int64_t outputs = outputs_of(s), stretches = stretches_of(s);
  if (stretches == 0) return cudaSuccess;
  return with_element(s.dtype, [&](auto element) {
    using Element = decltype(element);
    if (outputs > 0) {
      const LaunchConfig config{grid_for(outputs, kThreads), dim3(kThreads), 0, stream};
      if (cudaError_t error = launch(maxima_kernel<Element>, config, s, p.input, maxima)) return error;
    }
    return launch(collect_kernel<Element>,
                  {grid_for(stretches, kWarps), dim3(kWarps * kLanesOfWarp), 0, stream}, p, maxima);
  });
}

}  // namespace gcv

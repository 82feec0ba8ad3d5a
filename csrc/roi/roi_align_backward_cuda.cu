// Gradients of RoI align, without atomics: a block owns a tile of cells and some channels, looks for the
// regions that reach the tile, in their order, and gathers from their bins. A box's gradient is summed by one
// block. The maximum first says which sample each bin took.
#include "roi/roi_align_packs_cuda.h"

namespace gcv {
namespace {

constexpr int kTile = 8;    // cells along either side
constexpr int kPack = 8;    // channels of a thread
constexpr int kBatch = 16;  // regions gathered between two barriers
constexpr int kBins = 16;   // bins along an axis, likewise
constexpr int kChannels = kThreads / (kTile * kTile) * kPack;
static_assert(kThreads == kBatch * 2 * kTile);

struct Winner {
  int32_t y, x;
};

struct Launch {
  RoiAlignBackwardParams p;
  int64_t tiles_before[kRoiMostLevels + 1];
  int64_t chunks;
  Winner* winners;  // [K, C, pooled_height, pooled_width]; null but for the maximum
};

struct Tile {
  int64_t level, image, y, x;

  static __device__ __forceinline__ Tile of(const Launch& l, int64_t tile) {
    Tile own{};
    while (tile >= l.tiles_before[own.level + 1]) ++own.level;
    tile -= l.tiles_before[own.level];
    const RoiAlignMap& map = l.p.regions.levels[own.level];
    const int64_t across = ceil_div(map.width, kTile), down = ceil_div(map.height, kTile);
    own.image = tile / (across * down);
    own.y = tile / across % down * kTile;
    own.x = tile % across * kTile;
    return own;
  }
};

// Whether samples may lie between cells around [cell, cell + kTile).
template <class T>
__device__ __forceinline__ bool reaches(const RoiAxis<T>& axis, int64_t bins, int64_t cell) {
  if (!(axis.count > T(0))) return false;
  const T end = axis.start + T(bins) * axis.bin;
  const T low = axis.start < end ? axis.start : end, high = axis.start < end ? end : axis.start;
  const T slack = T(1.5) + T(1e-6) * (high - low + (low < 0 ? -low : low));
  return high + slack >= T(cell) && low - slack <= T(cell + kTile);
}

template <class T>
__device__ __forceinline__ bool reaches(const Launch& l, int64_t k, const Tile& tile) {
  const RoiAlignRegions& p = l.p.regions;
  if (k >= p.boxes.count) return false;
  const RoiPlace<T> place = roi_place<T>(p, k);
  return place.level == tile.level && place.image == tile.image &&
         reaches(place.y, p.pooled_height, tile.y) && reaches(place.x, p.pooled_width, tile.x);
}

// The k of the threads that `keep` theirs, in order; returns how many. All threads call.
__device__ __forceinline__ int compact(bool keep, int64_t k, int64_t* kept, int* warp_counts) {
  const unsigned votes = __ballot_sync(0xffffffffu, keep);
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  if (lane == 0) warp_counts[warp] = __popc(votes);
  __syncthreads();
  int before = 0, total = 0;
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w < warp) before += warp_counts[w];
    total += warp_counts[w];
  }
  if (keep) kept[before + __popc(votes & ((1u << lane) - 1))] = k;
  __syncthreads();
  return total;
}

template <class T>
__device__ __forceinline__ T weight_on(const RoiSample<T>& s, int64_t line) {
  if (!s.inside) return T(0);
  return (s.low == line ? s.low_weight : T(0)) + (s.high == line ? s.high_weight : T(0));
}

// The sum of a bin's weights on one row or column.
template <class T>
__device__ __forceinline__ T bin_weight(const RoiAxis<T>& axis, int64_t bin, int64_t line, int64_t size) {
  RoiAxis<T> moved = axis;
  moved.start -= T(line);
  const RoiSampleRange near = roi_samples_near(moved, bin, 1);
  T sum = T(0);
  for (int64_t i = near.first; i < near.last; ++i) sum += weight_on(roi_sample(axis, bin, i, size), line);
  return sum;
}

// The bins [first, last) of a window whose samples reach a row or column.
struct BinRange {
  int16_t first, last;
};

template <class T>
struct Weights {
  T of[kBatch][2][kTile][kBins];
  BinRange bins[kBatch][2][kTile];
};

// Each thread the weights of one region, axis and line, for bins from (ph, pw) on.
template <class T>
__device__ __forceinline__ void fill_weights(const RoiAlignRegions& p, const int64_t* regions, int count,
                                             const Tile& tile, int64_t ph, int64_t pw, Weights<T>& to) {
  const int own = int(threadIdx.x) / (2 * kTile), axis = int(threadIdx.x) / kTile % 2;
  const int line = int(threadIdx.x) % kTile;
  if (own >= count) return;
  const RoiPlace<T> place = roi_place<T>(p, regions[own]);
  const RoiAlignMap& map = p.levels[tile.level];
  const RoiAxis<T> samples = axis ? place.x : place.y;
  const int64_t cell = (axis ? tile.x : tile.y) + line, size = axis ? map.width : map.height;
  const int64_t first = axis ? pw : ph, bins = axis ? p.pooled_width : p.pooled_height;
  BinRange range{0, 0};
  for (int b = 0; b < kBins && first + b < bins; ++b) {
    const T weight = cell < size ? bin_weight(samples, first + b, cell, size) : T(0);
    to.of[own][axis][line][b] = weight;
    if (weight == T(0)) continue;
    if (range.last == 0) range.first = int16_t(b);
    range.last = int16_t(b + 1);
  }
  to.bins[own][axis][line] = range;
}

template <class Element, bool kVectors, bool kMax>
__device__ __forceinline__ void gather_region(const Launch& l,
                                              const Weights<typename Compute<Element>::type>& w, int own,
                                              int64_t k, const Tile& tile, int64_t first_ph, int64_t first_pw,
                                              int64_t channel,
                                              typename Compute<Element>::type (&sum)[kPack]) {
  using T = typename Compute<Element>::type;
  const RoiAlignRegions& p = l.p.regions;
  const int y = int(threadIdx.x) / kTile % kTile, x = int(threadIdx.x) % kTile;
  const BinRange rows = w.bins[own][0][y], columns = w.bins[own][1][x];
  if (rows.first >= rows.last || columns.first >= columns.last) return;
  const RoiPlace<T> place = roi_place<T>(p, k);
  const T samples = roi_sample_count(place.y, place.x);
  const int64_t* strides = l.p.grad_strides;
  const Element* grad = static_cast<const Element*>(l.p.grad) + k * strides[0] + channel * strides[1];
  for (int b = rows.first; b < rows.last; ++b) {
    for (int a = columns.first; a < columns.last; ++a) {
      const int64_t ph = first_ph + b, pw = first_pw + a;
      T values[kPack];
      load_pack<kVectors>(grad + ph * strides[2] + pw * strides[3], strides[1], p.channels - channel, values);
      const T weight = w.of[own][0][y][b] * w.of[own][1][x][a] / samples;
#pragma unroll
      for (int c = 0; c < kPack; ++c) {
        if constexpr (kMax) {
          if (channel + c >= p.channels) break;
          const Winner best =
              l.winners[((k * p.channels + channel + c) * p.pooled_height + ph) * p.pooled_width + pw];
          if (best.y < 0) continue;
          const RoiAlignMap& map = p.levels[tile.level];
          const T by_y = weight_on(roi_sample(place.y, ph, best.y, map.height), tile.y + y);
          const T by_x = weight_on(roi_sample(place.x, pw, best.x, map.width), tile.x + x);
          sum[c] = multiply_add(by_y * by_x, values[c], sum[c]);
        } else {
          sum[c] = multiply_add(weight, values[c], sum[c]);
        }
      }
    }
  }
}

template <class Element, bool kVectors, bool kMax>
__global__ void __launch_bounds__(kThreads, 2) gather_kernel(Launch l) {
  using T = typename Compute<Element>::type;
  using Table = Weights<T>;
  GCV_SHARED(Table, weights);
  GCV_SHARED(int64_t, touching, [kThreads]);
  GCV_SHARED(int, warp_counts, [kThreads / 32]);
  const RoiAlignRegions& p = l.p.regions;
  const int64_t items = l.tiles_before[p.level_count] * l.chunks;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile tile = Tile::of(l, item / l.chunks);
    const int64_t channel = item % l.chunks * kChannels + int64_t(threadIdx.x) / (kTile * kTile) * kPack;
    T sum[kPack] = {};
    for (int64_t first = 0; first < p.boxes.count; first += kThreads) {
      const int64_t k = first + threadIdx.x;
      const int total = compact(reaches<T>(l, k, tile), k, touching, warp_counts);
      for (int batch = 0; batch < total; batch += kBatch) {
        const int count = total - batch < kBatch ? total - batch : kBatch;
        for (int64_t ph = 0; ph < p.pooled_height; ph += kBins) {
          for (int64_t pw = 0; pw < p.pooled_width; pw += kBins) {
            fill_weights(p, touching + batch, count, tile, ph, pw, weights);
            __syncthreads();
            for (int own = 0; own < count && channel < p.channels; ++own) {
              gather_region<Element, kVectors, kMax>(l, weights, own, touching[batch + own], tile, ph, pw,
                                                     channel, sum);
            }
            __syncthreads();
          }
        }
      }
    }
    const RoiAlignMap& map = p.levels[tile.level];
    const int64_t y = tile.y + threadIdx.x / kTile % kTile, x = tile.x + threadIdx.x % kTile;
    if (y >= map.height || x >= map.width || channel >= p.channels) continue;
    const int64_t cells = map.height * map.width, cell = y * map.width + x;
    const bool last = l.p.grad_maps_channels_last;
    const int64_t at =
        tile.image * p.channels * cells + (last ? cell * p.channels + channel : channel * cells + cell);
    store_pack(sum, last ? 1 : cells, p.channels - channel, last && p.channels % kPack == 0,
               static_cast<Element*>(l.p.grad_maps[tile.level]) + at);
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreads, 2) winner_kernel(Launch l) {
  using T = typename Compute<Element>::type;
  const RoiAlignRegions& p = l.p.regions;
  const int64_t bins = p.pooled_height * p.pooled_width, count = p.boxes.count * p.channels * bins;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kThreads) {
    const RoiPlace<T> place = roi_place<T>(p, i / (p.channels * bins));
    if (place.level < 0) continue;
    const RoiAlignMap& map = p.levels[place.level];
    const Element* channel = static_cast<const Element*>(map.data) + place.image * map.strides[0] +
                             i / bins % p.channels * map.strides[1];
    const BestSample<T> best =
        best_sample<T>(place, map, channel, i % bins / p.pooled_width, i % p.pooled_width);
    l.winners[i] = {best.y, best.x};
  }
}

// How the value of bins changes as the edges y1, y2, x1, x2 move.
template <class T>
struct EdgeGradients {
  T of[4];
};

template <class T, class Element>
__device__ __forceinline__ void add_sample(const RoiAlignRegions& p, const RoiPlace<T>& place,
                                           const Element* channel, T grad, int64_t ph, int64_t pw, int64_t iy,
                                           int64_t ix, EdgeGradients<T>& sum) {
  const RoiAlignMap& map = p.levels[place.level];
  const RoiSample<T> y = roi_sample(place.y, ph, iy, map.height), x = roi_sample(place.x, pw, ix, map.width);
  if (!y.inside || !x.inside) return;
  const Element* low = channel + y.low * map.strides[2];
  const Element* high = channel + y.high * map.strides[2];
  const int64_t left = x.low * map.strides[3], right = x.high * map.strides[3];
  const T low_left = widen(low[left]), low_right = widen(low[right]), high_left = widen(high[left]),
          high_right = widen(high[right]);
  if (y.moves) {
    const T down = grad * (x.low_weight * (high_left - low_left) + x.high_weight * (high_right - low_right));
    const RoiSlope<T> slope = roi_slope(place.y, map.scale, ph, iy, p.pooled_height);
    sum.of[0] = multiply_add(slope.from, down, sum.of[0]);
    sum.of[1] = multiply_add(slope.to, down, sum.of[1]);
  }
  if (x.moves) {
    const T along = grad * (y.low_weight * (low_right - low_left) + y.high_weight * (high_right - high_left));
    const RoiSlope<T> slope = roi_slope(place.x, map.scale, pw, ix, p.pooled_width);
    sum.of[2] = multiply_add(slope.from, along, sum.of[2]);
    sum.of[3] = multiply_add(slope.to, along, sum.of[3]);
  }
}

template <class T>
__device__ __forceinline__ void store_box(const RoiAlignBackwardParams& p, int64_t k, const T (&edges)[4]) {
  const T row[5] = {T(0), edges[2], edges[0], edges[3], edges[1]};
  for (int i = 0; i < 5; ++i) {
    switch (p.regions.boxes.dtype) {
      case DType::f64:
        static_cast<double*>(p.grad_boxes)[5 * k + i] = double(row[i]);
        break;
      case DType::f16:
        narrow(float(row[i]), static_cast<Half*>(p.grad_boxes)[5 * k + i]);
        break;
      case DType::bf16:
        narrow(float(row[i]), static_cast<BFloat16*>(p.grad_boxes)[5 * k + i]);
        break;
      default:
        static_cast<float*>(p.grad_boxes)[5 * k + i] = float(row[i]);
    }
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreads, 2) box_kernel(Launch l) {
  using T = typename Compute<Element>::type;
  using Sums = EdgeGradients<T>;
  GCV_SHARED(Sums, sums, [kThreads]);
  const RoiAlignRegions& p = l.p.regions;
  const int64_t bins = p.pooled_height * p.pooled_width;
  for (int64_t k = blockIdx.x; k < p.boxes.count; k += gridDim.x) {
    const RoiPlace<T> place = roi_place<T>(p, k);
    Sums sum{};
    for (int64_t i = threadIdx.x; place.level >= 0 && i < p.channels * bins; i += kThreads) {
      const RoiAlignMap& map = p.levels[place.level];
      const int64_t c = i / bins, ph = i % bins / p.pooled_width, pw = i % p.pooled_width;
      const int64_t* strides = l.p.grad_strides;
      const T grad = widen(static_cast<const Element*>(
          l.p.grad)[k * strides[0] + c * strides[1] + ph * strides[2] + pw * strides[3]]);
      const Element* channel =
          static_cast<const Element*>(map.data) + place.image * map.strides[0] + c * map.strides[1];
      if (l.winners) {
        const Winner best = l.winners[k * p.channels * bins + i];
        if (best.y >= 0) add_sample(p, place, channel, grad, ph, pw, best.y, best.x, sum);
        continue;
      }
      const T share = grad / roi_sample_count(place.y, place.x);
      const RoiSampleRange ys = roi_samples_near(place.y, ph, map.height);
      const RoiSampleRange xs = roi_samples_near(place.x, pw, map.width);
      for (int64_t iy = ys.first; iy < ys.last; ++iy) {
        for (int64_t ix = xs.first; ix < xs.last; ++ix)
          add_sample(p, place, channel, share, ph, pw, iy, ix, sum);
      }
    }
    sums[threadIdx.x] = sum;
    for (int half = kThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (int(threadIdx.x) >= half) continue;
      for (int e = 0; e < 4; ++e) sums[threadIdx.x].of[e] += sums[threadIdx.x + half].of[e];
    }
    if (threadIdx.x == 0) store_box(l.p, k, sums[0].of);
    __syncthreads();
  }
}

template <class Element, bool kVectors, bool kMax>
cudaError_t gather(const Launch& l, cudaStream_t stream) {
  const dim3 grid = grid_of(l.tiles_before[l.p.regions.level_count] * l.chunks);
  return launch(gather_kernel<Element, kVectors, kMax>, {grid, dim3(kThreads), 0, stream}, l);
}

template <class Element>
cudaError_t backward(const Launch& l, cudaStream_t stream) {
  const RoiAlignRegions& p = l.p.regions;
  const int64_t outputs = p.boxes.count * p.channels * p.pooled_height * p.pooled_width;
  if (p.is_max && outputs > 0) {
    const LaunchConfig config{grid_of(ceil_div(outputs, kThreads)), dim3(kThreads), 0, stream};
    if (cudaError_t error = launch(winner_kernel<Element>, config, l)) return error;
  }
  if (l.p.grad_boxes && p.boxes.count > 0) {
    const LaunchConfig config{grid_of(p.boxes.count), dim3(kThreads), 0, stream};
    if (cudaError_t error = launch(box_kernel<Element>, config, l)) return error;
  }
  if (l.tiles_before[p.level_count] * l.chunks == 0) return cudaSuccess;
  if (p.is_max) return gather<Element, false, true>(l, stream);
  const bool vectors =
      has_vectors<Element>(l.p.grad, l.p.grad_strides, p.channels) && p.channels % kPack == 0;
  return vectors ? gather<Element, true, false>(l, stream) : gather<Element, false, false>(l, stream);
}

}  // namespace

size_t roi_align_backward_cuda_workspace_bytes(const RoiAlignBackwardParams& p) {
  const RoiAlignRegions& r = p.regions;
  if (!r.is_max) return 0;
  return size_t(r.boxes.count * r.channels * r.pooled_height * r.pooled_width) * sizeof(Winner);
}

cudaError_t roi_align_backward_cuda(const RoiAlignBackwardParams& p, void* workspace, cudaStream_t stream) {
  const RoiAlignRegions& r = p.regions;
  Launch l{};
  l.p = p;
  for (int64_t i = 0; i < r.level_count; ++i) {
    l.tiles_before[i + 1] = l.tiles_before[i] + r.batch * ceil_div(r.levels[i].height, kTile) *
                                                    ceil_div(r.levels[i].width, kTile);
  }
  l.chunks = ceil_div(r.channels, kChannels);
  l.winners = r.is_max ? static_cast<Winner*>(workspace) : nullptr;
  return GCV_BY_DTYPE(r.dtype, backward, l, stream);
}

}  // namespace gcv

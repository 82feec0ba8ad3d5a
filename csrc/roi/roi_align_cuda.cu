// The mean of a bin's samples is a sum over rows and columns of the map, weighted by a factor of the row and
// one of the column: a block finds those of its region once, neighbouring samples' weights joined, and all
// channels use them. The maximum goes from sample to sample.
#include "roi/roi_align_packs_cuda.h"

namespace gcv {
namespace {

constexpr int kItems = 1024;  // outputs of a block, times channels in a pack
constexpr int kPlainPack = 4;
constexpr size_t kMostShared = 40 * 1024;
constexpr int64_t kWorkspaceBlocks = 512;

// A row or column, as an offset into the map, and its factor.
template <class T>
struct alignas(16) Tap {
  int64_t offset;
  T weight;
};

struct BinTaps {
  int64_t first;
  int64_t count;
};

int64_t most_taps(const RoiAlignRegions& p, int64_t bins, bool rows) {
  if (p.sampling_ratio > 0) return 2 * p.sampling_ratio * bins;
  int64_t largest = 0;
  for (int64_t i = 0; i < p.level_count; ++i) {
    const int64_t size = rows ? p.levels[i].height : p.levels[i].width;
    largest = size > largest ? size : largest;
  }
  return largest + 4 * bins;
}

// The taps of one axis: bins begin where no other's can lie.
template <class T>
struct AxisTaps {
  Tap<T>* taps;
  BinTaps* bins;
};

template <class T>
__device__ __forceinline__ int64_t add_tap(Tap<T>* taps, int64_t count, int64_t offset, T weight) {
  for (int64_t i = count - 1; i >= 0 && i >= count - 2; --i) {
    if (taps[i].offset == offset) {
      taps[i].weight += weight;
      return count;
    }
  }
  taps[count] = {offset, weight};
  return count + 1;
}

template <class T>
__device__ __forceinline__ void fill_bin(const RoiAxis<T>& axis, int64_t bin, int64_t size, int64_t stride,
                                         int64_t sampling_ratio, const AxisTaps<T>& to) {
  const RoiSampleRange near = roi_samples_near(axis, bin, size);
  int64_t first = 2 * sampling_ratio * bin, count = 0;
  for (int64_t i = near.first; i < near.last; ++i) {
    const RoiSample<T> s = roi_sample(axis, bin, i, size);
    if (!s.inside) continue;
    // Adaptive bins follow each other and share two rows at most, or three where positions are rounded.
    if (sampling_ratio <= 0 && count == 0) first = s.low + 4 * bin;
    count = add_tap(to.taps + first, count, s.low * stride, s.low_weight);
    count = add_tap(to.taps + first, count, s.high * stride, s.high_weight);
  }
  to.bins[bin] = {first, count};
}

struct Launch {
  RoiAlignParams p;
  int64_t chunks;           // of channels
  int64_t packs_per_chunk;  // but for the last
  bool vector_results;
  bool packs_first;  // neighbouring threads have neighbouring channels, else neighbouring bins
  int64_t row_taps, column_taps;
  void* workspace;  // null where the taps are in shared memory
  size_t block_bytes;
};

template <class T>
size_t tap_bytes(const Launch& l) {
  return size_t(l.row_taps + l.column_taps) * sizeof(Tap<T>) +
         size_t(l.p.regions.pooled_height + l.p.regions.pooled_width) * sizeof(BinTaps);
}

// A block's share of the outputs of one region: `packs` packs of channels from `channel` on, in all bins.
struct Share {
  int64_t k, channel;
  unsigned packs, bins, columns;

  static __device__ __forceinline__ Share of(const Launch& l, int64_t item, int pack) {
    const RoiAlignRegions& p = l.p.regions;
    Share share;
    share.k = item / l.chunks;
    const int64_t first = item % l.chunks * l.packs_per_chunk, left = ceil_div(p.channels, pack) - first;
    share.channel = first * pack;
    share.packs = unsigned(left < l.packs_per_chunk ? left : l.packs_per_chunk);
    share.columns = unsigned(p.pooled_width);
    share.bins = unsigned(p.pooled_height) * share.columns;
    return share;
  }

  // Calls f(channel, ph, pw) for what this thread computes.
  template <class F>
  __device__ __forceinline__ void for_own(bool packs_first, int pack, F f) const {
    for (unsigned i = threadIdx.x; i < packs * bins; i += kThreads) {
      const unsigned own_pack = packs_first ? i % packs : i / bins, bin = packs_first ? i / packs : i % bins;
      f(channel + int64_t(own_pack) * pack, int64_t(bin / columns), int64_t(bin % columns));
    }
  }
};

template <int kPack, class Element, class T>
__device__ __forceinline__ void store_result(const Launch& l, int64_t k, int64_t channel, int64_t ph,
                                             int64_t pw, const T (&values)[kPack]) {
  const RoiAlignRegions& p = l.p.regions;
  const int64_t bins = p.pooled_height * p.pooled_width, bin = ph * p.pooled_width + pw;
  const bool last = l.p.output_channels_last;
  const int64_t at = k * p.channels * bins + (last ? bin * p.channels + channel : channel * bins + bin);
  store_pack(values, last ? 1 : bins, p.channels - channel, l.vector_results,
             static_cast<Element*>(l.p.output) + at);
}

// For a region that has no samples: NaN where it is not sound, else zeros.
template <int kPack, class Element, class T>
__device__ __forceinline__ void store_constant(const Launch& l, const Share& share,
                                               const RoiPlace<T>& place) {
  T values[kPack];
  for (T& value : values) value = place.sound ? T(0) : T(NAN);
  share.for_own(l.packs_first, kPack, [&](int64_t channel, int64_t ph, int64_t pw) {
    store_result<kPack, Element>(l, share.k, channel, ph, pw, values);
  });
}

template <class Element, bool kVectors>
__global__ void __launch_bounds__(kThreads, 3) average_kernel(Launch l) {
  using T = typename Compute<Element>::type;
  constexpr int kPack = kVectors ? kVectorPack<Element> : kPlainPack;
  const RoiAlignRegions& p = l.p.regions;
  char* memory =
      l.workspace ? static_cast<char*>(l.workspace) + blockIdx.x * l.block_bytes : dyn_shared<char>();
  Tap<T>* taps = reinterpret_cast<Tap<T>*>(memory);
  BinTaps* bins = reinterpret_cast<BinTaps*>(taps + l.row_taps + l.column_taps);
  const AxisTaps<T> rows{taps, bins}, columns{taps + l.row_taps, bins + p.pooled_height};
  const int64_t items = p.boxes.count * l.chunks;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Share share = Share::of(l, item, kPack);
    const RoiPlace<T> place = roi_place<T>(p, share.k);
    if (place.level < 0) {
      store_constant<kPack, Element>(l, share, place);
      continue;
    }
    const RoiAlignMap& map = p.levels[place.level];
    __syncthreads();  // nobody reads the last region's taps any more
    for (int64_t i = threadIdx.x; i < p.pooled_height + p.pooled_width; i += kThreads) {
      if (i < p.pooled_height) {
        fill_bin(place.y, i, map.height, map.strides[2], p.sampling_ratio, rows);
      } else {
        fill_bin(place.x, i - p.pooled_height, map.width, map.strides[3], p.sampling_ratio, columns);
      }
    }
    __syncthreads();
    const T samples = roi_sample_count(place.y, place.x);
    const Element* image = static_cast<const Element*>(map.data) + place.image * map.strides[0];
    share.for_own(l.packs_first, kPack, [&](int64_t channel, int64_t ph, int64_t pw) {
      const BinTaps own_rows = rows.bins[ph], own_columns = columns.bins[pw];
      const Element* from = image + channel * map.strides[1];
      T sum[kPack] = {};
      for (int64_t y = 0; y < own_rows.count; ++y) {
        const Tap<T> row = rows.taps[own_rows.first + y];
        T line[kPack] = {};
        for (int64_t x = 0; x < own_columns.count; ++x) {
          const Tap<T> column = columns.taps[own_columns.first + x];
          T values[kPack];
          load_pack<kVectors>(from + row.offset + column.offset, map.strides[1], p.channels - channel,
                              values);
#pragma unroll
          for (int c = 0; c < kPack; ++c) line[c] = multiply_add(column.weight, values[c], line[c]);
        }
#pragma unroll
        for (int c = 0; c < kPack; ++c) sum[c] = multiply_add(row.weight, line[c], sum[c]);
      }
      for (T& value : sum) value /= samples;
      store_result<kPack, Element>(l, share.k, channel, ph, pw, sum);
    });
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreads, 2) max_kernel(Launch l) {
  using T = typename Compute<Element>::type;
  const RoiAlignRegions& p = l.p.regions;
  const int64_t items = p.boxes.count * l.chunks;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Share share = Share::of(l, item, 1);
    const RoiPlace<T> place = roi_place<T>(p, share.k);
    if (place.level < 0) {
      store_constant<1, Element>(l, share, place);
      continue;
    }
    const RoiAlignMap& map = p.levels[place.level];
    const Element* image = static_cast<const Element*>(map.data) + place.image * map.strides[0];
    share.for_own(l.packs_first, 1, [&](int64_t channel, int64_t ph, int64_t pw) {
      const T best[1] = {best_sample<T>(place, map, image + channel * map.strides[1], ph, pw).value};
      store_result<1, Element>(l, share.k, channel, ph, pw, best);
    });
  }
}

Launch launch_of(const RoiAlignParams& p, int64_t pack) {
  const RoiAlignRegions& r = p.regions;
  Launch l{};
  l.p = p;
  const int64_t packs = ceil_div(r.channels, pack);
  const int64_t wanted = ceil_div(kItems, r.pooled_height * r.pooled_width);
  l.packs_per_chunk = wanted < packs ? wanted : packs;
  l.chunks = ceil_div(packs, l.packs_per_chunk);
  l.vector_results = p.output_channels_last && r.channels % pack == 0;
  l.packs_first = r.levels[0].strides[1] == 1;
  l.row_taps = most_taps(r, r.pooled_height, true);
  l.column_taps = most_taps(r, r.pooled_width, false);
  return l;
}

int64_t workspace_blocks(const Launch& l) {
  const int64_t items = l.p.regions.boxes.count * l.chunks;
  return items < kWorkspaceBlocks ? items : kWorkspaceBlocks;
}

template <class Element>
size_t workspace_bytes(const RoiAlignParams& p) {
  if (p.regions.is_max) return 0;
  const Launch l = launch_of(p, kPlainPack);
  const size_t bytes = tap_bytes<typename Compute<Element>::type>(l);
  return bytes <= kMostShared ? 0 : bytes * size_t(kWorkspaceBlocks);
}

template <class Element, bool kVectors>
cudaError_t average(const RoiAlignParams& p, void* workspace, cudaStream_t stream) {
  Launch l = launch_of(p, kVectors ? kVectorPack<Element> : kPlainPack);
  l.block_bytes = tap_bytes<typename Compute<Element>::type>(l);
  const bool shared = l.block_bytes <= kMostShared;
  l.workspace = shared ? nullptr : workspace;
  const dim3 grid = shared ? grid_of(p.regions.boxes.count * l.chunks) : grid_of(workspace_blocks(l));
  const size_t shared_bytes = shared ? l.block_bytes : 0;
  return launch(average_kernel<Element, kVectors>, {grid, dim3(kThreads), shared_bytes, stream}, l);
}

template <class Element>
cudaError_t forward(const RoiAlignParams& p, void* workspace, cudaStream_t stream) {
  const RoiAlignRegions& r = p.regions;
  if (r.is_max) {
    const Launch l = launch_of(p, 1);
    return launch(max_kernel<Element>, {grid_of(r.boxes.count * l.chunks), dim3(kThreads), 0, stream}, l);
  }
  bool vectors = true;
  for (int64_t i = 0; i < r.level_count; ++i) {
    vectors = vectors && has_vectors<Element>(r.levels[i].data, r.levels[i].strides, r.channels);
  }
  return vectors ? average<Element, true>(p, workspace, stream)
                 : average<Element, false>(p, workspace, stream);
}

bool is_empty(const RoiAlignRegions& p) {
  return p.boxes.count == 0 || p.channels == 0 || p.pooled_height == 0 || p.pooled_width == 0;
}

}  // namespace

size_t roi_align_cuda_workspace_bytes(const RoiAlignParams& p) {
  return is_empty(p.regions) ? 0 : GCV_BY_DTYPE(p.regions.dtype, workspace_bytes, p);
}

cudaError_t roi_align_cuda(const RoiAlignParams& p, void* workspace, cudaStream_t stream) {
  if (is_empty(p.regions)) return cudaSuccess;
  if (p.regions.pooled_height > INT32_MAX / p.regions.pooled_width) return cudaErrorInvalidValue;
  return GCV_BY_DTYPE(p.regions.dtype, forward, p, workspace, stream);
}

}  // namespace gcv

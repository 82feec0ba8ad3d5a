// The best logits of every image and level, highest first and ties by index, on the device:
//   1. histogram: once per 11-bit digit of the keys, from the top: it narrows down the key of the last one
//   in;
//   2. count:     logits above that key, and equal to it, in each block's slice;
//   3. gather:    those above it, and the first ones equal to it, in the order of their indices;
//   4. sort:      in tiles; a candidate's final rank follows from a binary search in the other tiles
//   (rank_of).
// Every step is one launch over all images and levels (1: one for each digit). Included by rpn_cuda.cu only.
#pragma once

#include "common/elements_cuda.h"
#include "rpn/logit_key.h"
#include "rpn/rpn.h"

namespace gcv {
namespace {

constexpr int kSelectThreads = 256;
constexpr int kLogitsPerThread = 16;
constexpr int kSlice = kSelectThreads * kLogitsPerThread;  // logits of one block
constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;
constexpr int kBinsPerThread = kBins / kSelectThreads;
constexpr int kSortTile = 2048;

template <class Element>
constexpr int kDigits = ceil_div(kKeyBits<Element>, kDigitBits);

// Digits lie below one another from the top; the last one may be shorter.
GCV_HD int digit_shift(int key_bits, int digit) {
  const int shift = key_bits - kDigitBits * (digit + 1);
  return shift > 0 ? shift : 0;
}

template <class Key>
struct Ranked {
  Key key;
  uint32_t index;
};

template <class Key>
GCV_HD bool precedes(const Ranked<Key>& a, const Ranked<Key>& b) {
  return a.key != b.key ? a.key > b.key : a.index < b.index;
}

// The digits found so far of the key that the last selected logit has, and how many logits that share them
// are selected.
template <class Key>
struct LastSelected {
  Key key;
  uint32_t wanted;
};

// A group of images. A segment is one image's level: image * level_count + level.
template <class Element>
struct BestLogits {
  using Key = KeyOf<Element>;
  RpnParams rpn;
  int64_t first_image;
  int64_t segments;
  int64_t capacity;                       // the most that is selected of any level
  int slices_before[kRpnMostLevels + 1];  // of an image, in the levels before
  uint32_t* histograms;                   // [digits, segments, kBins], zero before
  LastSelected<Key>* last;                // [digits + 1, segments]
  uint64_t* slice_counts;  // [images, slices of an image]: above the key, and equal to it in the upper half
  Ranked<Key>* best;       // [segments, capacity]
};

// The logits of a block.
struct Slice {
  int64_t segment, image;
  int level;
  int64_t first, end;
};

template <class Element>
__device__ __forceinline__ Slice slice_of_block(const BestLogits<Element>& p) {
  const int per_image = p.slices_before[p.rpn.level_count];
  const int image = int(blockIdx.x) / per_image, slice = int(blockIdx.x) % per_image;
  int level = 0;
  while (slice >= p.slices_before[level + 1]) ++level;
  const int64_t first = int64_t(slice - p.slices_before[level]) * kSlice;
  return {image * p.rpn.level_count + level, p.first_image + image, level, first,
          min(first + kSlice, rpn_size(p.rpn.levels[level]))};
}

template <class Element>
__device__ __forceinline__ KeyOf<Element> key_at(const BestLogits<Element>& p, const Slice& slice,
                                                 int64_t i) {
  const RpnLevel& level = p.rpn.levels[slice.level];
  return logit_key<Element>(rpn_logit<Element>(level, slice.image, rpn_place(level, i)));
}

struct Sums {
  uint64_t before;  // of the threads before
  uint64_t all;
};

// By all threads of a block. `warp_sums` is theirs until the next barrier.
__device__ __forceinline__ Sums block_scan(uint64_t value, uint64_t (&warp_sums)[kSelectThreads / 32]) {
  const unsigned lane = lane_id(), warp = threadIdx.x / 32;
  uint64_t sum = value;
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const uint64_t other = __shfl_up_sync(kFullWarp, sum, distance);
    if (lane >= distance) sum += other;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  Sums sums{sum - value, 0};
  for (unsigned w = 0; w < kSelectThreads / 32; ++w) {
    if (w < warp) sums.before += warp_sums[w];
    sums.all += warp_sums[w];
  }
  return sums;
}

// One more digit of the last selected key, by all threads of a block.
template <class Key>
__device__ __forceinline__ LastSelected<Key> settle_digit(const LastSelected<Key>& last,
                                                          const uint32_t* histogram, int shift) {
  GCV_SHARED(uint64_t, warp_sums, [kSelectThreads / 32]);
  GCV_SHARED(LastSelected<Key>, settled);
  const int highest = kBins - 1 - int(threadIdx.x) * kBinsPerThread;
  uint32_t counts[kBinsPerThread];
  uint64_t sum = 0;
  for (int i = 0; i < kBinsPerThread; ++i) sum += counts[i] = histogram[highest - i];
  uint64_t above = block_scan(sum, warp_sums).before;
  for (int i = 0; i < kBinsPerThread; ++i) {
    if (above < last.wanted && last.wanted <= above + counts[i]) {
      settled = {last.key | Key(highest - i) << shift, last.wanted - uint32_t(above)};
    }
    above += counts[i];
  }
  __syncthreads();
  return settled;
}

// The key of the last selected logit as far as `digits` digits go; the blocks of a launch find it alike.
template <class Element>
__device__ __forceinline__ LastSelected<KeyOf<Element>> last_selected(const BestLogits<Element>& p,
                                                                      const Slice& slice, int digits) {
  using Key = KeyOf<Element>;
  const auto wanted = uint32_t(p.rpn.levels[slice.level].selected);
  if (digits == 0) return {Key(0), wanted};
  const int64_t before = (digits - 1) * p.segments + slice.segment;
  const LastSelected<Key> so_far = digits == 1 ? LastSelected<Key>{Key(0), wanted} : p.last[before];
  const auto found =
      settle_digit(so_far, p.histograms + before * kBins, digit_shift(kKeyBits<Element>, digits - 1));
  if (slice.first == 0 && threadIdx.x == 0) p.last[before + p.segments] = found;
  return found;
}

template <class Element>
__global__ void __launch_bounds__(kSelectThreads) histogram_kernel(BestLogits<Element> p, int digit) {
  using Key = KeyOf<Element>;
  GCV_SHARED(uint32_t, bins, [kBins]);
  const Slice slice = slice_of_block(p);
  if (p.rpn.levels[slice.level].selected == 0) return;
  const LastSelected<Key> last = last_selected(p, slice, digit);
  for (int bin = int(threadIdx.x); bin < kBins; bin += kSelectThreads) bins[bin] = 0;
  __syncthreads();

  const int shift = digit_shift(kKeyBits<Element>, digit);
  const int shift_before = digit == 0 ? 0 : digit_shift(kKeyBits<Element>, digit - 1);
  for (int64_t i = slice.first + threadIdx.x; i < slice.end; i += kSelectThreads) {
    const Key key = key_at(p, slice, i);
    const bool open = digit == 0 || key >> shift_before == last.key >> shift_before;
    if (open) atomicAdd(&bins[key >> shift & (kBins - 1)], 1u);
  }
  __syncthreads();

  uint32_t* histogram = p.histograms + (digit * p.segments + slice.segment) * kBins;
  for (int bin = int(threadIdx.x); bin < kBins; bin += kSelectThreads) {
    if (bins[bin] != 0) atomicAdd(histogram + bin, bins[bin]);
  }
}

// A thread's logits lie side by side, so that ranks in the order of indices need one scan.
template <class Element>
struct OwnKeys {
  KeyOf<Element> keys[kLogitsPerThread];
  int64_t first;
  uint64_t above_and_equal;  // how many, as in slice_counts

  __device__ __forceinline__ OwnKeys(const BestLogits<Element>& p, const Slice& slice, KeyOf<Element> last) {
    first = slice.first + int64_t(threadIdx.x) * kLogitsPerThread;
    above_and_equal = 0;
#pragma unroll
    for (int k = 0; k < kLogitsPerThread; ++k) {
      keys[k] = first + k < slice.end ? key_at(p, slice, first + k) : 0;  // of no logit
      above_and_equal += keys[k] > last ? 1 : keys[k] == last ? uint64_t(1) << 32 : 0;
    }
  }
};

template <class Element>
__global__ void __launch_bounds__(kSelectThreads) count_kernel(BestLogits<Element> p) {
  GCV_SHARED(uint64_t, warp_sums, [kSelectThreads / 32]);
  const Slice slice = slice_of_block(p);
  if (p.rpn.levels[slice.level].selected == 0) return;
  const auto last = last_selected(p, slice, kDigits<Element>);
  const OwnKeys<Element> own(p, slice, last.key);
  const Sums sums = block_scan(own.above_and_equal, warp_sums);
  if (threadIdx.x == 0) p.slice_counts[blockIdx.x] = sums.all;
}

template <class Element>
__global__ void __launch_bounds__(kSelectThreads) gather_best_kernel(BestLogits<Element> p) {
  GCV_SHARED(uint64_t, slice_sums, [kSelectThreads / 32]);
  GCV_SHARED(uint64_t, warp_sums, [kSelectThreads / 32]);
  const Slice slice = slice_of_block(p);
  if (p.rpn.levels[slice.level].selected == 0) return;
  const auto last = p.last[kDigits<Element> * p.segments + slice.segment];
  uint64_t earlier = 0;
  for (int s = int(threadIdx.x); s < slice.first / kSlice; s += kSelectThreads) {
    earlier += p.slice_counts[blockIdx.x - s - 1];
  }
  const OwnKeys<Element> own(p, slice, last.key);
  const uint64_t before =
      block_scan(earlier, slice_sums).all + block_scan(own.above_and_equal, warp_sums).before;
  auto above = uint32_t(before), equal = uint32_t(before >> 32);
  Ranked<KeyOf<Element>>* best = p.best + slice.segment * p.capacity;
#pragma unroll
  for (int k = 0; k < kLogitsPerThread; ++k) {
    const bool is_above = own.keys[k] > last.key, is_equal = own.keys[k] == last.key;
    if (is_above || (is_equal && equal < last.wanted)) {
      best[above + min(equal, last.wanted)] = {own.keys[k], uint32_t(own.first + k)};
    }
    above += is_above;
    equal += is_equal;
  }
}

// One block of half as many threads as there are candidates in a tile; bitonic, in shared memory.
template <class Element>
__global__ void __launch_bounds__(kSortTile / 2) sort_kernel(BestLogits<Element> p, int tiles) {
  using Key = KeyOf<Element>;
  GCV_SHARED(Ranked<Key>, tile, [kSortTile]);
  const int64_t segment = blockIdx.x / tiles, first = int64_t(blockIdx.x % tiles) * kSortTile;
  const int64_t left = p.rpn.levels[segment % p.rpn.level_count].selected - first;
  if (left <= 0) return;
  const int count = int(min(int64_t(kSortTile), left)), threads = int(blockDim.x), size = 2 * threads;
  Ranked<Key>* best = p.best + segment * p.capacity + first;
  for (int i = int(threadIdx.x); i < size; i += threads) {
    tile[i] = i < count ? best[i] : Ranked<Key>{0, UINT32_MAX};
  }
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      __syncthreads();
      const int low = 2 * int(threadIdx.x) - (int(threadIdx.x) & (distance - 1)), high = low + distance;
      const bool descending = (low & run) != 0;
      const Ranked<Key> a = tile[low], b = tile[high];
      if (precedes(b, a) != descending) {
        tile[low] = b;
        tile[high] = a;
      }
    }
  }
  __syncthreads();
  for (int i = int(threadIdx.x); i < count; i += threads) best[i] = tile[i];
}

// The rank of best[position] among the `count` selected of its level.
template <class Key>
__device__ __forceinline__ int64_t rank_of(const Ranked<Key>* best, int64_t count, int64_t position) {
  const Ranked<Key> own = best[position];
  const int64_t own_tile = position / kSortTile * kSortTile;
  int64_t rank = position - own_tile;
  for (int64_t first = 0; first < count; first += kSortTile) {
    if (first == own_tile) continue;
    int64_t low = first, high = min(first + kSortTile, count);
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (precedes(best[middle], own)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    rank += low - first;
  }
  return rank;
}

template <class Element>
cudaError_t find_best_logits(const BestLogits<Element>& p, cudaStream_t stream) {
  const int64_t images = p.segments / p.rpn.level_count;
  const int64_t slices = images * p.slices_before[p.rpn.level_count];
  const int64_t tiles = ceil_div<int64_t>(p.capacity, kSortTile);
  if (slices > INT32_MAX || p.segments * tiles > INT32_MAX) return cudaErrorInvalidValue;
  const LaunchConfig select{dim3(unsigned(slices)), dim3(kSelectThreads), 0, stream};
  for (int digit = 0; digit < kDigits<Element>; ++digit) {
    if (cudaError_t error = launch(histogram_kernel<Element>, select, p, digit)) return error;
  }
  if (cudaError_t error = launch(count_kernel<Element>, select, p)) return error;
  if (cudaError_t error = launch(gather_best_kernel<Element>, select, p)) return error;
  unsigned threads = 32;
  while (threads < kSortTile / 2 && 2 * threads < p.capacity) threads *= 2;
  return launch(sort_kernel<Element>, {dim3(unsigned(p.segments * tiles)), dim3(threads), 0, stream}, p,
                int(tiles));
}

}  // namespace
}  // namespace gcv

// Greedy NMS on the device, a chunk of sorted boxes at a time:
//   1. mask:     which boxes of the chunk would suppress which (chunk_rows^2 / 2 pairs, one bit each);
//   2. resolve:  one block walks the chunk tile by tile and settles who is kept;
//   3. suppress: the kept boxes remove boxes of all later chunks, with no mask at all.
// Pairs are thus only tested against kept boxes, but inside a chunk, and memory does not grow with n^2.
#include "common/workspace.h"
#include "nms/kernels_cuda.h"
#include "nms/nms_cuda.h"
#include "nms/suppress.h"

namespace gcv {
namespace {

constexpr int kChunkTiles = kNmsChunkRows / kTile;
constexpr int kGatherThreads = 256;
constexpr int kResolveThreads = 1024;
constexpr int kColumnsPerThread = kNmsChunkRows / kResolveThreads;
constexpr int kSuppressThreads = 128;
constexpr int kSuppressRows = 256;

template <class T>
struct SortedBoxes {
  PackedBox<T>* boxes;  // [n]
  int64_t* classes;     // [n], where there are classes
  int64_t n;
};

struct Chunk {
  int64_t first;  // of its rows among the sorted boxes
  int rows;
  uint64_t*
      mask;  // [tile][row]: which boxes of the tile suppress the row's box; rows of later tiles, and its own
  uint32_t* removed;   // bitmap over all sorted boxes
  int32_t* kept_rows;  // sorted positions of the chunk's kept boxes
  int* kept_count;
};

template <class Element>
__global__ void __launch_bounds__(kGatherThreads)
    gather_kernel(StridedBoxes<Element> from, const int64_t* order, const int64_t* class_ids,
                  int64_t class_stride, SortedBoxes<ComputeOf<Element>> to) {
  const int64_t i = int64_t(blockIdx.x) * kGatherThreads + threadIdx.x;
  if (i >= to.n) return;
  const int64_t source = order[i];
  to.boxes[i] = load_box(from, source);
  if (class_ids != nullptr) to.classes[i] = class_ids[source * class_stride];
}

__device__ __forceinline__ bool is_removed(const uint32_t* removed, int64_t i) {
  // Other blocks of a launch may be adding bits: seeing them late costs work, not the result.
  return (load_relaxed(removed + (i >> 5)) >> (i & 31) & 1) != 0;
}

template <class T, bool kClasses>
__global__ void __launch_bounds__(kTile)
    mask_kernel(SortedBoxes<T> sorted, Chunk chunk, IouThreshold<T> threshold) {
  GCV_SHARED(PackedBox<T>, row_boxes, [kTile]);
  GCV_SHARED(T, row_areas, [kTile]);
  GCV_SHARED(int64_t, row_classes, [kClasses ? kTile : 1]);
  const int tiles = ceil_div(chunk.rows, kTile);
  const int row_tile = int(blockIdx.x) / tiles, column_tile = int(blockIdx.x) % tiles;
  if (row_tile > column_tile) return;

  const int thread = int(threadIdx.x);
  const int row = row_tile * kTile + thread, column = column_tile * kTile + thread;
  const bool row_open = row < chunk.rows && !is_removed(chunk.removed, chunk.first + row);
  const bool column_open = column < chunk.rows && !is_removed(chunk.removed, chunk.first + column);
  if (row < chunk.rows) {
    row_boxes[thread] = sorted.boxes[chunk.first + row];
    row_areas[thread] = area<T>(row_boxes[thread]);
    if (kClasses) row_classes[thread] = sorted.classes[chunk.first + row];
  }
  const bool any_row_open = __syncthreads_or(row_open);
  if (!any_row_open || !column_open) return;

  const Box<T> box = sorted.boxes[chunk.first + column];
  const T box_area = area(box);
  const int64_t box_class = kClasses ? sorted.classes[chunk.first + column] : 0;
  const int rows = row_tile == column_tile ? thread : kTile;
  uint64_t word = 0;
  for (int r = 0; r < rows; ++r) {
    if (kClasses && row_classes[r] != box_class) continue;
    const bool hit = suppresses<T>(row_boxes[r], row_areas[r], box, box_area, threshold);
    word |= uint64_t(hit) << r;
  }
  chunk.mask[int64_t(row_tile) * kNmsChunkRows + column] = word;
}

// Shared state of the resolve kernel; `removed` has its bit set past the last row, too.
struct Resolved {
  uint32_t removed[2 * kChunkTiles];
  uint64_t kept[kChunkTiles];
  int kept_before[kChunkTiles + 1];
};

__device__ __forceinline__ bool is_open(const Resolved& state, int row) {
  return (state.removed[row / 32] >> (row % 32) & 1) == 0;
}

__device__ __forceinline__ void load_removed(Resolved& state, const Chunk& chunk) {
  const int words = 2 * ceil_div(chunk.rows, kTile);
  for (int w = int(threadIdx.x); w < words; w += int(blockDim.x)) {
    const int rows_left = chunk.rows - 32 * w;
    const uint32_t past_end = rows_left >= 32 ? 0 : rows_left <= 0 ? ~0u : ~0u << rows_left;
    const uint32_t removed = rows_left > 0 ? chunk.removed[chunk.first / 32 + w] : 0;
    state.removed[w] = removed | past_end;
  }
}

// By the first warp.
__device__ __forceinline__ void resolve_tile(Resolved& state, const Chunk& chunk, int tile) {
  const uint64_t* words = chunk.mask + int64_t(tile) * kNmsChunkRows + tile * kTile;
  const uint64_t open = ~(state.removed[2 * tile] | uint64_t(state.removed[2 * tile + 1]) << 32);
  const unsigned lane = lane_id();
  const uint64_t low = open >> lane & 1 ? words[lane] : 0;
  const uint64_t high = open >> (lane + 32) & 1 ? words[lane + 32] : 0;
  const uint64_t kept = greedy_tile(low, high, open);
  if (lane == 0) {
    state.kept[tile] = kept;
    state.kept_before[tile + 1] = state.kept_before[tile] + __popcll(kept);
  }
}

__global__ void __launch_bounds__(kResolveThreads)
    resolve_kernel(Chunk chunk, const int64_t* order, int64_t* keep, int64_t* count) {
  GCV_SHARED(Resolved, state);
  const int thread = int(threadIdx.x), threads = int(blockDim.x);
  const int tiles = ceil_div(chunk.rows, kTile);
  load_removed(state, chunk);
  if (thread == 0) state.kept_before[0] = 0;
  __syncthreads();

  for (int tile = 0; tile < tiles; ++tile) {
    // Loaded before the tile is settled, so that the wait for memory overlaps with that.
    uint64_t suppressors[kColumnsPerThread];
    for (int k = 0; k < kColumnsPerThread; ++k) {
      const int row = thread + k * threads;
      const bool later = row >= (tile + 1) * kTile && row < chunk.rows && is_open(state, row);
      suppressors[k] = later ? chunk.mask[int64_t(tile) * kNmsChunkRows + row] : 0;
    }
    if (thread < 32) resolve_tile(state, chunk, tile);
    __syncthreads();
    for (int k = 0; k < kColumnsPerThread; ++k) {
      const unsigned hits = __ballot_sync(kFullWarp, (suppressors[k] & state.kept[tile]) != 0);
      if (lane_id() == 0 && hits != 0) state.removed[(thread + k * threads) / 32] |= hits;
    }
    __syncthreads();
  }

  const int64_t kept_before_chunk = *count;
  for (int row = thread; row < chunk.rows; row += threads) {
    const uint64_t kept = state.kept[row / kTile], bit = uint64_t(1) << (row % kTile);
    if ((kept & bit) == 0) continue;
    const int rank = state.kept_before[row / kTile] + __popcll(kept & (bit - 1));
    chunk.kept_rows[rank] = int32_t(chunk.first + row);
    keep[kept_before_chunk + rank] = order[chunk.first + row];
  }
  __syncthreads();
  if (thread == 0) {
    *chunk.kept_count = state.kept_before[tiles];
    *count = kept_before_chunk + state.kept_before[tiles];
  }
}

// One block per kSuppressThreads later boxes and kSuppressRows kept boxes.
template <class T, bool kClasses>
__global__ void __launch_bounds__(kSuppressThreads)
    suppress_kernel(SortedBoxes<T> sorted, Chunk chunk, int row_blocks, IouThreshold<T> threshold) {
  GCV_SHARED(PackedBox<T>, row_boxes, [kSuppressRows]);
  GCV_SHARED(T, row_areas, [kSuppressRows]);
  GCV_SHARED(int64_t, row_classes, [kClasses ? kSuppressRows : 1]);
  const int first_row = int(blockIdx.x) % row_blocks * kSuppressRows;
  const int rows = min(kSuppressRows, *chunk.kept_count - first_row);
  if (rows <= 0) return;

  const int64_t column =
      chunk.first + chunk.rows + int64_t(blockIdx.x) / row_blocks * kSuppressThreads + int(threadIdx.x);
  bool open = column < sorted.n && !is_removed(chunk.removed, column);
  if (!__syncthreads_or(open)) return;
  for (int r = int(threadIdx.x); r < rows; r += kSuppressThreads) {
    const int32_t row = chunk.kept_rows[first_row + r];
    row_boxes[r] = sorted.boxes[row];
    row_areas[r] = area<T>(row_boxes[r]);
    if (kClasses) row_classes[r] = sorted.classes[row];
  }
  __syncthreads();

  bool hit = false;
  if (open) {
    const Box<T> box = sorted.boxes[column];
    const T box_area = area(box);
    const int64_t box_class = kClasses ? sorted.classes[column] : 0;
    for (int r = 0; r < rows && !hit; ++r) {
      if (kClasses && row_classes[r] != box_class) continue;
      hit = suppresses<T>(row_boxes[r], row_areas[r], box, box_area, threshold);
    }
  }
  const unsigned hits = __ballot_sync(kFullWarp, hit);
  if (lane_id() == 0 && hits != 0) atomicOr(chunk.removed + column / 32, hits);
}

struct Layout {
  void* boxes;
  int64_t* classes;
  Chunk chunk;
  size_t removed_bytes;
  size_t bytes;
};

Layout layout(const NmsCudaParams& p) {
  Workspace workspace(p.workspace);
  const int64_t removed_words = ceil_div<int64_t>(p.n, 32);
  Layout l{};
  l.removed_bytes = size_t(removed_words) * sizeof(uint32_t);
  l.chunk.removed = workspace.take<uint32_t>(removed_words);
  l.chunk.kept_count = workspace.take<int>(1);
  l.chunk.kept_rows = workspace.take<int32_t>(p.chunk_rows);
  l.chunk.mask = workspace.take<uint64_t>(int64_t(p.chunk_rows / kTile) * kNmsChunkRows);
  l.classes = p.class_ids != nullptr ? workspace.take<int64_t>(p.n) : nullptr;
  l.boxes = p.dtype == DType::f64 ? static_cast<void*>(workspace.take<PackedBox<double>>(p.n))
                                  : static_cast<void*>(workspace.take<PackedBox<float>>(p.n));
  l.bytes = workspace.used();
  return l;
}

template <class T, bool kClasses>
cudaError_t decide_chunk(const NmsCudaParams& p, const SortedBoxes<T>& sorted, const Chunk& chunk,
                         const IouThreshold<T>& threshold, cudaStream_t stream) {
  const int tiles = ceil_div(chunk.rows, kTile);
  if (cudaError_t error =
          launch(mask_kernel<T, kClasses>, {dim3(unsigned(tiles * tiles)), dim3(kTile), 0, stream}, sorted,
                 chunk, threshold)) {
    return error;
  }
  const dim3 resolve_threads(unsigned(min(tiles * kTile, kResolveThreads)));
  if (cudaError_t error =
          launch(resolve_kernel, {dim3(1), resolve_threads, 0, stream}, chunk, p.order, p.keep, p.count)) {
    return error;
  }
  const int64_t later = p.n - chunk.first - chunk.rows;
  if (later <= 0) return cudaSuccess;
  const int row_blocks = ceil_div(chunk.rows, kSuppressRows);
  const int64_t blocks = ceil_div<int64_t>(later, kSuppressThreads) * row_blocks;
  return launch(suppress_kernel<T, kClasses>, {dim3(unsigned(blocks)), dim3(kSuppressThreads), 0, stream},
                sorted, chunk, row_blocks, threshold);
}

template <class Element, bool kClasses>
cudaError_t decide(const NmsCudaParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  Layout l = layout(p);
  const SortedBoxes<T> sorted{static_cast<PackedBox<T>*>(l.boxes), l.classes, p.n};
  if (cudaError_t error = cudaMemsetAsync(l.chunk.removed, 0, l.removed_bytes, stream)) return error;
  const dim3 gather_grid(unsigned(ceil_div<int64_t>(p.n, kGatherThreads)));
  if (cudaError_t error = launch(gather_kernel<Element>, {gather_grid, dim3(kGatherThreads), 0, stream},
                                 strided_boxes<Element>(p.boxes, p.box_stride, p.coord_stride), p.order,
                                 p.class_ids, p.class_stride, sorted)) {
    return error;
  }
  const auto threshold = make_iou_threshold<T>(p.iou_threshold);
  for (l.chunk.first = 0; l.chunk.first < p.n; l.chunk.first += p.chunk_rows) {
    l.chunk.rows = int(min(int64_t(p.chunk_rows), p.n - l.chunk.first));
    if (cudaError_t error = decide_chunk<T, kClasses>(p, sorted, l.chunk, threshold, stream)) return error;
  }
  return cudaSuccess;
}

}  // namespace

size_t nms_cuda_workspace_bytes(const NmsCudaParams& p) { return layout(p).bytes; }

cudaError_t nms_cuda(const NmsCudaParams& p, cudaStream_t stream) {
  if (p.chunk_rows <= 0 || p.chunk_rows > kNmsChunkRows || p.chunk_rows % kTile != 0 || p.n > INT32_MAX) {
    return cudaErrorInvalidValue;
  }
  if (cudaError_t error = cudaMemsetAsync(p.count, 0, sizeof *p.count, stream)) return error;
  if (p.n == 0) return cudaSuccess;
  return with_element(p.dtype, [&](auto element) {
    using Element = decltype(element);
    return p.class_ids != nullptr ? decide<Element, true>(p, stream) : decide<Element, false>(p, stream);
  });
}

}  // namespace gcv

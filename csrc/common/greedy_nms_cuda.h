// Greedy NMS on the device, of many problems at once, each a row of boxes sorted by score; a chunk of every
// row at a time:
//   1. mask:     which boxes of the chunk would suppress which (chunk_rows^2 / 2 pairs, one bit each);
//   2. resolve:  one block per problem walks the chunk tile by tile and settles who is kept;
//   3. suppress: the kept boxes remove boxes of all later chunks, with no mask at all.
// Pairs are thus only tested against kept boxes, but inside a chunk, and memory does not grow with n^2.
// Included by *_cuda.cu only.
#pragma once

#include "common/greedy_tile_cuda.h"
#include "common/suppress.h"
#include "common/workspace.h"

namespace gcv {
namespace {

constexpr int kMostChunkRows = 2048;
constexpr int kResolveThreads = 1024;
constexpr int kColumnsPerThread = kMostChunkRows / kResolveThreads;
constexpr int kSuppressThreads = 128;
constexpr int kSuppressRows = 256;

// What a caller fills in, and scratch memory (take_greedy_scratch).
template <class T>
struct GreedyNms {
  int64_t problems;
  int64_t n;                  // boxes of each problem; at most 2^31 - 1
  const PackedBox<T>* boxes;  // [problems, n], best first
  const int64_t* classes;     // [problems, n], or nullptr: boxes of one class only suppress one another
  uint32_t* removed;          // [problems, removed_words(n)]: bits of boxes that take no part; more are added
  IouThreshold<T> threshold;
  int64_t limit;         // at most so many boxes of a problem are kept
  int chunk_rows;        // a multiple of kTile, at most kMostChunkRows
  const int64_t* order;  // [problems, n]: what `keep` gets in place of a row's number; or nullptr
  int64_t* keep;         // out [problems, limit]: kept boxes, best first
  int64_t* counts;       // out [problems], zero before: how many

  uint64_t* mask;  // [problems, tile, row]: which boxes of the tile suppress the row's box; later rows only
  int32_t* kept_rows;  // [problems, chunk_rows]: rows of the chunk's kept boxes
  int* kept_count;     // [problems]
};

// Of the bitmap of n boxes.
GCV_HD int64_t removed_words(int64_t n) { return ceil_div<int64_t>(n, 32); }

// The rows of all problems that are decided together.
struct Chunk {
  int64_t first;
  int rows;
};

// One problem's part of a GreedyNms.
template <class T>
__device__ __forceinline__ GreedyNms<T> problem_of(GreedyNms<T> all, int64_t problem) {
  all.boxes += problem * all.n;
  if (all.classes != nullptr) all.classes += problem * all.n;
  if (all.order != nullptr) all.order += problem * all.n;
  all.removed += problem * removed_words(all.n);
  all.keep += problem * all.limit;
  all.counts += problem;
  all.mask += problem * (all.chunk_rows / kTile) * all.chunk_rows;
  all.kept_rows += problem * all.chunk_rows;
  all.kept_count += problem;
  return all;
}

__device__ __forceinline__ bool is_removed(const uint32_t* removed, int64_t i) {
  // Other blocks of a launch may be adding bits: seeing them late costs work, not the result.
  return (load_relaxed(removed + (i >> 5)) >> (i & 31) & 1) != 0;
}

template <class T, bool kClasses>
__global__ void __launch_bounds__(kTile) mask_kernel(GreedyNms<T> all, Chunk chunk) {
  GCV_SHARED(PackedBox<T>, row_boxes, [kTile]);
  GCV_SHARED(T, row_areas, [kTile]);
  GCV_SHARED(int64_t, row_classes, [kClasses ? kTile : 1]);
  const int tiles = ceil_div(chunk.rows, kTile);
  const int pair = int(blockIdx.x) % (tiles * tiles), row_tile = pair / tiles, column_tile = pair % tiles;
  const GreedyNms<T> p = problem_of(all, blockIdx.x / (tiles * tiles));
  if (row_tile > column_tile || *p.counts >= p.limit) return;

  const int thread = int(threadIdx.x);
  const int row = row_tile * kTile + thread, column = column_tile * kTile + thread;
  const bool row_open = row < chunk.rows && !is_removed(p.removed, chunk.first + row);
  const bool column_open = column < chunk.rows && !is_removed(p.removed, chunk.first + column);
  if (row < chunk.rows) {
    row_boxes[thread] = p.boxes[chunk.first + row];
    row_areas[thread] = area<T>(row_boxes[thread]);
    if (kClasses) row_classes[thread] = p.classes[chunk.first + row];
  }
  const bool any_row_open = __syncthreads_or(row_open);
  if (!any_row_open || !column_open) return;

  const Box<T> box = p.boxes[chunk.first + column];
  const T box_area = area(box);
  const int64_t box_class = kClasses ? p.classes[chunk.first + column] : 0;
  const int rows = row_tile == column_tile ? thread : kTile;
  uint64_t word = 0;
  for (int r = 0; r < rows; ++r) {
    if (kClasses && row_classes[r] != box_class) continue;
    const bool hit = suppresses<T>(row_boxes[r], row_areas[r], box, box_area, p.threshold);
    word |= uint64_t(hit) << r;
  }
  p.mask[int64_t(row_tile) * p.chunk_rows + column] = word;
}

// Shared state of the resolve kernel; `removed` has its bit set past the last row, too.
struct Resolved {
  uint32_t removed[kMostChunkRows / 32];
  uint64_t kept[kMostChunkRows / kTile];
  int kept_before[kMostChunkRows / kTile + 1];
};

__device__ __forceinline__ bool is_open(const Resolved& state, int row) {
  return (state.removed[row / 32] >> (row % 32) & 1) == 0;
}

__device__ __forceinline__ void load_removed(Resolved& state, const uint32_t* removed, const Chunk& chunk) {
  const int words = 2 * ceil_div(chunk.rows, kTile);
  for (int w = int(threadIdx.x); w < words; w += int(blockDim.x)) {
    const int rows_left = chunk.rows - 32 * w;
    const uint32_t past_end = rows_left >= 32 ? 0 : rows_left <= 0 ? ~0u : ~0u << rows_left;
    state.removed[w] = (rows_left > 0 ? removed[chunk.first / 32 + w] : 0) | past_end;
  }
}

// By the first warp. `words` are those of the tile on the diagonal.
__device__ __forceinline__ void resolve_tile(Resolved& state, const uint64_t* words, int tile) {
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

template <class T>
__global__ void __launch_bounds__(kResolveThreads) resolve_kernel(GreedyNms<T> all, Chunk chunk) {
  GCV_SHARED(Resolved, state);
  const GreedyNms<T> p = problem_of(all, blockIdx.x);
  const int thread = int(threadIdx.x), threads = int(blockDim.x);
  const int tiles = ceil_div(chunk.rows, kTile);
  const int64_t kept_before_chunk = *p.counts, room = p.limit - kept_before_chunk;
  load_removed(state, p.removed, chunk);
  if (thread == 0) state.kept_before[0] = 0;
  __syncthreads();

  int tile = 0;
  for (; tile < tiles && state.kept_before[tile] < room; ++tile) {
    // Loaded before the tile is settled, so that the wait for memory overlaps with that.
    const uint64_t* words = p.mask + int64_t(tile) * p.chunk_rows;
    uint64_t suppressors[kColumnsPerThread];
    for (int k = 0; k < kColumnsPerThread; ++k) {
      const int row = thread + k * threads;
      const bool later = row >= (tile + 1) * kTile && row < chunk.rows && is_open(state, row);
      suppressors[k] = later ? words[row] : 0;
    }
    if (thread < 32) resolve_tile(state, words + tile * kTile, tile);
    __syncthreads();
    for (int k = 0; k < kColumnsPerThread; ++k) {
      const unsigned hits = __ballot_sync(kFullWarp, (suppressors[k] & state.kept[tile]) != 0);
      if (lane_id() == 0 && hits != 0) state.removed[(thread + k * threads) / 32] |= hits;
    }
    __syncthreads();
  }

  const int kept_here = int(min(int64_t(state.kept_before[tile]), room));
  for (int row = thread; row < min(tile * kTile, chunk.rows); row += threads) {
    const uint64_t kept = state.kept[row / kTile], bit = uint64_t(1) << (row % kTile);
    const int rank = state.kept_before[row / kTile] + __popcll(kept & (bit - 1));
    if ((kept & bit) == 0 || rank >= kept_here) continue;
    const int64_t index = chunk.first + row;
    p.kept_rows[rank] = int32_t(index);
    p.keep[kept_before_chunk + rank] = p.order != nullptr ? p.order[index] : index;
  }
  __syncthreads();
  if (thread == 0) {
    *p.kept_count = kept_here;
    *p.counts = kept_before_chunk + kept_here;
  }
}

// One block per kSuppressThreads later boxes and kSuppressRows kept boxes of a problem.
template <class T, bool kClasses>
__global__ void __launch_bounds__(kSuppressThreads)
    suppress_kernel(GreedyNms<T> all, Chunk chunk, int row_blocks, int column_blocks) {
  GCV_SHARED(PackedBox<T>, row_boxes, [kSuppressRows]);
  GCV_SHARED(T, row_areas, [kSuppressRows]);
  GCV_SHARED(int64_t, row_classes, [kClasses ? kSuppressRows : 1]);
  const int block = int(blockIdx.x) / row_blocks;
  const GreedyNms<T> p = problem_of(all, block / column_blocks);
  const int first_row = int(blockIdx.x) % row_blocks * kSuppressRows;
  const int rows = min(kSuppressRows, *p.kept_count - first_row);
  if (rows <= 0 || *p.counts >= p.limit) return;

  const int64_t column =
      chunk.first + chunk.rows + int64_t(block % column_blocks) * kSuppressThreads + int(threadIdx.x);
  const bool open = column < p.n && !is_removed(p.removed, column);
  if (!__syncthreads_or(open)) return;
  for (int r = int(threadIdx.x); r < rows; r += kSuppressThreads) {
    const int32_t row = p.kept_rows[first_row + r];
    row_boxes[r] = p.boxes[row];
    row_areas[r] = area<T>(row_boxes[r]);
    if (kClasses) row_classes[r] = p.classes[row];
  }
  __syncthreads();

  bool hit = false;
  if (open) {
    const Box<T> box = p.boxes[column];
    const T box_area = area(box);
    const int64_t box_class = kClasses ? p.classes[column] : 0;
    for (int r = 0; r < rows && !hit; ++r) {
      if (kClasses && row_classes[r] != box_class) continue;
      hit = suppresses<T>(row_boxes[r], row_areas[r], box, box_area, p.threshold);
    }
  }
  const unsigned hits = __ballot_sync(kFullWarp, hit);
  if (lane_id() == 0 && hits != 0) atomicOr(p.removed + column / 32, hits);
}

template <class T>
void take_greedy_scratch(GreedyNms<T>& p, Workspace& workspace) {
  p.mask = workspace.take<uint64_t>(p.problems * (p.chunk_rows / kTile) * p.chunk_rows);
  p.kept_rows = workspace.take<int32_t>(p.problems * p.chunk_rows);
  p.kept_count = workspace.take<int>(p.problems);
}

template <class T, bool kClasses>
cudaError_t decide_chunk(const GreedyNms<T>& p, const Chunk& chunk, cudaStream_t stream) {
  const int64_t tiles = ceil_div(chunk.rows, kTile);
  const int64_t later = p.n - chunk.first - chunk.rows;
  const int64_t row_blocks = ceil_div(chunk.rows, kSuppressRows);
  const int64_t column_blocks = ceil_div<int64_t>(later, kSuppressThreads);
  const int64_t mask_blocks = p.problems * tiles * tiles;
  const int64_t suppress_blocks = p.problems * row_blocks * column_blocks;
  if (mask_blocks > INT32_MAX || suppress_blocks > INT32_MAX) return cudaErrorInvalidValue;
  if (cudaError_t error =
          launch(mask_kernel<T, kClasses>, {dim3(unsigned(mask_blocks)), dim3(kTile), 0, stream}, p, chunk)) {
    return error;
  }
  const dim3 resolve_threads(unsigned(min(int(tiles) * kTile, kResolveThreads)));
  if (cudaError_t error =
          launch(resolve_kernel<T>, {dim3(unsigned(p.problems)), resolve_threads, 0, stream}, p, chunk)) {
    return error;
  }
  if (later <= 0) return cudaSuccess;
  return launch(suppress_kernel<T, kClasses>,
                {dim3(unsigned(suppress_blocks)), dim3(kSuppressThreads), 0, stream}, p, chunk,
                int(row_blocks), int(column_blocks));
}

// Three launches per chunk_rows of n, whatever the number of problems, which is at least 1.
template <class T, bool kClasses>
cudaError_t decide(const GreedyNms<T>& p, cudaStream_t stream) {
  Chunk chunk{};
  for (; chunk.first < p.n; chunk.first += p.chunk_rows) {
    chunk.rows = int(min(int64_t(p.chunk_rows), p.n - chunk.first));
    if (cudaError_t error = decide_chunk<T, kClasses>(p, chunk, stream)) return error;
  }
  return cudaSuccess;
}

}  // namespace
}  // namespace gcv

// Greedy NMS of every image and class at once, one block each: it walks the sorted candidates tile by tile
// and stops at max_per_class, at the first score that is no candidate, or at the end.
#include "common/suppress.h"
#include "common/workspace.h"
#include "nms/kernels_cuda.h"
#include "nms/nms_cuda.h"

namespace gcv {
namespace {

constexpr int kParts = 4;  // threads per candidate
constexpr int kThreads = kTile * kParts;
constexpr int kRowsPerPart = kTile / kParts;
constexpr int kGatherThreads = 256;

template <class Element>
struct Multiclass {
  using T = ComputeOf<Element>;
  StridedBoxes<Element> boxes;
  int64_t image_stride;
  const Element* sorted_keys;
  const int64_t* order;
  int64_t classes, n;
  IouThreshold<T> iou_threshold;
  int64_t max_per_class;
  PackedBox<T>* kept;  // [batch, classes, max_per_class]
  Element* kept_keys;
  int64_t* kept_boxes;
  int64_t* kept_counts;
};

// The tile in hand, in shared memory.
template <class T>
struct Tile {
  PackedBox<T> boxes[kTile];
  T areas[kTile];
  uint32_t open[kParts][2];             // candidates that no box of the part suppresses
  uint16_t suppressors[kTile][kParts];  // earlier candidates of the tile that suppress one, 16 per part
  uint64_t kept;
};

template <class T>
__device__ __forceinline__ bool hit_by_kept(const PackedBox<T>* kept, int64_t kept_count, const Box<T>& box,
                                            T box_area, int part, const IouThreshold<T>& threshold) {
  for (int64_t i = part; i < kept_count; i += kParts) {
    const Box<T> other = kept[i];
    if (suppresses(other, area(other), box, box_area, threshold)) return true;
  }
  return false;
}

template <class T>
__device__ __forceinline__ unsigned hits_in_tile(const Tile<T>& tile, int column, int part,
                                                 const IouThreshold<T>& threshold) {
  const int first = part * kRowsPerPart;
  unsigned word = 0;
  for (int r = 0; r < kRowsPerPart && first + r < column; ++r) {
    const bool hit = suppresses<T>(tile.boxes[first + r], tile.areas[first + r], tile.boxes[column],
                                   tile.areas[column], threshold);
    word |= unsigned(hit) << r;
  }
  return word;
}

// By the first warp: which candidates of the tile are kept, at most `room`.
template <class T>
__device__ __forceinline__ uint64_t settle(const Tile<T>& tile, int64_t room) {
  uint64_t open = ~uint64_t(0), low = 0, high = 0;
  const unsigned lane = lane_id();
  for (int part = 0; part < kParts; ++part) {
    open &= tile.open[part][0] | uint64_t(tile.open[part][1]) << 32;
    low |= uint64_t(tile.suppressors[lane][part]) << (part * kRowsPerPart);
    high |= uint64_t(tile.suppressors[lane + 32][part]) << (part * kRowsPerPart);
  }
  uint64_t kept = greedy_tile(low, high, open);
  while (__popcll(kept) > room) kept &= ~(uint64_t(1) << (63 - __clzll(int64_t(kept))));
  return kept;
}

template <class Element>
__global__ void __launch_bounds__(kThreads) multiclass_kernel(Multiclass<Element> p) {
  using T = ComputeOf<Element>;
  GCV_SHARED(Tile<T>, tile);
  const int64_t problem = blockIdx.x, image = problem / p.classes;
  StridedBoxes<Element> boxes = p.boxes;
  boxes.data += image * p.image_stride;
  const Element* keys = p.sorted_keys + problem * p.n;
  const int64_t* order = p.order + problem * p.n;
  const int64_t out = problem * p.max_per_class;
  const int thread = int(threadIdx.x), column = thread % kTile, part = thread / kTile;

  int64_t kept_count = 0;
  for (int64_t first = 0; first < p.n && kept_count < p.max_per_class; first += kTile) {
    const bool inside = first + column < p.n;
    const bool candidate = inside && widen(keys[first + column]) != -T(INFINITY);
    if (part == 0 && candidate) {
      tile.boxes[column] = load_box(boxes, order[first + column]);
      tile.areas[column] = area<T>(tile.boxes[column]);
    }
    if (!__syncthreads_or(candidate)) break;

    bool open = candidate;
    unsigned word = 0;
    if (candidate) {
      open = !hit_by_kept<T>(p.kept + out, kept_count, tile.boxes[column], tile.areas[column], part,
                             p.iou_threshold);
      word = hits_in_tile(tile, column, part, p.iou_threshold);
    }
    const unsigned open_here = __ballot_sync(kFullWarp, open);
    if (lane_id() == 0) tile.open[part][column / 32] = open_here;
    tile.suppressors[column][part] = uint16_t(word);
    __syncthreads();

    if (thread < 32) {
      const uint64_t kept = settle(tile, p.max_per_class - kept_count);
      if (thread == 0) tile.kept = kept;
    }
    __syncthreads();

    const uint64_t kept = tile.kept, bit = uint64_t(1) << column;
    if (part == 0 && (kept & bit) != 0) {
      const int64_t slot = out + kept_count + __popcll(kept & (bit - 1));
      p.kept[slot] = tile.boxes[column];
      p.kept_keys[slot] = keys[first + column];
      p.kept_boxes[slot] = order[first + column];
    }
    kept_count += __popcll(kept);
    __syncthreads();
  }

  for (int64_t i = kept_count + thread; i < p.max_per_class; i += kThreads) {
    p.kept_keys[out + i] = narrow<Element>(-T(INFINITY));
  }
  if (thread == 0) p.kept_counts[problem] = kept_count;
}

// One block per image.
template <class Element>
__global__ void __launch_bounds__(kGatherThreads) multiclass_gather_kernel(MulticlassGatherParams p) {
  using Count = unsigned long long;
  GCV_SHARED(Count, found);
  const int64_t image = blockIdx.x, slots = p.classes * p.max_per_class;
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  for (int64_t c = threadIdx.x; c < p.classes; c += kGatherThreads) {
    atomicAdd(&found, Count(p.kept_counts[image * p.classes + c]));
  }
  __syncthreads();

  const int64_t count = min(int64_t(found), p.max_total);
  const auto* scores = static_cast<const Element*>(p.scores) + image * p.image_stride;
  auto* best_scores = static_cast<Element*>(p.best_scores);
  for (int64_t i = threadIdx.x; i < p.max_total; i += kGatherThreads) {
    const int64_t to = image * p.max_total + i;
    const int64_t slot = i < count ? p.order[image * slots + i] : 0;
    const int64_t class_id = i < count ? slot / p.max_per_class : -1;
    const int64_t box = i < count ? p.kept_boxes[image * slots + slot] : -1;
    p.indices[2 * to] = class_id;
    p.indices[2 * to + 1] = box;
    best_scores[to] = i < count ? scores[class_id * p.class_stride + box * p.score_stride] : Element{};
  }
  if (threadIdx.x == 0) p.counts[image] = count;
}

int64_t kept_slots(const MulticlassNmsCudaParams& p) { return p.batch * p.classes * p.max_per_class; }

template <class Element>
cudaError_t run(const MulticlassNmsCudaParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  Multiclass<Element> to{};
  to.boxes = strided_boxes<Element>(p.boxes, p.box_stride, p.coord_stride);
  to.boxes.vector_loads = to.boxes.vector_loads && p.image_stride % 4 == 0;
  to.image_stride = p.image_stride;
  to.sorted_keys = static_cast<const Element*>(p.sorted_keys);
  to.order = p.order;
  to.classes = p.classes;
  to.n = p.n;
  to.iou_threshold = make_iou_threshold<T>(p.iou_threshold);
  to.max_per_class = p.max_per_class;
  to.kept = Workspace(p.workspace).take<PackedBox<T>>(kept_slots(p));
  to.kept_keys = static_cast<Element*>(p.kept_keys);
  to.kept_boxes = p.kept_boxes;
  to.kept_counts = p.kept_counts;
  const dim3 grid(unsigned(p.batch * p.classes));
  return launch(multiclass_kernel<Element>, {grid, dim3(kThreads), 0, stream}, to);
}

}  // namespace

size_t multiclass_nms_cuda_workspace_bytes(const MulticlassNmsCudaParams& p) {
  Workspace workspace(nullptr);
  if (p.dtype == DType::f64) {
    workspace.take<PackedBox<double>>(kept_slots(p));
  } else {
    workspace.take<PackedBox<float>>(kept_slots(p));
  }
  return workspace.used();
}

cudaError_t multiclass_nms_cuda(const MulticlassNmsCudaParams& p, cudaStream_t stream) {
  if (p.batch * p.classes > INT32_MAX || p.max_per_class > p.n) return cudaErrorInvalidValue;
  if (p.batch * p.classes == 0) return cudaSuccess;
  return with_element(p.dtype, [&](auto element) { return run<decltype(element)>(p, stream); });
}

cudaError_t multiclass_gather_cuda(const MulticlassGatherParams& p, cudaStream_t stream) {
  if (p.batch > INT32_MAX) return cudaErrorInvalidValue;
  if (p.batch == 0) return cudaSuccess;
  return with_element(p.dtype, [&](auto element) {
    return launch(multiclass_gather_kernel<decltype(element)>,
                  {dim3(unsigned(p.batch)), dim3(kGatherThreads), 0, stream}, p);
  });
}

}  // namespace gcv

// Proposals on the device, for a group of images at a time and for all their levels at once:
//   1. the best logits of every level (best_logits_cuda.h);
//   2. decode: their boxes, clipped and scored; those that are too small or too unlikely take no further
//   part;
//   3. greedy NMS of every level (common/greedy_nms_cuda.h): the sigmoid never reverses an order, so that the
//      boxes are sorted already, and kept boxes of one level never meet those of another;
//   4. merge: a kept box's final rank, by binary search in the other levels.
#include "common/greedy_nms_cuda.h"
#include "rpn/best_logits_cuda.h"
#include "rpn/rpn_cuda.h"

namespace gcv {
namespace {

constexpr int kDecodeThreads = 128;
constexpr int kMergeThreads = 256;

// By value, so that no copy has to wait for the host's memory.
struct ImageSizes {
  int64_t height_and_width[kRpnImagesPerGroup][2];
};

template <class Element>
struct Group {
  using T = ComputeOf<Element>;
  BestLogits<Element> best;
  GreedyNms<T> nms;     // a problem for each segment, of `capacity` boxes
  PackedBox<T>* boxes;  // [segments, capacity]
  T* scores;            // [segments, capacity]
  void* zeroed;         // what must be zero before: histograms, removed bits and counts
  size_t zeroed_bytes;
  size_t bytes;
};

template <class Element>
struct Decoded {
  PackedBox<ComputeOf<Element>>* boxes;
  ComputeOf<Element>* scores;
  uint32_t* removed;
};

// One thread per row of a segment; rows past the selected ones are removed, too.
template <class Element>
__global__ void __launch_bounds__(kDecodeThreads)
    decode_kernel(BestLogits<Element> p, Decoded<Element> to, ImageSizes sizes) {
  using T = ComputeOf<Element>;
  const int64_t blocks = ceil_div<int64_t>(p.capacity, kDecodeThreads);
  const int64_t segment = blockIdx.x / blocks, image = segment / p.rpn.level_count;
  const int64_t position = blockIdx.x % blocks * kDecodeThreads + threadIdx.x;
  if (position >= p.capacity) return;
  const RpnLevel& level = p.rpn.levels[segment % p.rpn.level_count];
  const auto* best = p.best + segment * p.capacity;

  RpnCandidate<T> candidate{};
  int64_t rank = position;
  bool kept = false;
  if (position < level.selected) {
    rank = rank_of(best, level.selected, position);
    const int64_t* size = sizes.height_and_width[image];
    candidate =
        rpn_candidate<Element>(p.rpn, level, p.first_image + image, best[position].index, size[0], size[1]);
    kept = rpn_keeps(candidate, T(p.rpn.min_size), T(p.rpn.score_threshold));
  }
  const int64_t row = segment * p.capacity + rank;
  static_cast<Box<T>&>(to.boxes[row]) = candidate.box;
  to.scores[row] = candidate.score;
  if (!kept) atomicOr(to.removed + segment * removed_words(p.capacity) + rank / 32, 1u << (rank % 32));
}

// What is left of each level, best first.
template <class Element>
struct Kept {
  using T = ComputeOf<Element>;
  const PackedBox<T>* boxes;  // [segments, capacity]
  const T* scores;            // [segments, capacity]
  const int64_t* rows;        // [segments, limit]
  const int64_t* counts;      // [segments]
  int64_t capacity, limit;

  __device__ __forceinline__ T score(int64_t segment, int64_t rank) const {
    return scores[segment * capacity + rows[segment * limit + rank]];
  }

  // How many boxes of the segment come before one with this score, of a later or an earlier level.
  __device__ __forceinline__ int64_t better(int64_t segment, T score_of_box, bool of_later_level) const {
    int64_t low = 0, high = counts[segment];
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const T other = score(segment, middle);
      if (of_later_level ? other >= score_of_box : other > score_of_box) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

// One thread per slot for a kept box, and per row of the result.
template <class Element>
__global__ void __launch_bounds__(kMergeThreads)
    merge_kernel(RpnParams p, int64_t first_image, Kept<Element> kept, int64_t blocks) {
  using T = ComputeOf<Element>;
  const int64_t image = blockIdx.x / blocks, levels = p.level_count, first_segment = image * levels;
  const int64_t i = blockIdx.x % blocks * kMergeThreads + threadIdx.x;
  auto* out_boxes = static_cast<Element*>(p.boxes) + (first_image + image) * p.post_nms_top_n * 4;
  auto* out_scores = static_cast<Element*>(p.scores) + (first_image + image) * p.post_nms_top_n;

  int64_t found = 0;
  for (int64_t level = 0; level < levels; ++level) found += kept.counts[first_segment + level];
  const int64_t count = min(found, p.post_nms_top_n);
  if (i == 0) p.counts[first_image + image] = count;
  if (i >= count && i < p.post_nms_top_n) {
    for (int c = 0; c < 4; ++c) out_boxes[4 * i + c] = Element{};
    out_scores[i] = Element{};
  }

  const int64_t own_level = i / kept.limit, own_rank = i % kept.limit, segment = first_segment + own_level;
  if (own_level >= levels || own_rank >= kept.counts[segment]) return;
  const T score = kept.score(segment, own_rank);
  int64_t rank = own_rank;
  for (int64_t level = 0; level < levels; ++level) {
    if (level != own_level) rank += kept.better(first_segment + level, score, own_level > level);
  }
  if (rank >= count) return;
  const Box<T> box = kept.boxes[segment * kept.capacity + kept.rows[segment * kept.limit + own_rank]];
  Element* out = out_boxes + 4 * rank;
  out[0] = narrow<Element>(box.x1);
  out[1] = narrow<Element>(box.y1);
  out[2] = narrow<Element>(box.x2);
  out[3] = narrow<Element>(box.y2);
  out_scores[rank] = narrow<Element>(score);
}

int64_t most_selected(const RpnParams& p) {
  int64_t most = 0;
  for (int64_t l = 0; l < p.level_count; ++l) most = max(most, p.levels[l].selected);
  return most;
}

template <class Element>
void slice_levels(BestLogits<Element>& best) {
  for (int64_t l = 0; l < best.rpn.level_count; ++l) {
    const RpnLevel& level = best.rpn.levels[l];
    const int64_t slices = level.selected == 0 ? 0 : ceil_div<int64_t>(rpn_size(level), kSlice);
    best.slices_before[l + 1] = best.slices_before[l] + int(slices);
  }
}

template <class Element>
Group<Element> layout(const RpnCudaParams& p, int64_t images) {
  using T = ComputeOf<Element>;
  Workspace workspace(p.workspace);
  Group<Element> g{};
  g.best.rpn = p.rpn;
  g.best.segments = images * p.rpn.level_count;
  g.best.capacity = most_selected(p.rpn);
  slice_levels(g.best);
  const int64_t segments = g.best.segments, rows = segments * g.best.capacity;
  g.best.histograms = workspace.take<uint32_t>(kDigits<Element> * segments * kBins);
  g.nms.removed = workspace.take<uint32_t>(segments * removed_words(g.best.capacity));
  g.nms.counts = workspace.take<int64_t>(segments);
  g.zeroed = g.best.histograms;
  g.zeroed_bytes = workspace.used();

  g.best.last = workspace.take<LastSelected<KeyOf<Element>>>((kDigits<Element> + 1) * segments);
  g.best.slice_counts = workspace.take<uint64_t>(images * g.best.slices_before[p.rpn.level_count]);
  g.best.best = workspace.take<Ranked<KeyOf<Element>>>(rows);
  g.boxes = workspace.take<PackedBox<T>>(rows);
  g.scores = workspace.take<T>(rows);
  g.nms.problems = segments;
  g.nms.n = g.best.capacity;
  g.nms.boxes = g.boxes;
  g.nms.threshold = make_iou_threshold<T>(p.rpn.nms_threshold);
  g.nms.limit = min(p.rpn.post_nms_top_n, g.best.capacity);
  g.nms.chunk_rows = p.chunk_rows;
  g.nms.keep = workspace.take<int64_t>(segments * g.nms.limit);
  take_greedy_scratch(g.nms, workspace);
  g.bytes = workspace.used();
  return g;
}

template <class Element>
cudaError_t decode_best(const Group<Element>& g, int64_t images, cudaStream_t stream) {
  ImageSizes sizes{};
  for (int64_t i = 0; i < images; ++i) {
    const int64_t* size = g.best.rpn.image_sizes + 2 * (g.best.first_image + i);
    sizes.height_and_width[i][0] = size[0];
    sizes.height_and_width[i][1] = size[1];
  }
  const int64_t blocks = g.best.segments * ceil_div<int64_t>(g.best.capacity, kDecodeThreads);
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  return launch(decode_kernel<Element>, {dim3(unsigned(blocks)), dim3(kDecodeThreads), 0, stream}, g.best,
                Decoded<Element>{g.boxes, g.scores, g.nms.removed}, sizes);
}

template <class Element>
cudaError_t merge_levels(const Group<Element>& g, int64_t images, cudaStream_t stream) {
  const RpnParams& p = g.best.rpn;
  const Kept<Element> kept{g.boxes, g.scores, g.nms.keep, g.nms.counts, g.best.capacity, g.nms.limit};
  const int64_t blocks = ceil_div<int64_t>(max(p.level_count * g.nms.limit, p.post_nms_top_n), kMergeThreads);
  if (images * blocks > INT32_MAX) return cudaErrorInvalidValue;
  return launch(merge_kernel<Element>, {dim3(unsigned(images * blocks)), dim3(kMergeThreads), 0, stream}, p,
                g.best.first_image, kept, blocks);
}

template <class Element>
cudaError_t propose(const RpnCudaParams& p, int64_t first_image, int64_t images, cudaStream_t stream) {
  Group<Element> g = layout<Element>(p, images);
  g.best.first_image = first_image;
  if (cudaError_t error = cudaMemsetAsync(g.zeroed, 0, g.zeroed_bytes, stream)) return error;
  if (cudaError_t error = find_best_logits(g.best, stream)) return error;
  if (cudaError_t error = decode_best(g, images, stream)) return error;
  if (cudaError_t error = decide<ComputeOf<Element>, false>(g.nms, stream)) return error;
  return merge_levels(g, images, stream);
}

template <class Element>
cudaError_t propose_in_groups(const RpnCudaParams& p, cudaStream_t stream) {
  for (int64_t first = 0; first < p.rpn.batch; first += kRpnImagesPerGroup) {
    const int64_t images = min(int64_t(kRpnImagesPerGroup), p.rpn.batch - first);
    if (cudaError_t error = propose<Element>(p, first, images, stream)) return error;
  }
  return cudaSuccess;
}

template <class Element>
cudaError_t propose_nothing(const RpnParams& p, cudaStream_t stream) {
  const size_t slots = size_t(p.batch * p.post_nms_top_n);
  if (cudaError_t error = cudaMemsetAsync(p.counts, 0, size_t(p.batch) * sizeof *p.counts, stream))
    return error;
  if (slots == 0) return cudaSuccess;
  if (cudaError_t error = cudaMemsetAsync(p.boxes, 0, 4 * slots * sizeof(Element), stream)) return error;
  return cudaMemsetAsync(p.scores, 0, slots * sizeof(Element), stream);
}

bool has_candidates(const RpnParams& p) { return p.post_nms_top_n > 0 && most_selected(p) > 0; }

}  // namespace

size_t rpn_proposals_cuda_workspace_bytes(const RpnCudaParams& p) {
  if (!has_candidates(p.rpn)) return 0;
  size_t bytes = 0;
  with_element(p.rpn.dtype, [&](auto element) {
    bytes = layout<decltype(element)>(p, min(p.rpn.batch, int64_t(kRpnImagesPerGroup))).bytes;
    return cudaSuccess;
  });
  return bytes;
}

cudaError_t rpn_proposals_cuda(const RpnCudaParams& p, cudaStream_t stream) {
  if (p.chunk_rows <= 0 || p.chunk_rows > kMostChunkRows || p.chunk_rows % kTile != 0)
    return cudaErrorInvalidValue;
  if (p.rpn.batch == 0) return cudaSuccess;
  return with_element(p.rpn.dtype, [&](auto element) {
    using Element = decltype(element);
    return has_candidates(p.rpn) ? propose_in_groups<Element>(p, stream)
                                 : propose_nothing<Element>(p.rpn, stream);
  });
}

}  // namespace gcv

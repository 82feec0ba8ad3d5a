// Detections: a key for every candidate; then, sorted by the caller, one block per image walks them tile by
// tile, decodes only those, and stops at max_detections, at the first key that is no candidate's, or at the
// end.
#include "common/greedy_tile_cuda.h"
#include "common/suppress.h"
#include "common/workspace.h"
#include "yolo/yolo_box_cuda.h"
#include "yolo/yolo_cuda.h"

namespace gcv {
namespace {

constexpr int kParts = 4;  // threads per candidate
constexpr int kThreads = kTile * kParts;
constexpr int kRowsPerPart = kTile / kParts;

template <class T>
__device__ __forceinline__ T key_of(T score, double threshold) {
  return double(score) > threshold ? exact::add(score, T(0)) : -T(INFINITY);
}

// A thread for each box.
template <class Element>
__global__ void __launch_bounds__(kBoxThreads, kKeysBlocks) yolo_keys_kernel(YoloKeysParams p) {
  using T = ComputeOf<Element>;
  const YoloDetectParams& d = p.detect;
  const YoloMaps& m = d.maps;
  const int64_t i = own_index();
  if (i >= m.batch * m.boxes) return;
  const int64_t image = i / m.boxes, number = i - image * m.boxes;
  const BoxOutputs<Element> box(m, image, yolo_place(m, number));
  T* keys = static_cast<T*>(p.keys) + image * m.boxes * (d.multi_label ? m.classes : 1) + number;

  const T confidence = box.confidence();
  Softmax<T> shared{};
  if (m.version == YoloVersion::v2) shared = softmax(box, [](T x) { return yolo_cleaned(x); });
  if (d.multi_label) {
    for (int64_t c = 0; c < m.classes; ++c) {
      const T output = yolo_cleaned(box.output(c));
      keys[c * m.boxes] = key_of(class_score(m.version, confidence, output, shared), d.score_threshold);
    }
    return;
  }
  T best = -T(INFINITY);
  int32_t best_class = 0;
  for (int64_t c = 0; c < m.classes; ++c) {
    const T output = box.output(c);
    if (output > best) {
      best = output;
      best_class = int32_t(c);
    }
  }
  p.best_class[i] = best_class;
  keys[0] = key_of(class_score(m.version, confidence, best, shared), d.score_threshold);
}

template <class Element>
struct Greedy {
  using T = ComputeOf<Element>;
  YoloDetectParams d;
  const T* keys;  // [batch, candidates], sorted
  const int64_t* order;
  const int32_t* best_class;
  int64_t candidates, end;  // of an image, and how many of them take part
  IouThreshold<T> threshold;
  PackedBox<T>* kept;  // [batch, max_detections], as decoded
};

// The tile in hand, in shared memory.
template <class T>
struct DetectionTile {
  T sides[kTile][4];
  T areas[kTile];
  int64_t labels[kTile];
  uint32_t open[kParts][2];             // candidates that no box of the part suppresses
  uint16_t suppressors[kTile][kParts];  // earlier candidates of the tile that suppress one, 16 per part
  uint64_t kept;

  __device__ __forceinline__ Box<T> box(int column) const {
    const T* s = sides[column];
    return {s[0], s[1], s[2], s[3]};
  }
};

// By four threads.
template <class Element>
__device__ __forceinline__ void decode_part(const Greedy<Element>& p, int64_t image, int64_t box_number,
                                            int part, ComputeOf<Element>* sides) {
  const BoxOutputs<Element> box(p.d.maps, image, yolo_place(p.d.maps, box_number));
  if (p.d.maps.version == YoloVersion::v8) {
    sides[part] = distance_side(box, part);
  } else if (part < 2) {
    anchored_sides(box, part, sides[part], sides[2 + part]);
  }
}

template <class T>
__device__ __forceinline__ bool any_nan(const Box<T>& b) {
  return b.x1 != b.x1 || b.y1 != b.y1 || b.x2 != b.x2 || b.y2 != b.y2;
}

// By the first warp: which candidates of the tile are kept, at most `room`.
template <class T>
__device__ __forceinline__ uint64_t settle(const DetectionTile<T>& tile, int64_t room) {
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
__device__ __forceinline__ void put_detection(const YoloDetectParams& d, int64_t image, int64_t to,
                                              Box<ComputeOf<Element>> box, ComputeOf<Element> score,
                                              int64_t label) {
  using T = ComputeOf<Element>;
  if (d.letterbox != nullptr) {
    const float* letterbox = d.letterbox + image * d.letterbox_strides[0];
    T v[5];
    for (int i = 0; i < 5; ++i) v[i] = T(letterbox[i * d.letterbox_strides[1]]);
    box = {yolo_restore(box.x1, v[1], v[0], v[4]), yolo_restore(box.y1, v[2], v[0], v[3]),
           yolo_restore(box.x2, v[1], v[0], v[4]), yolo_restore(box.y2, v[2], v[0], v[3])};
  }
  Element* boxes = static_cast<Element*>(d.out_boxes) + 4 * to;
  boxes[0] = narrow<Element>(box.x1);
  boxes[1] = narrow<Element>(box.y1);
  boxes[2] = narrow<Element>(box.x2);
  boxes[3] = narrow<Element>(box.y2);
  static_cast<Element*>(d.out_scores)[to] = narrow<Element>(score);
  d.labels[to] = label;
}

template <class Element>
__global__ void __launch_bounds__(kThreads) yolo_greedy_kernel(Greedy<Element> p) {
  using T = ComputeOf<Element>;
  GCV_SHARED(DetectionTile<T>, tile);
  const YoloDetectParams& d = p.d;
  const int64_t image = blockIdx.x, out = image * d.max_detections;
  const T* keys = p.keys + image * p.candidates;
  const int64_t* order = p.order + image * p.candidates;
  const int thread = int(threadIdx.x), column = thread % kTile, part = thread / kTile;

  int64_t kept_count = 0;
  for (int64_t first = 0; first < p.end && kept_count < d.max_detections; first += kTile) {
    const bool candidate = first + column < p.end && keys[first + column] != -T(INFINITY);
    int64_t label = 0;
    if (candidate) {
      const int64_t index = order[first + column], box = d.multi_label ? index % d.maps.boxes : index;
      label = d.multi_label ? index / d.maps.boxes : p.best_class[image * d.maps.boxes + index];
      decode_part(p, image, box, part, tile.sides[column]);
      if (part == 0) tile.labels[column] = label;
    }
    if (!__syncthreads_or(candidate)) break;

    const Box<T> box = candidate ? tile.box(column) : Box<T>{};
    const T box_area = area(box);
    if (part == 0 && candidate) tile.areas[column] = box_area;
    bool open = candidate && !any_nan(box);
    __syncthreads();
    unsigned word = 0;
    if (open) {
      const int row = part * kRowsPerPart;
      for (int r = 0; r < kRowsPerPart && row + r < column; ++r) {
        if (!d.class_agnostic && tile.labels[row + r] != label) continue;
        word |= unsigned(suppresses<T>(tile.box(row + r), tile.areas[row + r], box, box_area, p.threshold))
                << r;
      }
      for (int64_t i = part; i < kept_count && open; i += kParts) {
        if (!d.class_agnostic && d.labels[out + i] != label) continue;
        const Box<T> other = p.kept[out + i];
        open = !suppresses(other, area(other), box, box_area, p.threshold);
      }
    }
    const unsigned open_here = __ballot_sync(kFullWarp, open);
    if (lane_id() == 0) tile.open[part][column / 32] = open_here;
    tile.suppressors[column][part] = uint16_t(word);
    __syncthreads();

    if (thread < 32) {
      const uint64_t kept = settle(tile, d.max_detections - kept_count);
      if (thread == 0) tile.kept = kept;
    }
    __syncthreads();

    const uint64_t kept = tile.kept, bit = uint64_t(1) << column;
    if (part == 0 && (kept & bit) != 0) {
      const int64_t to = out + kept_count + __popcll(kept & (bit - 1));
      static_cast<Box<T>&>(p.kept[to]) = box;
      put_detection<Element>(d, image, to, box, keys[first + column], label);
    }
    kept_count += __popcll(kept);
    __syncthreads();
  }

  for (int64_t i = kept_count + thread; i < d.max_detections; i += kThreads) {
    for (int side = 0; side < 4; ++side) static_cast<Element*>(d.out_boxes)[4 * (out + i) + side] = Element{};
    static_cast<Element*>(d.out_scores)[out + i] = Element{};
    d.labels[out + i] = -1;
  }
  if (thread == 0) d.counts[image] = kept_count;
}

template <class Element>
cudaError_t run_greedy(const YoloGreedyParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  const YoloDetectParams& d = p.detect;
  const int64_t candidates = yolo_candidates(d);
  Workspace workspace(p.workspace);
  const Greedy<Element> greedy{d,
                               static_cast<const T*>(p.sorted_keys),
                               p.order,
                               p.best_class,
                               candidates,
                               min(candidates, d.max_candidates),
                               make_iou_threshold<T>(d.iou_threshold),
                               workspace.take<PackedBox<T>>(d.maps.batch * d.max_detections)};
  return launch(yolo_greedy_kernel<Element>, {dim3(unsigned(d.maps.batch)), dim3(kThreads), 0, stream},
                greedy);
}

}  // namespace

cudaError_t yolo_keys_cuda(const YoloKeysParams& p, cudaStream_t stream) {
  const YoloMaps& m = p.detect.maps;
  return with_element(m.dtype, [&](auto element) {
    return launch_per_item(yolo_keys_kernel<decltype(element)>, m.batch * m.boxes, p, stream);
  });
}

size_t yolo_greedy_cuda_workspace_bytes(const YoloDetectParams& p) {
  Workspace workspace(nullptr);
  const int64_t slots = p.maps.batch * p.max_detections;
  if (p.maps.dtype == DType::f64) {
    workspace.take<PackedBox<double>>(slots);
  } else {
    workspace.take<PackedBox<float>>(slots);
  }
  return workspace.used();
}

cudaError_t yolo_greedy_cuda(const YoloGreedyParams& p, cudaStream_t stream) {
  if (p.detect.maps.batch > INT32_MAX) return cudaErrorInvalidValue;
  if (p.detect.maps.batch == 0) return cudaSuccess;
  return with_element(p.detect.maps.dtype,
                      [&](auto element) { return run_greedy<decltype(element)>(p, stream); });
}

}  // namespace gcv

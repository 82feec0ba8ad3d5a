// Boxes and scores, a thread for each box: neighbouring threads read neighbouring cells of every channel.
#include "yolo/yolo_box_cuda.h"
#include "yolo/yolo_cuda.h"

namespace gcv {
namespace {

template <class Element>
__global__ void __launch_bounds__(kBoxThreads) yolo_decode_kernel(YoloDecodeParams p) {
  using T = ComputeOf<Element>;
  const YoloMaps& m = p.maps;
  const int64_t i = own_index();
  if (i >= m.batch * m.boxes) return;
  const int64_t image = i / m.boxes, number = i - image * m.boxes;
  const BoxOutputs<Element> box(m, image, yolo_place(m, number));

  Element* to = static_cast<Element*>(p.boxes) + 4 * i;
  if (m.version == YoloVersion::v8) {
    for (int side = 0; side < 4; ++side) to[side] = narrow<Element>(distance_side(box, side));
  } else {
    for (int axis = 0; axis < 2; ++axis) {
      T low, high;
      anchored_sides(box, axis, low, high);
      to[axis] = narrow<Element>(low);
      to[2 + axis] = narrow<Element>(high);
    }
  }

  Element* scores = static_cast<Element*>(p.scores) + image * m.classes * m.boxes + number;
  const T confidence = box.confidence();
  Softmax<T> shared{};
  if (m.version == YoloVersion::v2) shared = softmax(box, [](T x) { return x; });
  for (int64_t c = 0; c < m.classes; ++c)
    scores[c * m.boxes] = narrow<Element>(class_score(m.version, confidence, box.output(c), shared));
}

// Where a thread's gradients come from and go to.
template <class Element>
struct BoxGradients {
  using T = ComputeOf<Element>;
  const YoloDecodeBackwardParams& p;
  const BoxOutputs<Element>& box;
  int64_t image, number;

  __device__ __forceinline__ T of_box(int side) const {
    const int64_t* s = p.grad_boxes_strides;
    return widen(static_cast<const Element*>(p.grad_boxes)[image * s[0] + number * s[1] + side * s[2]]);
  }
  // Of the box `boxes` numbers further on.
  __device__ __forceinline__ T of_score(int64_t class_id, int64_t boxes = 0) const {
    const int64_t* s = p.grad_scores_strides;
    const int64_t offset = image * s[0] + (number + boxes) * s[1] + class_id * s[2];
    return widen(static_cast<const Element*>(p.grad_scores)[offset]);
  }
  __device__ __forceinline__ void put(int64_t channel, T value) const {
    const YoloLevel& level = box.level;
    const int64_t cell = box.at.row * level.width + box.at.column;
    static_cast<Element*>(
        p.grad_maps)[image * p.maps.numbers + level.first_number + channel * yolo_cells(level) + cell] =
        narrow<Element>(value);
  }
  __device__ __forceinline__ int64_t first() const { return yolo_first_channel(p.maps, box.at.anchor); }
  __device__ __forceinline__ int64_t first_class() const { return yolo_first_class(p.maps, box.at.anchor); }
};

template <class Element>
__device__ __forceinline__ void box_backward(const BoxGradients<Element>& g) {
  using T = ComputeOf<Element>;
  const auto& box = g.box;
  const YoloMaps& m = g.p.maps;
  if (m.version == YoloVersion::v8) {
    for (int side = 0; side < 4; ++side) {
      const Distribution<T> d = distribution(box, side);
      const T grad = g.of_box(side) * (side < 2 ? -box.stride() : box.stride());
      for (int64_t b = 0; b < m.reg_max; ++b) {
        const int64_t channel = side * m.reg_max + b;
        g.put(channel, grad * (exponential(box.value(channel) - d.most) / d.total) * (T(b) - d.mean));
      }
    }
    return;
  }
  for (int axis = 0; axis < 2; ++axis) {
    const T low = g.of_box(axis), high = g.of_box(2 + axis);
    g.put(g.first() + axis, (low + high) * yolo_centre_slope(m.version, box.value(axis), box.stride()));
    g.put(g.first() + 2 + axis,
          T(0.5) * (high - low) * yolo_length_slope(m.version, box.value(2 + axis), box.unit(axis)));
  }
}

// v3, v5 and v8: every class by itself.
template <class Element>
__device__ __forceinline__ void sigmoid_scores_backward(const BoxGradients<Element>& g) {
  using T = ComputeOf<Element>;
  const YoloMaps& m = g.p.maps;
  const T confidence = g.box.confidence();
  T of_confidence = T(0);
  for (int64_t c = 0; c < m.classes; ++c) {
    const T s = sigmoid(g.box.output(c)), grad = g.of_score(c);
    of_confidence += grad * s;
    g.put(g.first_class() + c, grad * confidence * (s * (T(1) - s)));
  }
  if (yolo_has_confidence(m.version)) g.put(g.first() + 4, of_confidence * confidence * (T(1) - confidence));
}

// v2: a class's gradient needs the sum over all.
template <class Element>
__device__ __forceinline__ void softmax_scores_backward(const BoxGradients<Element>& g) {
  using T = ComputeOf<Element>;
  const YoloMaps& m = g.p.maps;
  const T confidence = g.box.confidence();
  const Softmax<T> shared = softmax(g.box, [](T x) { return x; });
  T mean = T(0);
  for (int64_t c = 0; c < m.classes; ++c)
    mean += g.of_score(c) * (exponential(g.box.output(c) - shared.most) / shared.total);
  for (int64_t c = 0; c < m.classes; ++c) {
    const T weight = exponential(g.box.output(c) - shared.most) / shared.total;
    g.put(g.first_class() + c, confidence * weight * (g.of_score(c) - mean));
  }
  g.put(g.first() + 4, mean * confidence * (T(1) - confidence));
}

// v1: the thread of a cell's first box does the classes for all of them, and every thread its own confidence.
template <class Element>
__device__ __forceinline__ void shared_scores_backward(const BoxGradients<Element>& g) {
  using T = ComputeOf<Element>;
  const YoloMaps& m = g.p.maps;
  const int64_t cells = yolo_cells(g.box.level), own = g.box.at.anchor;
  T of_confidence = T(0);
  for (int64_t c = 0; c < m.classes; ++c) {
    of_confidence += g.of_score(c) * g.box.output(c);
    if (own != 0) continue;
    T of_class = T(0);
    for (int64_t a = 0; a < m.boxes_per_cell; ++a)
      of_class += g.of_score(c, a * cells) * g.box.value(5 * a + 4);
    g.put(g.first_class() + c, of_class);
  }
  g.put(g.first() + 4, of_confidence);
}

template <class Element>
__global__ void __launch_bounds__(kBoxThreads, kBackwardBlocks)
    yolo_decode_backward_kernel(YoloDecodeBackwardParams p) {
  const YoloMaps& m = p.maps;
  const int64_t i = own_index();
  if (i >= m.batch * m.boxes) return;
  const int64_t image = i / m.boxes, number = i - image * m.boxes;
  const BoxOutputs<Element> box(m, image, yolo_place(m, number));
  const BoxGradients<Element> g{p, box, image, number};
  box_backward(g);
  if (m.version == YoloVersion::v1) {
    shared_scores_backward(g);
  } else if (m.version == YoloVersion::v2) {
    softmax_scores_backward(g);
  } else {
    sigmoid_scores_backward(g);
  }
}

}  // namespace

cudaError_t yolo_decode_cuda(const YoloDecodeParams& p, cudaStream_t stream) {
  return with_element(p.maps.dtype, [&](auto element) {
    return launch_per_item(yolo_decode_kernel<decltype(element)>, p.maps.batch * p.maps.boxes, p, stream);
  });
}

cudaError_t yolo_decode_backward_cuda(const YoloDecodeBackwardParams& p, cudaStream_t stream) {
  return with_element(p.maps.dtype, [&](auto element) {
    return launch_per_item(yolo_decode_backward_kernel<decltype(element)>, p.maps.batch * p.maps.boxes, p,
                           stream);
  });
}

}  // namespace gcv

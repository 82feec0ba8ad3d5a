// Gradients of the maps, a block of neighbouring cells at a time.
#include "yolo/yolo_lanes.h"

namespace gcv::GCV_ISA {
namespace {

template <class Element>
struct BlockGradients {
  using T = typename Compute<Element>::type;
  const YoloDecodeBackwardParams& p;
  const CellBlock& b;
  CellReader<Element> cells;

  BlockGradients(const YoloDecodeBackwardParams& params, const CellBlock& block)
      : p(params), b(block), cells(*block.level, block.image) {}

  void read(int64_t channel, T (&to)[kLane]) const {
    BlockSource<Element>{cells, 0, b.cell, b.count}.read(channel, to);
  }

  // Of component `column` of the rows of the block's boxes.
  void read_gradient(const void* data, const int64_t (&strides)[3], int64_t anchor, int64_t column,
                     T (&to)[kLane]) const {
    const Element* from = static_cast<const Element*>(data) + b.image * strides[0] +
                          b.box(anchor) * strides[1] + column * strides[2];
    for (int64_t i = 0; i < b.count; ++i) to[i] = widen(from[i * strides[1]]);
    for (int64_t i = b.count; i < kLane; ++i) to[i] = T(0);
  }

  void of_box(int64_t anchor, int side, T (&to)[kLane]) const {
    read_gradient(p.grad_boxes, p.grad_boxes_strides, anchor, side, to);
  }

  void of_score(int64_t anchor, int64_t class_id, T (&to)[kLane]) const {
    read_gradient(p.grad_scores, p.grad_scores_strides, anchor, class_id, to);
  }

  void put(int64_t channel, const T (&from)[kLane]) const {
    Element* to = static_cast<Element*>(p.grad_maps) + b.image * p.maps.numbers + b.level->first_number +
                  channel * yolo_cells(*b.level) + b.cell;
    narrow_all(from, b.count, to);
  }
};

template <class Element, class T>
void distances_backward(const BlockGradients<Element>& g, const LaneGeometry<T>& geometry) {
  const int reg_max = int(g.p.maps.reg_max);
  T bins[kYoloMostBins][kLane], total[kLane], moment[kLane], grad[kLane];
  for (int side = 0; side < 4; ++side) {
    read_distribution(g, side * reg_max, reg_max, bins, total, moment);
    g.of_box(0, side, grad);
    T most[kLane];
    for (int b = 0; b < reg_max; ++b) {
      for (int i = 0; i < kLane; ++i) most[i] = b == 0 ? bins[b][i] : larger(most[i], bins[b][i]);
    }
    for (int i = 0; i < kLane; ++i) {
      grad[i] *= side < 2 ? -geometry.stride[i] : geometry.stride[i];
      moment[i] /= total[i];
    }
    for (int b = 0; b < reg_max; ++b) {
      for (int i = 0; i < kLane; ++i)
        bins[b][i] = grad[i] * (exponential(bins[b][i] - most[i]) / total[i]) * (T(b) - moment[i]);
      g.put(side * reg_max + b, bins[b]);
    }
  }
}

template <YoloVersion kVersion, class Element, class T>
void box_backward(const BlockGradients<Element>& g, int64_t anchor, const LaneGeometry<T>& geometry) {
  const int64_t first = yolo_first_channel(g.p.maps, anchor);
  T low[kLane], high[kLane], centre[kLane], length[kLane];
  for (int axis = 0; axis < 2; ++axis) {
    g.of_box(anchor, axis, low);
    g.of_box(anchor, 2 + axis, high);
    g.read(first + axis, centre);
    g.read(first + 2 + axis, length);
    for (int i = 0; i < kLane; ++i) {
      centre[i] = (low[i] + high[i]) * yolo_centre_slope(kVersion, centre[i], geometry.stride[i]);
      length[i] =
          T(0.5) * (high[i] - low[i]) * yolo_length_slope(kVersion, length[i], geometry.unit[axis][i]);
    }
    g.put(first + axis, centre);
    g.put(first + 2 + axis, length);
  }
}

// v3, v5 and v8: every class by itself.
template <YoloVersion kVersion, class Element>
void sigmoid_scores_backward(const BlockGradients<Element>& g, int64_t anchor) {
  using T = typename Compute<Element>::type;
  const YoloMaps& m = g.p.maps;
  const int64_t first = yolo_first_channel(m, anchor), first_class = yolo_first_class(m, anchor);
  T confidence[kLane], of_confidence[kLane] = {}, output[kLane], grad[kLane];
  for (T& c : confidence) c = T(1);
  if (yolo_has_confidence(kVersion)) {
    g.read(first + 4, output);
    for (int i = 0; i < kLane; ++i) confidence[i] = sigmoid(output[i]);
  }
  for (int64_t c = 0; c < m.classes; ++c) {
    g.read(first_class + c, output);
    g.of_score(anchor, c, grad);
    for (int i = 0; i < kLane; ++i) {
      const T s = sigmoid(output[i]);
      of_confidence[i] += grad[i] * s;
      output[i] = grad[i] * confidence[i] * (s * (T(1) - s));
    }
    g.put(first_class + c, output);
  }
  if (!yolo_has_confidence(kVersion)) return;
  for (int i = 0; i < kLane; ++i) of_confidence[i] *= confidence[i] * (T(1) - confidence[i]);
  g.put(first + 4, of_confidence);
}

// v2: a class's gradient needs the sum over all.
template <class Element>
void softmax_scores_backward(const BlockGradients<Element>& g, int64_t anchor) {
  using T = typename Compute<Element>::type;
  const YoloMaps& m = g.p.maps;
  const int64_t first = yolo_first_channel(m, anchor), first_class = yolo_first_class(m, anchor);
  T confidence[kLane], most[kLane], total[kLane] = {}, mean[kLane] = {}, output[kLane], grad[kLane];
  g.read(first + 4, confidence);
  for (T& c : confidence) c = sigmoid(c);
  for (int64_t c = 0; c < m.classes; ++c) {
    g.read(first_class + c, output);
    for (int i = 0; i < kLane; ++i) most[i] = c == 0 ? output[i] : larger(most[i], output[i]);
  }
  for (int64_t c = 0; c < m.classes; ++c) {
    g.read(first_class + c, output);
    g.of_score(anchor, c, grad);
    for (int i = 0; i < kLane; ++i) {
      const T weight = exponential(output[i] - most[i]);
      total[i] += weight;
      mean[i] += grad[i] * weight;
    }
  }
  for (int i = 0; i < kLane; ++i) mean[i] /= total[i];
  for (int64_t c = 0; c < m.classes; ++c) {
    g.read(first_class + c, output);
    g.of_score(anchor, c, grad);
    for (int i = 0; i < kLane; ++i)
      output[i] = confidence[i] * (exponential(output[i] - most[i]) / total[i]) * (grad[i] - mean[i]);
    g.put(first_class + c, output);
  }
  for (int i = 0; i < kLane; ++i) mean[i] *= confidence[i] * (T(1) - confidence[i]);
  g.put(first + 4, mean);
}

// v1: all boxes of a cell share its classes.
template <class Element>
void shared_scores_backward(const BlockGradients<Element>& g) {
  using T = typename Compute<Element>::type;
  const YoloMaps& m = g.p.maps;
  const int64_t first_class = yolo_first_class(m, 0);
  T of_confidence[kYoloMostBoxesPerCell][kLane] = {}, confidence[kLane], output[kLane], grad[kLane];
  for (int64_t c = 0; c < m.classes; ++c) {
    T of_class[kLane] = {};
    g.read(first_class + c, output);
    for (int64_t anchor = 0; anchor < m.boxes_per_cell; ++anchor) {
      g.read(yolo_first_channel(m, anchor) + 4, confidence);
      g.of_score(anchor, c, grad);
      for (int i = 0; i < kLane; ++i) {
        of_class[i] += grad[i] * confidence[i];
        of_confidence[anchor][i] += grad[i] * output[i];
      }
    }
    g.put(first_class + c, of_class);
  }
  for (int64_t anchor = 0; anchor < m.boxes_per_cell; ++anchor)
    g.put(yolo_first_channel(m, anchor) + 4, of_confidence[anchor]);
}

template <YoloVersion kVersion, class Element>
void backward_block(const YoloDecodeBackwardParams& p, const CellBlock& b) {
  using T = typename Compute<Element>::type;
  const BlockGradients<Element> g(p, b);
  const int64_t end = kVersion == YoloVersion::v1 ? p.maps.boxes_per_cell : b.anchor + 1;
  for (int64_t anchor = b.anchor; anchor < end; ++anchor) {
    LaneGeometry<T> geometry;
    b.set_geometry(p.maps, anchor, geometry);
    if constexpr (kVersion == YoloVersion::v8) {
      distances_backward(g, geometry);
    } else {
      box_backward<kVersion>(g, anchor, geometry);
    }
    if constexpr (kVersion == YoloVersion::v2) {
      softmax_scores_backward(g, anchor);
    } else if constexpr (kVersion != YoloVersion::v1) {
      sigmoid_scores_backward<kVersion>(g, anchor);
    }
  }
  if (kVersion == YoloVersion::v1) shared_scores_backward(g);
}

template <class Element>
void backward_blocks(const YoloDecodeBackwardParams& p, int64_t begin, int64_t end) {
  with_version(p.maps.version, [&](auto version) {
    for (int64_t i = begin; i < end; ++i)
      backward_block<decltype(version)::value, Element>(p, CellBlock::of(p.maps, i));
  });
}

}  // namespace

void yolo_decode_backward_cpu(const YoloDecodeBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.maps.dtype, backward_blocks, p, begin, end);
}

}  // namespace gcv::GCV_ISA

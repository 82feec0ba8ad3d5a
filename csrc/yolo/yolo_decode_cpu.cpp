// Boxes and scores of all cells, a block of neighbours at a time.
#include "yolo/yolo_lanes.h"

namespace gcv::GCV_ISA {
namespace {

template <class Element>
struct BlockOutput {
  using T = typename Compute<Element>::type;
  Element* boxes;   // of the block's first box
  Element* scores;  // of its class 0
  int64_t class_stride, count;

  BlockOutput(const YoloDecodeParams& p, const CellBlock& b, int64_t anchor)
      : class_stride(p.maps.boxes), count(b.count) {
    const int64_t box = b.box(anchor);
    boxes = static_cast<Element*>(p.boxes) + (b.image * p.maps.boxes + box) * 4;
    scores = static_cast<Element*>(p.scores) + b.image * p.maps.classes * p.maps.boxes + box;
  }

  void put_boxes(const LaneBoxes<T>& from) const {
    for (int64_t i = 0; i < count; ++i) {
      for (int side = 0; side < 4; ++side) narrow(from.side[side][i], boxes[4 * i + side]);
    }
  }

  void put_scores(int64_t class_id, const T* from) const {
    narrow_all(from, count, scores + class_id * class_stride);
  }
};

// The largest output of the classes, and the sum of the exponentials of their distances to it.
template <class T, class Element>
void read_softmax(const YoloMaps& m, const CellReader<Element>& cells, const CellBlock& b,
                  int64_t first_class, T (&most)[kLane], T (&total)[kLane]) {
  T buffer[kLane];
  for (int64_t c = 0; c < m.classes; ++c) {
    const T* output = cells.read(first_class + c, b.cell, b.count, buffer);
    for (int i = 0; i < kLane; ++i) most[i] = c == 0 ? output[i] : larger(most[i], output[i]);
  }
  for (int i = 0; i < kLane; ++i) total[i] = T(0);
  for (int64_t c = 0; c < m.classes; ++c) {
    const T* output = cells.read(first_class + c, b.cell, b.count, buffer);
    for (int i = 0; i < kLane; ++i)
      total[i] = exact::add(total[i], exponential(exact::sub(output[i], most[i])));
  }
}

template <YoloVersion kVersion, class Element>
void decode_scores(const YoloMaps& m, const CellReader<Element>& cells, const CellBlock& b, int64_t anchor,
                   const BlockOutput<Element>& out) {
  using T = typename Compute<Element>::type;
  const int64_t first_class = yolo_first_class(m, anchor);
  T confidence[kLane] = {}, most[kLane] = {}, total[kLane] = {}, buffer[kLane], scores[kLane];
  if (yolo_has_confidence(kVersion)) {
    const T* output = cells.read(yolo_first_channel(m, anchor) + 4, b.cell, b.count, buffer);
    for (int i = 0; i < kLane; ++i) confidence[i] = yolo_confidence(kVersion, output[i]);
  }
  if (kVersion == YoloVersion::v2) read_softmax(m, cells, b, first_class, most, total);
  for (int64_t c = 0; c < m.classes; ++c) {
    const T* output = cells.read(first_class + c, b.cell, b.count, buffer);
    for (int i = 0; i < kLane; ++i) {
      scores[i] = kVersion == YoloVersion::v2
                      ? yolo_softmax_score(confidence[i], output[i], most[i], total[i])
                      : yolo_score(kVersion, confidence[i], output[i]);
    }
    out.put_scores(c, scores);
  }
}

template <YoloVersion kVersion, class Element>
void decode_block(const YoloDecodeParams& p, const CellBlock& b) {
  using T = typename Compute<Element>::type;
  const YoloMaps& m = p.maps;
  const CellReader<Element> cells(*b.level, b.image);
  const int64_t end = kVersion == YoloVersion::v1 ? m.boxes_per_cell : b.anchor + 1;
  for (int64_t anchor = b.anchor; anchor < end; ++anchor) {
    const BlockOutput<Element> out(p, b, anchor);
    LaneGeometry<T> geometry;
    b.set_geometry(m, anchor, geometry);
    LaneBoxes<T> boxes;
    const BlockSource<Element> source{cells, yolo_first_channel(m, anchor), b.cell, b.count};
    decode_lanes<kVersion>(m, source, geometry, boxes);
    out.put_boxes(boxes);
    decode_scores<kVersion>(m, cells, b, anchor, out);
  }
}

template <class Element>
void decode_blocks(const YoloDecodeParams& p, int64_t begin, int64_t end) {
  with_version(p.maps.version, [&](auto version) {
    for (int64_t i = begin; i < end; ++i)
      decode_block<decltype(version)::value, Element>(p, CellBlock::of(p.maps, i));
  });
}

}  // namespace

void yolo_decode_cpu(const YoloDecodeParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.maps.dtype, decode_blocks, p, begin, end);
}

}  // namespace gcv::GCV_ISA

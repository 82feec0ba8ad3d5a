// Proposals of a region proposal network: what a caller hands to the kernels, and the maths of one candidate.
// Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/box_decode.h"
#include "common/dtype.h"
#include "common/exp.h"
#include "common/isa.h"

namespace gcv {

inline constexpr int kRpnMostLevels = 16;
// Deltas grow a side at most by this factor's logarithm, ln(1000 / 16), as torchvision bounds it.
inline constexpr double kRpnMostGrowth = 4.135166556742356;

// One level of the feature pyramid. Its candidates are numbered cell by cell, row by row: those of a cell are
// its anchors.
struct RpnLevel {
  const void* objectness;         // [batch, anchors, height, width]
  const void* deltas;             // [batch, 4 * anchors, height, width]: channel 4 * anchor + coordinate
  int64_t objectness_strides[4];  // in elements: image, anchor, row, column
  int64_t deltas_strides[4];      // in elements: image, channel, row, column
  int64_t anchors, height, width;
  int64_t first_anchor;        // of this level in RpnParams::anchors
  int64_t stride_h, stride_w;  // for RpnParams::grid: pixels from cell to cell
  int64_t selected;            // min(pre_nms_top_n, rpn_size): how many candidates go on
  int64_t first_selected;      // how many those of the levels before are
};

struct RpnParams {
  RpnLevel levels[kRpnMostLevels];
  int64_t level_count;  // at least 1
  int64_t batch;
  const void* anchors;          // [batch, n, 4] corners: n is the sum of all sizes, or of all cells' anchors
  int64_t anchor_image_stride;  // in elements; 0 where all images share them
  int64_t anchor_stride;
  int64_t anchor_coord_stride;
  bool grid;                   // anchors hold those of one cell for each level; the others are these, shifted
  const int64_t* image_sizes;  // [batch, 2], dense, in host memory: height and width
  DType dtype;                 // of all tensors but the counts
  int64_t post_nms_top_n;
  double nms_threshold, score_threshold, min_size;
  void* boxes;      // out [batch, post_nms_top_n, 4], dense
  void* scores;     // out [batch, post_nms_top_n], dense
  int64_t* counts;  // out [batch]
};

// Candidates of a level, at most 2^31 - 1.
GCV_HD int64_t rpn_size(const RpnLevel& level) { return level.anchors * level.height * level.width; }

// Candidates of an image that go on, all levels together.
GCV_HD int64_t rpn_selected(const RpnParams& p) {
  const RpnLevel& last = p.levels[p.level_count - 1];
  return last.first_selected + last.selected;
}

// Where a level's candidate lies.
struct RpnPlace {
  int64_t row, column, anchor;
};

GCV_HD RpnPlace rpn_place(const RpnLevel& level, int64_t index) {
  const auto i = uint32_t(index), anchors = uint32_t(level.anchors), width = uint32_t(level.width);
  const uint32_t cell = i / anchors, row = cell / width;
  return {row, cell - row * width, i - cell * anchors};
}

template <class Element>
GCV_HD typename Compute<Element>::type rpn_logit(const RpnLevel& level, int64_t image, const RpnPlace& at) {
  const int64_t* s = level.objectness_strides;
  const int64_t offset = image * s[0] + at.anchor * s[1] + at.row * s[2] + at.column * s[3];
  return widen(static_cast<const Element*>(level.objectness)[offset]);
}

template <class Element>
GCV_HD Deltas<typename Compute<Element>::type> rpn_deltas(const RpnLevel& level, int64_t image,
                                                          const RpnPlace& at) {
  const int64_t* s = level.deltas_strides;
  const int64_t offset = image * s[0] + 4 * at.anchor * s[1] + at.row * s[2] + at.column * s[3];
  const Element* d = static_cast<const Element*>(level.deltas) + offset;
  return {widen(d[0]), widen(d[s[1]]), widen(d[2 * s[1]]), widen(d[3 * s[1]])};
}

template <class Element>
GCV_HD Box<typename Compute<Element>::type> rpn_anchor(const RpnParams& p, const RpnLevel& level,
                                                       int64_t image, int64_t index, const RpnPlace& at) {
  using T = typename Compute<Element>::type;
  const int64_t row = level.first_anchor + (p.grid ? at.anchor : index), s = p.anchor_coord_stride;
  const Element* e =
      static_cast<const Element*>(p.anchors) + image * p.anchor_image_stride + row * p.anchor_stride;
  const Box<T> anchor{widen(e[0]), widen(e[s]), widen(e[2 * s]), widen(e[3 * s])};
  if (!p.grid) return anchor;
  const T x = T(at.column * level.stride_w), y = T(at.row * level.stride_h);
  return {exact::add(anchor.x1, x), exact::add(anchor.y1, y), exact::add(anchor.x2, x),
          exact::add(anchor.y2, y)};
}

// To [0, most]; NaN stays.
template <class T>
GCV_HD T rpn_clip(T coordinate, T most) {
  const T floored = coordinate < T(0) ? T(0) : coordinate;
  return floored > most ? most : floored;
}

// The box that deltas make of an anchor, clipped to an image.
template <class T>
GCV_HD Box<T> rpn_box(const Box<T>& anchor, const Deltas<T>& deltas, T height, T width) {
  const Box<T> b = decode_box(anchor, deltas, T(kRpnMostGrowth));
  return {rpn_clip(b.x1, width), rpn_clip(b.y1, height), rpn_clip(b.x2, width), rpn_clip(b.y2, height)};
}

template <class T>
struct RpnCandidate {
  Box<T> box;
  T score;
};

// Candidate `index` of a level, in an image of height x width.
template <class Element>
GCV_HD RpnCandidate<typename Compute<Element>::type> rpn_candidate(const RpnParams& p, const RpnLevel& level,
                                                                   int64_t image, int64_t index,
                                                                   int64_t height, int64_t width) {
  using T = typename Compute<Element>::type;
  const RpnPlace at = rpn_place(level, index);
  const Box<T> anchor = rpn_anchor<Element>(p, level, image, index, at);
  return {rpn_box(anchor, rpn_deltas<Element>(level, image, at), T(height), T(width)),
          sigmoid(rpn_logit<Element>(level, image, at))};
}

// Large enough and of a high enough score; neither with a NaN.
template <class T>
GCV_HD bool rpn_keeps(const RpnCandidate<T>& c, T min_size, T score_threshold) {
  return exact::sub(c.box.x2, c.box.x1) >= min_size && exact::sub(c.box.y2, c.box.y1) >= min_size &&
         c.score >= score_threshold;
}

// For images [begin, end). Every concurrent call needs a workspace of its own, of rpn_workspace_bytes(p)
// bytes, aligned to 64.
GCV_PER_ISA(size_t, rpn_workspace_bytes, (const RpnParams& p), (p))
GCV_PER_ISA(void, rpn_proposals_cpu, (const RpnParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

}  // namespace gcv

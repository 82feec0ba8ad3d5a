// Encoding and decoding of boxes, clipping, and the removal of small ones: what a caller hands to the
// kernels. Free of torch. Results are dense; rows [begin, end) are computed.
#pragma once

#include <cstdint>

#include "boxes/box_rows.h"
#include "common/isa.h"

namespace gcv {

// Of the four deltas: x, y, width, height.
struct CoderWeights {
  double x, y, w, h;
};

struct BoxEncodeParams {
  BoxRows reference_boxes;  // [n, 4]: what the deltas lead to
  BoxRows proposals;        // [n, 4]: what they start from
  void* deltas;             // out [n, 4]
  int64_t n;
  DType dtype;
  CoderWeights weights;
};

struct BoxEncodeBackwardParams {
  BoxRows grad;  // [n, 4], of the deltas
  BoxRows reference_boxes, proposals;
  void* grad_reference_boxes;  // out [n, 4]
  void* grad_proposals;        // out [n, 4]
  int64_t n;
  DType dtype;
  CoderWeights weights;
};

// Deltas are rows [n * classes, 4]: those of one anchor's classes lie next to each other.
struct BoxDecodeParams {
  BoxRows deltas;   // [n * classes, 4]
  BoxRows anchors;  // [n, 4]
  void* boxes;      // out [n * classes, 4]
  int64_t n, classes;
  DType dtype;
  CoderWeights weights;
  double clip;  // of the logarithms of width and height
};

struct BoxDecodeBackwardParams {
  BoxRows grad;  // [n * classes, 4], of the boxes
  BoxRows deltas, anchors;
  void* grad_deltas;   // out [n * classes, 4]
  void* grad_anchors;  // out [n, 4]
  int64_t n, classes;
  DType dtype;
  CoderWeights weights;
  double clip;
};

struct ClipBoxesParams {
  BoxRows boxes;  // [n, 4]
  void* clipped;  // out [n, 4]
  int64_t n;
  DType dtype;
  double height, width;
};

struct ClipBoxesBackwardParams {
  BoxRows grad, boxes;  // [n, 4]
  void* grad_boxes;     // out [n, 4]
  int64_t n;
  DType dtype;
  double height, width;
};

GCV_PER_ISA(void, box_encode_cpu, (const BoxEncodeParams& p, int64_t begin, int64_t end), (p, begin, end))
GCV_PER_ISA(void, box_encode_backward_cpu, (const BoxEncodeBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

// Of the n * classes rows.
GCV_PER_ISA(void, box_decode_cpu, (const BoxDecodeParams& p, int64_t begin, int64_t end), (p, begin, end))

// Of the n anchors.
GCV_PER_ISA(void, box_decode_backward_cpu, (const BoxDecodeBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

GCV_PER_ISA(void, clip_boxes_cpu, (const ClipBoxesParams& p, int64_t begin, int64_t end), (p, begin, end))
GCV_PER_ISA(void, clip_boxes_backward_cpu, (const ClipBoxesBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

struct SmallBoxesParams {
  BoxRows boxes;  // [n, 4]
  int64_t n;
  DType dtype;
  double min_size;

  int64_t words() const { return (n + 63) / 64; }  // of flags
};

// Two phases over words of 64 boxes each. Sets bit i of flags[w] where box 64 * w + i is large enough;
// returns how many are, in words [begin, end).
GCV_PER_ISA(int64_t, flag_large_boxes_cpu,
            (const SmallBoxesParams& p, uint64_t* flags, int64_t begin, int64_t end), (p, flags, begin, end))

// Writes the indices of the set bits of words [begin, end), ascending.
GCV_PER_ISA(void, list_large_boxes_cpu,
            (const SmallBoxesParams& p, const uint64_t* flags, int64_t begin, int64_t end, int64_t* indices),
            (p, flags, begin, end, indices))

}  // namespace gcv

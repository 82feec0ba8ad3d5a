// Conversion between box formats: what a caller hands to the kernels. Free of torch.
#pragma once

#include <cstdint>

#include "boxes/box_rows.h"
#include "common/isa.h"

namespace gcv {

// Corners, or a corner or the centre with width and height; with the angle r in degrees, counter-clockwise;
// or all four corners.
enum class BoxFormat : int32_t { xyxy, xywh, cxcywh, xywhr, cxcywhr, xyxyxyxy };

GCV_HD int format_width(BoxFormat format) {
  switch (format) {
    case BoxFormat::xyxyxyxy:
      return 8;
    case BoxFormat::xywhr:
    case BoxFormat::cxcywhr:
      return 5;
    default:
      return 4;
  }
}

GCV_HD bool is_rotated(BoxFormat format) { return format_width(format) != 4; }

struct BoxConvertParams {
  BoxRows boxes;    // [n, format_width(from)]
  void* converted;  // out [n, format_width(to)]
  int64_t n;
  DType dtype;
  BoxFormat from, to;  // different, and both rotated or neither
};

struct BoxConvertBackwardParams {
  BoxRows grad;      // [n, format_width(to)]
  BoxRows boxes;     // [n, format_width(from)]
  void* grad_boxes;  // out [n, format_width(from)]
  int64_t n;
  DType dtype;
  BoxFormat from, to;
};

// Of rows [begin, end).
GCV_PER_ISA(void, box_convert_cpu, (const BoxConvertParams& p, int64_t begin, int64_t end), (p, begin, end))
GCV_PER_ISA(void, box_convert_backward_cpu, (const BoxConvertBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

}  // namespace gcv

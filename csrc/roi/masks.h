// Masks of objects, each on a grid of its own, pasted into images: the box of a mask is grown by a border of
// `padding` zero cells, rounded to whole pixels, and each of its pixels interpolates between four cells. Free
// of torch.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

// `count` x `channels` grids of height x width cells, with their strides in elements. Grid g is channel
// g % channels of mask g / channels, whose box it has.
struct MaskGrids {
  const void* cells;
  int64_t count, channels, height, width;
  int64_t stride, channel_stride, row_stride, column_stride;
  DType dtype;
};

GCV_HD int64_t grids_in(const MaskGrids& g) { return g.count * g.channels; }

GCV_HD int64_t grid_offset(const MaskGrids& g, int64_t grid) {
  return grid / g.channels * g.stride + grid % g.channels * g.channel_stride;
}

// `count` rows x1, y1, x2, y2 of neighbouring numbers, `stride` elements from row to row.
struct MaskBoxes {
  const void* rows;
  int64_t stride;
  DType dtype;
};

struct PasteMasksParams {
  MaskGrids masks;
  MaskBoxes boxes;
  int64_t padding;
  void* images;  // dense [count * channels, height, width] of the masks' dtype
  int64_t height, width;
};

struct PasteMasksBackwardParams {
  MaskGrids grad;  // of the images
  MaskBoxes boxes;
  int64_t padding;
  void* grad_masks;  // dense [count * channels, height, width] of the gradient's dtype
  void* sums;        // the same in the type that is computed in; may be grad_masks itself
  int64_t height, width;
};

// One direction of a pasted box: pixels first .. first + extent - 1 share `cells` cells, those of the border
// included. Of the pixels, `begin` .. `end` - 1 lie in the image: none where `end` is not greater.
template <class T>
struct MaskSpan {
  int64_t first, begin, end;
  int64_t cells, padding;
  T ratio;
};

template <class T>
struct MaskBox {
  bool sound;  // a box that is not gives NaN
  MaskSpan<T> x, y;
};

// Between which cells of the padded grid a pixel lies, and how far from the first.
template <class T>
struct MaskPlace {
  int64_t below, above;
  T weight;
};

namespace detail {

template <class T>
GCV_HD int64_t whole_pixel(T x) {
  // No image is that large, and all sums of such numbers fit.
  const T most = T(int64_t(1) << 40);
  return int64_t(x < -most ? -most : x > most ? most : x);
}

template <class T>
GCV_HD MaskSpan<T> mask_span(int64_t first, int64_t last, int64_t cells, int64_t padding, int64_t size) {
  MaskSpan<T> s;
  const int64_t extent = last - first + 1 > 1 ? last - first + 1 : 1;
  s.first = first;
  s.begin = first > 0 ? first : 0;
  s.end = last + 1 < size ? last + 1 : size;
  s.cells = cells + 2 * padding;
  s.padding = padding;
  s.ratio = T(s.cells) / T(extent);
  return s;
}

// T is computed in, B is the type of the box's arithmetic.
template <class T, class B, class Element>
GCV_HD MaskBox<T> mask_box(const Element* row, int64_t rows, int64_t columns, int64_t padding, int64_t height,
                           int64_t width) {
  const B x1 = B(widen(row[0])), y1 = B(widen(row[1])), x2 = B(widen(row[2])), y2 = B(widen(row[3]));
  // As torchvision: both directions grow by the ratio of the widths.
  const B scale = B(double(columns + 2 * padding) / double(columns));
  const B half_width = (x2 - x1) * B(0.5) * scale, half_height = (y2 - y1) * B(0.5) * scale;
  const B x = (x2 + x1) * B(0.5), y = (y2 + y1) * B(0.5);
  MaskBox<T> box;
  const B left = x - half_width, top = y - half_height, right = x + half_width, bottom = y + half_height;
  // NaN and infinities alike are not their own difference's zero.
  box.sound = left - left == 0 && top - top == 0 && right - right == 0 && bottom - bottom == 0;
  if (!box.sound) {
    box.x = box.y = MaskSpan<T>{0, 0, 0, 1, 0, T(1)};
    return box;
  }
  box.x = mask_span<T>(whole_pixel(left), whole_pixel(right), columns, padding, width);
  box.y = mask_span<T>(whole_pixel(top), whole_pixel(bottom), rows, padding, height);
  return box;
}

}  // namespace detail

// Box k of grids with `rows` x `columns` cells in an image of height x width pixels.
template <class T>
GCV_HD MaskBox<T> mask_box(const MaskBoxes& boxes, int64_t k, int64_t rows, int64_t columns, int64_t padding,
                           int64_t height, int64_t width) {
  const int64_t at = k * boxes.stride;
  switch (boxes.dtype) {
    case DType::f64:
      return detail::mask_box<T, double>(static_cast<const double*>(boxes.rows) + at, rows, columns, padding,
                                         height, width);
    case DType::f16:
      return detail::mask_box<T, float>(static_cast<const Half*>(boxes.rows) + at, rows, columns, padding,
                                        height, width);
    case DType::bf16:
      return detail::mask_box<T, float>(static_cast<const BFloat16*>(boxes.rows) + at, rows, columns, padding,
                                        height, width);
    default:
      return detail::mask_box<T, float>(static_cast<const float*>(boxes.rows) + at, rows, columns, padding,
                                        height, width);
  }
}

// Cells are counted without the border, so the border's are negative, or at least as many as the grid has.
template <class T>
GCV_HD MaskPlace<T> mask_place(const MaskSpan<T>& s, int64_t pixel) {
  const T position = (T(pixel - s.first) + T(0.5)) * s.ratio - T(0.5);
  const T clamped = position > 0 ? position : T(0);
  MaskPlace<T> place;
  const int64_t below = int64_t(clamped);
  place.below = below < s.cells - 1 ? below : s.cells - 1;
  place.weight = clamped - T(place.below);
  place.above = (place.below < s.cells - 1 ? place.below + 1 : place.below) - s.padding;
  place.below -= s.padding;
  return place;
}

// How much of a pixel's value comes from a cell.
template <class T>
GCV_HD T mask_weight(const MaskPlace<T>& place, int64_t cell) {
  return (place.below == cell ? 1 - place.weight : T(0)) + (place.above == cell ? place.weight : T(0));
}

// Images are cut into strips of rows, so that one large image keeps several threads busy.
constexpr int64_t kMaskStrip = 64;

GCV_HD int64_t mask_strips(int64_t height) { return (height + kMaskStrip - 1) / kMaskStrip; }

// For strips [begin, end) of all images.
GCV_PER_ISA(void, paste_masks_cpu, (const PasteMasksParams& p, int64_t begin, int64_t end), (p, begin, end))
// For grids [begin, end).
GCV_PER_ISA(void, paste_masks_backward_cpu, (const PasteMasksBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

}  // namespace gcv

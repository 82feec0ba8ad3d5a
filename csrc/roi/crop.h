// crop_and_resize: boxes cut out of images, each resized to one size, as TensorFlow does it. Free of torch.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

// Boxes (y1, x1, y2, x2), normalised, and the image of each.
struct CropBoxes {
  const void* boxes;
  DType dtype;
  int64_t box_stride, coord_stride;  // in elements, as all strides
  const void* indices;
  bool wide_indices;  // int64, else int32
  int64_t index_stride;
  int64_t count;
};

// Maps [N, C, H, W] of any strides.
struct CropMaps {
  const void* data;
  int64_t number, channels, height, width;
  int64_t strides[4];
};

struct CropParams {
  CropBoxes boxes;
  CropMaps images;
  bool bytes;             // images are uint8; else of the dtype of the crops
  bool channels_last;     // images have the strides (any, 1, any, C), and crops lie as [K, height, width, C]
  void* crops;            // dense
  int64_t height, width;  // of a crop
  DType dtype;            // of the crops
  bool nearest;
  double extrapolation_value;
  const double* mean;  // one per channel, or null
  const double* std;
};

struct CropBackwardParams {
  CropBoxes boxes;
  CropMaps crops;      // of the incoming gradient, dense: [K, height, width, C] in memory where channels_last
  bool channels_last;  // grad_images lies alike
  void* grad_images;   // dense
  void* sums;          // as many numbers as grad_images, in the type that is computed in; may be grad_images
  int64_t number, height, width;  // of the images
  DType dtype;                    // of grad and grad_images
  bool nearest;
  const double* std;
};

struct CropBoxesBackwardParams {
  CropBoxes boxes;
  CropMaps grad;  // of the crops
  CropMaps images;
  bool bytes;
  void* grad_boxes;  // [K, 4], dense, of the boxes' dtype
  DType dtype;       // of grad
  const double* std;
};

struct Byte {
  uint8_t value;
};

GCV_HD float widen(Byte x) { return float(x.value); }

template <class T>
struct CropBox {
  int64_t image;
  T y1, x1, y2, x2;
  // A box that is not finite, or of no image, gives NaN.
  bool sound;
};

namespace detail {

template <class T, class Element>
GCV_HD void read_coords(const Element* from, int64_t stride, T (&to)[4]) {
  for (int i = 0; i < 4; ++i) to[i] = T(widen(from[i * stride]));
}

}  // namespace detail

template <class T>
GCV_HD CropBox<T> read_crop_box(const CropBoxes& b, int64_t k, int64_t images) {
  const int64_t at = k * b.box_stride, i = k * b.index_stride;
  T c[4];
  switch (b.dtype) {
    case DType::f64:
      detail::read_coords(static_cast<const double*>(b.boxes) + at, b.coord_stride, c);
      break;
    case DType::f16:
      detail::read_coords(static_cast<const Half*>(b.boxes) + at, b.coord_stride, c);
      break;
    case DType::bf16:
      detail::read_coords(static_cast<const BFloat16*>(b.boxes) + at, b.coord_stride, c);
      break;
    default:
      detail::read_coords(static_cast<const float*>(b.boxes) + at, b.coord_stride, c);
  }
  const int64_t image = b.wide_indices ? static_cast<const int64_t*>(b.indices)[i]
                                       : int64_t(static_cast<const int32_t*>(b.indices)[i]);
  // NaN and infinities alike are not their own difference's zero.
  const bool finite = c[0] - c[0] == 0 && c[1] - c[1] == 0 && c[2] - c[2] == 0 && c[3] - c[3] == 0;
  return {image, c[0], c[1], c[2], c[3], finite && image >= 0 && image < images};
}

// The positions of `count` samples along an axis of `length` pixels.
template <class T>
struct CropAxis {
  T start, step, end;
  T last;  // pixel
  int64_t count, length;
};

template <class T>
GCV_HD CropAxis<T> crop_axis(T first, T last, int64_t count, int64_t length) {
  CropAxis<T> a;
  a.last = T(length - 1);
  a.count = count;
  a.length = length;
  a.start = count > 1 ? first * a.last : T(0.5) * (first + last) * a.last;
  a.step = count > 1 ? (last - first) * a.last / T(count - 1) : T(0);
  a.end = last * a.last;
  return a;
}

template <class T>
GCV_HD T crop_position(const CropAxis<T>& a, int64_t i) {
  if (i == 0) return a.start;
  // The box's end itself, lest rounding push it out of the image.
  return i == a.count - 1 ? a.end : a.start + T(i) * a.step;
}

// The pixels at or before a position and at or after it.
template <class T>
struct CropSample {
  int64_t low, high;
  T weight;  // of `high`
  bool inside;
};

template <class T>
GCV_HD CropSample<T> crop_sample(const CropAxis<T>& a, int64_t i, bool nearest) {
  const T position = crop_position(a, i);
  // NaN, from infinite products of huge coordinates, is outside.
  if (!(position >= 0 && position <= a.last)) return {0, 0, T(0), false};
  int64_t low = int64_t(position);
  T weight = position - T(low);
  if (nearest) {
    low += weight >= T(0.5);
    weight = 0;
  }
  int64_t high = low + (weight > 0);
  // float cannot tell the last pixels of huge images apart.
  low = low < a.length ? low : a.length - 1;
  high = high < a.length ? high : a.length - 1;
  return {low, high, high > low ? weight : T(0), true};
}

template <class T>
GCV_HD T crop_lerp(T low, T high, T weight) {
  return low + (high - low) * weight;
}

// How far the position of sample i moves with the coordinate at the beginning and at the end of the box.
template <class T>
GCV_HD void crop_position_slopes(const CropAxis<T>& a, int64_t i, T& of_first, T& of_last) {
  const T share = a.count > 1 ? T(i) / T(a.count - 1) : T(0.5);
  of_first = a.last * (T(1) - share);
  of_last = a.last * share;
}

// Planes of a crop that are computed one after another: channels, or all of them at once in channels_last.
GCV_HD int64_t crop_planes(const CropParams& p) { return p.channels_last ? 1 : p.images.channels; }

inline constexpr int64_t kCropRowsPerItem = 32;

// A work item is a plane of a box; where planes hold all channels, and are few, some rows of it.
GCV_HD int64_t crop_chunks(const CropParams& p) {
  return p.channels_last ? (p.height + kCropRowsPerItem - 1) / kCropRowsPerItem : 1;
}

GCV_HD int64_t crop_items(const CropParams& p) { return p.boxes.count * crop_planes(p) * crop_chunks(p); }

// Crops [begin, end) of the items; the boxes are of images of the batch.
GCV_PER_ISA(size_t, crop_workspace_bytes, (const CropParams& p), (p))
GCV_PER_ISA(void, crop_and_resize_cpu, (const CropParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

// The gradient of rows [begin, end) of all rows of all images.
GCV_PER_ISA(size_t, crop_backward_workspace_bytes, (const CropBackwardParams& p), (p))
GCV_PER_ISA(void, crop_and_resize_backward_cpu,
            (const CropBackwardParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

// The gradient of boxes [begin, end).
GCV_PER_ISA(void, crop_and_resize_boxes_backward_cpu,
            (const CropBoxesBackwardParams& p, int64_t begin, int64_t end), (p, begin, end))

}  // namespace gcv

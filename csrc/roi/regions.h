// Regions of interest: rows (index of the image, x1, y1, x2, y2). Free of torch.
#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace gcv {

// `count` rows of five neighbouring numbers, `stride` elements from row to row.
struct Regions {
  const void* rows;
  int64_t count;
  int64_t stride;
  DType dtype;
};

template <class T>
struct Region {
  int64_t image;  // negative where the index is none of a batch of this size
  T x1, y1, x2, y2;

  // A region that is not sound gives NaN.
  bool sound;
};

namespace detail {

template <class T, class Element>
GCV_HD Region<T> read_region(const Element* row, int64_t images) {
  // As torchvision: a fraction of the index is cut off. NaN fails both comparisons.
  const T index = T(widen(row[0]));
  Region<T> r;
  r.image = index > T(-1) && index < T(images) ? int64_t(index) : int64_t(-1);
  r.x1 = T(widen(row[1]));
  r.y1 = T(widen(row[2]));
  r.x2 = T(widen(row[3]));
  r.y2 = T(widen(row[4]));
  // NaN and infinities alike are not their own difference's zero.
  const bool finite = r.x1 - r.x1 == 0 && r.y1 - r.y1 == 0 && r.x2 - r.x2 == 0 && r.y2 - r.y2 == 0;
  r.sound = finite && r.image >= 0;
  return r;
}

}  // namespace detail

// Row k, in the type that is computed in, of regions of a batch of `images`.
template <class T>
GCV_HD Region<T> read_region(const Regions& regions, int64_t k, int64_t images) {
  const int64_t at = k * regions.stride;
  switch (regions.dtype) {
    case DType::f64:
      return detail::read_region<T>(static_cast<const double*>(regions.rows) + at, images);
    case DType::f16:
      return detail::read_region<T>(static_cast<const Half*>(regions.rows) + at, images);
    case DType::bf16:
      return detail::read_region<T>(static_cast<const BFloat16*>(regions.rows) + at, images);
    default:
      return detail::read_region<T>(static_cast<const float*>(regions.rows) + at, images);
  }
}

}  // namespace gcv

// Pasting is separable. Forward resamples the two rows of cells around a row of pixels once per pair of cells
// and blends them for each row of pixels; backward adds rows of pixels up in the same two rows and gives
// those to the cells.
#include <cmath>
#include <cstring>
#include <limits>

#include "common/simd.h"
#include "roi/masks.h"

namespace gcv::GCV_ISA {
namespace {

// Columns are taken in tiles whose tables fit the first-level cache.
constexpr int kTile = 512;

template <class T>
struct ColumnTile {
  int64_t begin;
  int count;
  int64_t below[kTile], above[kTile];  // negative: a cell of the border
  T weight[kTile];
};

template <class T>
void fill(ColumnTile<T>& tile, const MaskSpan<T>& x, int64_t begin, int64_t columns) {
  tile.begin = begin;
  tile.count = int(x.end - begin < kTile ? x.end - begin : kTile);
  for (int c = 0; c < tile.count; ++c) {
    const MaskPlace<T> place = mask_place(x, begin + c);
    tile.below[c] = place.below < columns ? place.below : -1;
    tile.above[c] = place.above < columns ? place.above : -1;
    tile.weight[c] = place.weight;
  }
}

template <class T, class Element>
void resample_row(const MaskGrids& masks, int64_t k, int64_t row, const ColumnTile<T>& tile, T* out) {
  if (row < 0 || row >= masks.height) {
    for (int c = 0; c < tile.count; ++c) out[c] = 0;
    return;
  }
  const auto* cells =
      static_cast<const Element*>(masks.cells) + grid_offset(masks, k) + row * masks.row_stride;
  for (int c = 0; c < tile.count; ++c) {
    const T left = tile.below[c] < 0 ? T(0) : T(widen(cells[tile.below[c] * masks.column_stride]));
    const T right = tile.above[c] < 0 ? T(0) : T(widen(cells[tile.above[c] * masks.column_stride]));
    out[c] = left * (1 - tile.weight[c]) + right * tile.weight[c];
  }
}

template <class T, class Element>
void blend(const T* top, const T* bottom, T weight, int count, Element* out) {
  const T rest = 1 - weight;
  int c = 0;
  if constexpr (sizeof(Element) >= 4) {
    const Simd<T> w = splat(weight), r = splat(rest);
    for (; c + kLanes<T> <= count; c += kLanes<T>) {
      store(out + c, multiply_add<T>(load(top + c), r, load(bottom + c) * w));
    }
  }
  for (; c < count; ++c) narrow(top[c] * rest + bottom[c] * weight, out[c]);
}

template <class T>
struct RowPair {
  T rows[2][kTile];
  T* top = rows[0];
  T* bottom = rows[1];
  void swap() {
    T* const kept = top;
    top = bottom;
    bottom = kept;
  }
};

// Rows [begin, end) of image k inside the columns of a tile.
template <class T, class Element>
void paste_tile(const PasteMasksParams& p, int64_t k, const MaskSpan<T>& y, const ColumnTile<T>& tile,
                int64_t begin, int64_t end) {
  RowPair<T> pair;
  int64_t below = std::numeric_limits<int64_t>::min(), above = below;
  for (int64_t row = begin; row < end; ++row) {
    const MaskPlace<T> place = mask_place(y, row);
    if (place.below != below) {
      if (place.below == above) {
        pair.swap();
      } else {
        resample_row<T, Element>(p.masks, k, place.below, tile, pair.top);
      }
      resample_row<T, Element>(p.masks, k, place.above, tile, pair.bottom);
      below = place.below;
      above = place.above;
    }
    Element* out = static_cast<Element*>(p.images) + (k * p.height + row) * p.width + tile.begin;
    blend(pair.top, pair.bottom, place.weight, tile.count, out);
  }
}

template <class Element>
void fill_rows(const PasteMasksParams& p, int64_t k, int64_t begin, int64_t end, Element value) {
  Element* out = static_cast<Element*>(p.images) + (k * p.height + begin) * p.width;
  for (int64_t i = 0; i < (end - begin) * p.width; ++i) out[i] = value;
}

template <class Element>
void zero(Element* from, Element* to) {
  if (from < to) std::memset(static_cast<void*>(from), 0, size_t(to - from) * sizeof(Element));
}

// What lies outside the box, in runs as long as they are: from the end of one row's pixels to the next row's.
template <class T, class Element>
void zero_outside(const PasteMasksParams& p, int64_t k, const MaskBox<T>& box, int64_t begin, int64_t end) {
  Element* image = static_cast<Element*>(p.images) + k * p.height * p.width;
  Element* next = image + begin * p.width;
  const int64_t first = box.y.begin > begin ? box.y.begin : begin, last = box.y.end < end ? box.y.end : end;
  if (box.x.begin < box.x.end) {
    for (int64_t row = first; row < last; ++row) {
      zero(next, image + row * p.width + box.x.begin);
      next = image + row * p.width + box.x.end;
    }
  }
  zero(next, image + end * p.width);
}

template <class Element>
void forward(const PasteMasksParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const int64_t strips = mask_strips(p.height);
  for (int64_t strip = begin; strip < end; ++strip) {
    const int64_t k = strip / strips, top = strip % strips * kMaskStrip;
    const int64_t bottom = top + kMaskStrip < p.height ? top + kMaskStrip : p.height;
    const MaskBox<T> box = mask_box<T>(p.boxes, k / p.masks.channels, p.masks.height, p.masks.width,
                                       p.padding, p.height, p.width);
    if (!box.sound) {
      Element value;
      narrow(std::numeric_limits<T>::quiet_NaN(), value);
      fill_rows(p, k, top, bottom, value);
      continue;
    }
    zero_outside<T, Element>(p, k, box, top, bottom);
    const int64_t first = box.y.begin > top ? box.y.begin : top;
    const int64_t last = box.y.end < bottom ? box.y.end : bottom;
    if (first >= last) continue;
    ColumnTile<T> tile;
    for (int64_t column = box.x.begin; column < box.x.end; column += kTile) {
      fill(tile, box.x, column, p.masks.width);
      paste_tile<T, Element>(p, k, box.y, tile, first, last);
    }
  }
}

// Gives the sums of a row of cells, by columns of pixels, to the cells.
template <class T>
void add_row(const ColumnTile<T>& tile, const T* sums, T* cells) {
  for (int c = 0; c < tile.count; ++c) {
    if (tile.below[c] >= 0) cells[tile.below[c]] += sums[c] * (1 - tile.weight[c]);
    if (tile.above[c] >= 0) cells[tile.above[c]] += sums[c] * tile.weight[c];
  }
}

template <class T>
void flush(const PasteMasksBackwardParams& p, int64_t k, int64_t row, const ColumnTile<T>& tile, T* sums) {
  if (row >= 0 && row < p.height) {
    add_row(tile, sums, static_cast<T*>(p.sums) + (k * p.height + row) * p.width);
  }
  for (int c = 0; c < tile.count; ++c) sums[c] = 0;
}

template <class T, class Element>
void accumulate(const Element* grad, int64_t stride, T weight, int count, T* top, T* bottom) {
  const T rest = 1 - weight;
  if (stride == 1) {
    for (int c = 0; c < count; ++c) {
      const T g = T(widen(grad[c]));
      top[c] += g * rest;
      bottom[c] += g * weight;
    }
    return;
  }
  for (int c = 0; c < count; ++c) {
    const T g = T(widen(grad[c * stride]));
    top[c] += g * rest;
    bottom[c] += g * weight;
  }
}

template <class T, class Element>
void gather_tile(const PasteMasksBackwardParams& p, int64_t k, const MaskSpan<T>& y,
                 const ColumnTile<T>& tile) {
  RowPair<T> pair;
  for (int c = 0; c < tile.count; ++c) pair.top[c] = pair.bottom[c] = 0;
  MaskPlace<T> last = mask_place(y, y.begin);
  const auto* grad = static_cast<const Element*>(p.grad.cells) + grid_offset(p.grad, k);
  for (int64_t row = y.begin; row < y.end; ++row) {
    const MaskPlace<T> place = mask_place(y, row);
    if (place.below != last.below) {
      flush(p, k, last.below, tile, pair.top);
      if (place.below == last.above) {
        pair.swap();
      } else {
        flush(p, k, last.above, tile, pair.bottom);
      }
      last = place;
    }
    const Element* from = grad + row * p.grad.row_stride + tile.begin * p.grad.column_stride;
    accumulate(from, p.grad.column_stride, place.weight, tile.count, pair.top, pair.bottom);
  }
  flush(p, k, last.below, tile, pair.top);
  flush(p, k, last.above, tile, pair.bottom);
}

template <class Element>
void backward(const PasteMasksBackwardParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const int64_t cells = p.height * p.width;
  for (int64_t k = begin; k < end; ++k) {
    T* sums = static_cast<T*>(p.sums) + k * cells;
    for (int64_t i = 0; i < cells; ++i) sums[i] = 0;
    const MaskBox<T> box =
        mask_box<T>(p.boxes, k / p.grad.channels, p.height, p.width, p.padding, p.grad.height, p.grad.width);
    if (box.sound && box.y.begin < box.y.end) {
      ColumnTile<T> tile;
      for (int64_t column = box.x.begin; column < box.x.end; column += kTile) {
        fill(tile, box.x, column, p.width);
        gather_tile<T, Element>(p, k, box.y, tile);
      }
    }
    if constexpr (sizeof(Element) < 4) {
      auto* out = static_cast<Element*>(p.grad_masks) + k * cells;
      for (int64_t i = 0; i < cells; ++i) narrow(sums[i], out[i]);
    }
  }
}

}  // namespace

void paste_masks_cpu(const PasteMasksParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.masks.dtype, forward, p, begin, end);
}

void paste_masks_backward_cpu(const PasteMasksBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.grad.dtype, backward, p, begin, end);
}

}  // namespace gcv::GCV_ISA

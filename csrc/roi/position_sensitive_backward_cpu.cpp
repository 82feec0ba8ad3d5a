// One bin's channels lie side by side in the sums, [pixel][channel], so that a vector takes what a pixel gets
// from all of them, and no two lanes meet. An item owns its planes and takes the regions in their order:
// equal bits at any number of threads.
#include "roi/map_blocks.h"
#include "roi/position_sensitive_tables.h"

namespace gcv::GCV_ISA {
namespace {

// Some channels of the result at one bin of one image.
struct Item {
  int64_t image, bin, channel, count;
  int64_t width;  // of the sums: `count` and what fills the last vector
};

template <class T>
Item item_of(const PsGeometry& g, int64_t number) {
  const int64_t bins = g.bins_y * g.bins_x, blocks = ps_channel_blocks(g);
  Item item;
  item.bin = number % bins;
  item.channel = number / bins % blocks * kPsBlock;
  item.image = number / bins / blocks;
  const int64_t left = g.channels / bins - item.channel;
  item.count = left < kPsBlock ? left : kPsBlock;
  item.width = (item.count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  return item;
}

// Rows of a plane whose sums fit the second-level cache.
struct Band {
  int64_t first_pixel, end_pixel;
};

template <class Element, class T>
void read_grads(const PsBackwardParams& p, const Item& item, int64_t k, T* grads) {
  const int64_t* strides = p.grad_strides.d;
  const Element* grad = static_cast<const Element*>(p.grad) + k * strides[0] + item.channel * strides[1] +
                        item.bin / p.geometry.bins_x * strides[2] + item.bin % p.geometry.bins_x * strides[3];
  for (int64_t c = 0; c < item.count; ++c) grads[c] = widen(grad[c * strides[1]]);
}

// A bin of one region, whose lists stand at every kPsGroup-th place. False where none of it lies in the band.
template <class T, int kItemVectors>
GCV_HD bool scatter_vectors(T* sums, const Band& band, const T* grads, T count, int32_t rows, int32_t columns,
                            const T* row_weights, const T* column_weights, const int32_t* row_offsets,
                            const int32_t* column_offsets) {
  constexpr int64_t width = kItemVectors * kLanes<T>;
  bool touched = false;
  for (int32_t r = 0; r < rows; ++r) {
    const int64_t row = row_offsets[r * kPsGroup];
    if (row < 0) break;
    if (row < band.first_pixel || row >= band.end_pixel) continue;
    touched = true;
    Simd<T> row_grads[kItemVectors];
    for (int v = 0; v < kItemVectors; ++v) {
      row_grads[v] = load(grads + v * kLanes<T>) / splat(count) * splat(row_weights[r * kPsGroup]);
    }
    for (int32_t c = 0; c < columns; ++c) {
      const int32_t column = column_offsets[c * kPsGroup];
      if (column < 0) break;
      T* const sum = sums + (row - band.first_pixel + column) * width;
      const Simd<T> weight = splat(column_weights[c * kPsGroup]);
      for (int v = 0; v < kItemVectors; ++v) {
        T* const at = sum + v * kLanes<T>;
        store(at, multiply_add<T>(row_grads[v], weight, load(at)));
      }
    }
  }
  return touched;
}

// All regions of one image, in the order of the groups.
template <class Element, class T, int kItemVectors>
bool scatter_all(const PsBackwardParams& p, const PsTables& tables, const Item& item, const Band& band,
                 T* sums) {
  const PsGeometry& g = p.geometry;
  const PsImage& image = tables.images[item.image];
  const int64_t i = item.bin / g.bins_x, j = item.bin % g.bins_x;
  T grads[kPsBlock] = {};
  bool touched = false;
  for (int64_t number = image.first_group; number < image.end_group; ++number) {
    const PsGroup& group = tables.groups[number];
    const PsGroupTables<T> t = ps_group_tables<T>(g, tables, group);
    for (int64_t lane = 0; lane < kPsGroup; ++lane) {
      const T count = t.row_counts[i * kPsGroup + lane] * t.column_counts[j * kPsGroup + lane];
      if (!(count > 0)) continue;  // reads nothing, or is no region or a NaN
      read_grads<Element>(p, item, tables.order[number * kPsGroup + lane], grads);
      const int64_t row_list = i * group.rows * kPsGroup + lane,
                    column_list = j * group.columns * kPsGroup + lane;
      touched |= scatter_vectors<T, kItemVectors>(sums, band, grads, count, group.rows, group.columns,
                                                  t.row_weights + row_list, t.column_weights + column_list,
                                                  t.row_offsets + row_list, t.columns + column_list);
    }
  }
  return touched;
}

// Moves the sums of a band to the planes, and leaves zeros.
template <class Element, class T>
void move_sums(const Item& item, const Band& band, int64_t plane_stride, T* sums, Element* planes) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t pixels = band.end_pixel - band.first_pixel, whole = pixels / lanes * lanes;
  for (int64_t first = 0; first < whole; first += lanes) {
    for (int64_t c = 0; c < item.width; c += lanes) {
      Simd<T> v[lanes];
      for (int64_t i = 0; i < lanes; ++i) {
        T* const at = sums + (first + i) * item.width + c;
        v[i] = load(at);
        store(at, Simd<T>{});
      }
      transpose<T>(v);
      const int64_t count = item.count - c < lanes ? item.count - c : lanes;
      Element* const plane = planes + c * plane_stride + first;
      for (int64_t i = 0; i < count; ++i) store_lanes(plane + i * plane_stride, v[i]);
    }
  }
  for (int64_t pixel = whole; pixel < pixels; ++pixel) {
    T* const at = sums + pixel * item.width;
    for (int64_t c = 0; c < item.count; ++c) narrow(at[c], planes[c * plane_stride + pixel]);
    for (int64_t c = 0; c < item.width; ++c) at[c] = 0;
  }
}

// With as many vectors as the item has.
template <class Element, class T, int kItemVectors = 1>
bool scatter_item(const PsBackwardParams& p, const PsTables& tables, const Item& item, const Band& band,
                  T* sums) {
  if constexpr (kItemVectors * kLanes<T> < kPsBlock) {
    if (item.width > kItemVectors * kLanes<T>) {
      return scatter_item<Element, T, kItemVectors + 1>(p, tables, item, band, sums);
    }
  }
  return scatter_all<Element, T, kItemVectors>(p, tables, item, band, sums);
}

template <class Element>
void backward(const PsBackwardParams& p, const PsTables& tables, void* scratch, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const PsGeometry& g = p.geometry;
  const int64_t pixels = g.height * g.width, bins = g.bins_y * g.bins_x, band_rows = ps_band_rows(g);
  T* const sums = static_cast<T*>(scratch);
  std::memset(sums, 0, size_t(kPsBlock * band_rows * g.width) * sizeof(T));
  for (int64_t number = begin; number < end; ++number) {
    const Item item = item_of<T>(g, number);
    auto* const planes = static_cast<Element*>(p.grad_input) +
                         (item.image * g.channels + item.channel * bins + item.bin) * pixels;
    for (int64_t row = 0; row < g.height; row += band_rows) {
      const int64_t end_row = row + band_rows < g.height ? row + band_rows : g.height;
      const Band band{row * g.width, end_row * g.width};
      if (scatter_item<Element>(p, tables, item, band, sums)) {
        move_sums(item, band, bins * pixels, sums, planes + band.first_pixel);
        continue;
      }
      for (int64_t c = 0; c < item.count; ++c) {
        std::memset(planes + c * bins * pixels + band.first_pixel, 0,
                    size_t(band.end_pixel - band.first_pixel) * sizeof(Element));
      }
    }
  }
}

}  // namespace

void ps_backward_cpu(const PsBackwardParams& p, const PsTables& tables, void* scratch, int64_t begin,
                     int64_t end) {
  GCV_BY_DTYPE(p.geometry.dtype, backward, p, tables, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA

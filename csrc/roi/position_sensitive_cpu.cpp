// Forward: sixteen regions at a time gather from one plane, which stays in the first-level cache. Backward: a
// plane belongs to one item and takes the regions in their order. Hence equal bits at any number of threads.
#include "common/dtype_arrays.h"
#include "roi/position_sensitive_lanes.h"
#include "roi/position_sensitive_tables.h"

namespace gcv::GCV_ISA {
namespace {

// Calls read(pixel, weight) for all that a bin reads; returns what to divide by.
template <class T, class Read>
GCV_HD T for_bin(const PsAxis<T>& axis, int64_t bin, const Read& read) {
  if (axis.pool) {
    const PsRange range = ps_bin_pixels(axis.pixels, bin);
    for (int64_t pixel = range.first; pixel < range.end; ++pixel) read(pixel, T(1));
    return T(range.end - range.first);
  }
  const PsBinSamples<T> samples = ps_bin_samples(axis.samples, bin);
  for (int64_t n = 0; n < axis.samples.looked; ++n) {
    const PsSample<T> sample = ps_sample(axis.samples, samples, n);
    if (!sample.inside) continue;
    read(sample.before, T(1) - sample.weight);
    if (sample.after != sample.before) read(sample.after, sample.weight);
  }
  return axis.samples.grid;
}

// The pixels that one bin reads, each once: samples go one way, so that the same pixel is among the last
// three.
class Reads {
 public:
  int32_t count() const { return count_; }

  // How far back the pixel is; -1 where it is new.
  int32_t find_or_add(int64_t pixel) {
    for (int32_t back = 0; back < 3; ++back) {
      if (recent_[back] == pixel) return back;
    }
    recent_[2] = recent_[1];
    recent_[1] = recent_[0];
    recent_[0] = pixel;
    ++count_;
    return -1;
  }

 private:
  int64_t recent_[3] = {-1, -1, -1};
  int32_t count_ = 0;
};

template <class T>
int32_t most_reads(const PsAxis<T>& axis, int64_t bins, int64_t& first, int64_t& end) {
  int32_t most = 0;
  for (int64_t bin = 0; bin < bins; ++bin) {
    Reads reads;
    for_bin(axis, bin, [&](int64_t pixel, T) {
      reads.find_or_add(pixel);
      first = pixel < first ? pixel : first;
      end = pixel >= end ? pixel + 1 : end;
    });
    most = reads.count() > most ? reads.count() : most;
  }
  return most;
}

template <class T>
PsNeeds needs_of(const PsGeometry& g, int64_t k) {
  const PsRegion<T> region = ps_region<T>(g, k);
  PsNeeds needs{region.image, 0, 0, 0, 0};
  if (!region.sound) return needs;
  int64_t first = g.height, end = 0, first_column = g.width, end_column = 0;
  needs.rows = most_reads(region.y, g.bins_y, first, end);
  needs.columns = most_reads(region.x, g.bins_x, first_column, end_column);
  needs.first_row = int32_t(first);
  needs.end_row = int32_t(end);
  return needs;
}

template <class T>
struct GroupTables {
  T *row_weights, *column_weights, *row_counts, *column_counts;
  int32_t *row_offsets, *columns;
};

template <class T>
GCV_HD GroupTables<T> tables_of(const PsGeometry& g, const PsTables& tables, const PsGroup& group) {
  GroupTables<T> t;
  t.row_weights = static_cast<T*>(tables.numbers) + group.numbers;
  t.column_weights = t.row_weights + g.bins_y * group.rows * kPsGroup;
  t.row_counts = t.column_weights + g.bins_x * group.columns * kPsGroup;
  t.column_counts = t.row_counts + g.bins_y * kPsGroup;
  t.row_offsets = tables.pixels + group.pixels;
  t.columns = t.row_offsets + g.bins_y * group.rows * kPsGroup;
  return t;
}

// One lane's lists along one axis, each of `length`. A pixel is stored as a multiple of `unit`.
template <class T>
void fill_lane(const PsAxis<T>& axis, bool sound, int64_t bins, int32_t length, int64_t unit, T* weights,
               int32_t* pixels, T* counts) {
  for (int64_t bin = 0; bin < bins; ++bin) {
    T* const weight = weights + bin * length * kPsGroup;
    int32_t* const at = pixels + bin * length * kPsGroup;
    Reads reads;
    T count = T(__builtin_nanf(""));
    if (sound) {
      count = for_bin(axis, bin, [&](int64_t pixel, T w) {
        const int32_t back = reads.find_or_add(pixel);
        const int64_t entry = (reads.count() - 1 - (back < 0 ? 0 : back)) * kPsGroup;
        weight[entry] = back < 0 ? w : weight[entry] + w;
        at[entry] = int32_t(pixel * unit);
      });
    }
    for (int32_t i = reads.count(); i < length; ++i) {
      weight[i * kPsGroup] = 0;
      at[i * kPsGroup] = kPsAbsent;
    }
    counts[bin * kPsGroup] = count;
  }
}

template <class T>
void fill_group(const PsGeometry& g, const PsTables& tables, int64_t number) {
  const PsGroup& group = tables.groups[number];
  const GroupTables<T> t = tables_of<T>(g, tables, group);
  for (int64_t lane = 0; lane < kPsGroup; ++lane) {
    const int64_t k = tables.order[number * kPsGroup + lane];
    PsRegion<T> region{};
    if (k >= 0) region = ps_region<T>(g, k);
    fill_lane(region.y, region.sound, g.bins_y, group.rows, g.width, t.row_weights + lane,
              t.row_offsets + lane, t.row_counts + lane);
    fill_lane(region.x, region.sound, g.bins_x, group.columns, 1, t.column_weights + lane, t.columns + lane,
              t.column_counts + lane);
  }
}

// The channels of one item, and which bin each serves.
struct Block {
  int64_t image, channel, count;
  int64_t row[kPsBlock], column[kPsBlock];  // of the bins
};

Block block_of(const PsGeometry& g, int64_t item) {
  const int64_t blocks = ps_blocks(g);
  Block b;
  b.image = item / blocks;
  b.channel = item % blocks * kPsBlock;
  b.count = g.channels - b.channel < kPsBlock ? g.channels - b.channel : kPsBlock;
  for (int64_t c = 0; c < b.count; ++c) {
    const int64_t bin = (b.channel + c) % (g.bins_y * g.bins_x);
    b.row[c] = bin / g.bins_x;
    b.column[c] = bin % g.bins_x;
  }
  return b;
}

// Planes of the block in the type that is computed in: in place where they lie so, else copies of the rows
// that are read.
template <class Element, class T>
void planes_of(const PsForwardParams& p, const Block& b, const PsImage& image, T* copies,
               const T* (&planes)[kPsBlock]) {
  const PsGeometry& g = p.geometry;
  const int64_t* strides = p.input_strides.d;
  const Element* const first =
      static_cast<const Element*>(p.input) + b.image * strides[0] + b.channel * strides[1];
  if constexpr (sizeof(Element) == sizeof(T)) {
    if (strides[3] == 1 && strides[2] == g.width) {
      for (int64_t c = 0; c < b.count; ++c) planes[c] = reinterpret_cast<const T*>(first + c * strides[1]);
      return;
    }
  }
  for (int64_t c = 0; c < b.count; ++c) planes[c] = copies + c * g.height * g.width;
  for (int64_t y = image.first_row; y < image.end_row; ++y) {
    const Element* const row = first + y * strides[2];
    T* const copy = copies + y * g.width;
    if (strides[3] == 1) {
      for (int64_t c = 0; c < b.count; ++c) {
        widen_all(row + c * strides[1], g.width, copy + c * g.height * g.width);
      }
    } else {
      for (int64_t x = 0; x < g.width; ++x) {
        for (int64_t c = 0; c < b.count; ++c) {
          copy[c * g.height * g.width + x] = widen(row[x * strides[3] + c * strides[1]]);
        }
      }
    }
  }
}

// One bin of a group's regions.
template <class T>
GCV_HD void gather_bin(const T* plane, const PsGroup& group, const GroupTables<T>& t, int64_t i, int64_t j,
                       T* results) {
  const T* const row_weights = t.row_weights + i * group.rows * kPsGroup;
  const T* const column_weights = t.column_weights + j * group.columns * kPsGroup;
  const int32_t* const row_offsets = t.row_offsets + i * group.rows * kPsGroup;
  const int32_t* const columns = t.columns + j * group.columns * kPsGroup;
  for (int64_t lane = 0; lane < kPsGroup; lane += kLanes<T>) {
    Simd<T> sum{};
    for (int32_t r = 0; r < group.rows; ++r) {
      const auto row = load_offsets<T>(row_offsets + r * kPsGroup + lane);
      Simd<T> row_sum{};
      for (int32_t c = 0; c < group.columns; ++c) {
        const Simd<T> values = gather_present(plane, row, load_offsets<T>(columns + c * kPsGroup + lane));
        row_sum = multiply_add<T>(load(column_weights + c * kPsGroup + lane), values, row_sum);
      }
      sum = multiply_add<T>(load(row_weights + r * kPsGroup + lane), row_sum, sum);
    }
    const Simd<T> count =
        load(t.row_counts + i * kPsGroup + lane) * load(t.column_counts + j * kPsGroup + lane);
    store(results + lane, count == Simd<T>{} ? Simd<T>{} : sum / count);
  }
}

// Calls run(first, end) for the groups of an image, some at a time.
template <class Run>
GCV_HD void for_chunks(const PsImage& image, const Run& run) {
  for (int64_t first = image.first_group; first < image.end_group; first += kPsChunk) {
    run(first, first + kPsChunk < image.end_group ? first + kPsChunk : image.end_group);
  }
}

// results: [channels of the block][positions of the chunk]
template <class Element, class T>
void write_rows(const PsForwardParams& p, const PsTables& tables, const Block& b, int64_t first, int64_t end,
                const T* results) {
  auto* const output = static_cast<Element*>(p.output);
  const int64_t positions = (end - first) * kPsGroup;
  for (int64_t q = 0; q < positions; ++q) {
    const int64_t k = tables.order[first * kPsGroup + q];
    if (k < 0) continue;
    Element* const row = output + k * p.geometry.channels + b.channel;
    for (int64_t c = 0; c < b.count; ++c) narrow(results[c * kPsChunk * kPsGroup + q], row[c]);
  }
}

template <class Element>
void forward(const PsForwardParams& p, const PsTables& tables, void* scratch, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const PsGeometry& g = p.geometry;
  T* const results = static_cast<T*>(scratch);
  T* const copies = results + kPsBlock * kPsChunk * kPsGroup;
  for (int64_t item = begin; item < end; ++item) {
    const Block b = block_of(g, item);
    const PsImage& image = tables.images[b.image];
    if (image.first_group == image.end_group) continue;
    const T* planes[kPsBlock];
    planes_of<Element>(p, b, image, copies, planes);
    for_chunks(image, [&](int64_t first, int64_t last) {
      for (int64_t c = 0; c < b.count; ++c) {
        for (int64_t group = first; group < last; ++group) {
          gather_bin(planes[c], tables.groups[group], tables_of<T>(g, tables, tables.groups[group]), b.row[c],
                     b.column[c], results + (c * kPsChunk + group - first) * kPsGroup);
        }
      }
      write_rows<Element>(p, tables, b, first, last, results);
    });
  }
}

// grads: [channels of the block][positions of the chunk]
template <class Element, class T>
void read_rows(const PsBackwardParams& p, const PsTables& tables, const Block& b, int64_t first, int64_t end,
               T* grads) {
  const PsGeometry& g = p.geometry;
  const int64_t* strides = p.grad_strides.d;
  const auto* const grad = static_cast<const Element*>(p.grad);
  const int64_t positions = (end - first) * kPsGroup;
  int64_t offsets[kPsBlock];
  for (int64_t c = 0; c < b.count; ++c) {
    const int64_t channel = (b.channel + c) / (g.bins_y * g.bins_x);
    offsets[c] = channel * strides[1] + b.row[c] * strides[2] + b.column[c] * strides[3];
  }
  for (int64_t q = 0; q < positions; ++q) {
    const int64_t k = tables.order[first * kPsGroup + q];
    if (k < 0) continue;
    const Element* const row = grad + k * strides[0];
    for (int64_t c = 0; c < b.count; ++c) grads[c * kPsChunk * kPsGroup + q] = widen(row[offsets[c]]);
  }
}

template <class T>
GCV_HD void scatter_bin(T* plane, T grad, const PsGroup& group, const T* row_weights, const T* column_weights,
                        const int32_t* row_offsets, const int32_t* columns) {
  for (int32_t r = 0; r < group.rows; ++r) {
    const int32_t row = row_offsets[r * kPsGroup];
    if (row < 0) break;
    const T row_grad = grad * row_weights[r * kPsGroup];
    for (int32_t c = 0; c < group.columns; ++c) {
      const int32_t column = columns[c * kPsGroup];
      if (column < 0) break;
      plane[row + column] += row_grad * column_weights[c * kPsGroup];
    }
  }
}

template <class T>
void scatter_group(T* plane, const PsGroup& group, const GroupTables<T>& t, int64_t i, int64_t j,
                   const T* grads) {
  for (int64_t lane = 0; lane < kPsGroup; ++lane) {
    const T count = t.row_counts[i * kPsGroup + lane] * t.column_counts[j * kPsGroup + lane];
    if (!(count > 0)) continue;
    scatter_bin(plane, grads[lane] / count, group, t.row_weights + i * group.rows * kPsGroup + lane,
                t.column_weights + j * group.columns * kPsGroup + lane,
                t.row_offsets + i * group.rows * kPsGroup + lane,
                t.columns + j * group.columns * kPsGroup + lane);
  }
}

template <class Element>
void backward(const PsBackwardParams& p, const PsTables& tables, void* scratch, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const PsGeometry& g = p.geometry;
  constexpr bool in_place = sizeof(Element) == sizeof(T);
  T* const grads = static_cast<T*>(scratch);
  T* const sums = grads + kPsBlock * kPsChunk * kPsGroup;
  const int64_t pixels = g.height * g.width;
  for (int64_t item = begin; item < end; ++item) {
    const Block b = block_of(g, item);
    const PsImage& image = tables.images[b.image];
    auto* const grad_input =
        static_cast<Element*>(p.grad_input) + (b.image * g.channels + b.channel) * pixels;
    T* const planes = in_place ? reinterpret_cast<T*>(grad_input) : sums;
    std::memset(planes, 0, size_t(b.count * pixels) * sizeof(T));
    for_chunks(image, [&](int64_t first, int64_t last) {
      read_rows<Element>(p, tables, b, first, last, grads);
      for (int64_t c = 0; c < b.count; ++c) {
        for (int64_t group = first; group < last; ++group) {
          scatter_group(planes + c * pixels, tables.groups[group],
                        tables_of<T>(g, tables, tables.groups[group]), b.row[c], b.column[c],
                        grads + (c * kPsChunk + group - first) * kPsGroup);
        }
      }
    });
    if constexpr (!in_place) narrow_all(planes, b.count * pixels, grad_input);
  }
}

// Of x1, y1, x2, y2.
struct BoxSums {
  double d[4];
};

// Over all channels of the result.
template <class Element, class T>
BoxSums bin_sums(const PsBoxesBackwardParams& p, const PsRegion<T>& region, int64_t k, int64_t i, int64_t j) {
  const PsGeometry& g = p.geometry;
  const int64_t bins = g.bins_y * g.bins_x;
  const int64_t *const strides = p.input_strides.d, *const grad_strides = p.grad_strides.d;
  const PsSamples<T>&ys = region.y.samples, &xs = region.x.samples;
  const PsBinSamples<T> y_bin = ps_bin_samples(ys, i), x_bin = ps_bin_samples(xs, j);
  const auto* const plane =
      static_cast<const Element*>(p.input) + region.image * strides[0] + (i * g.bins_x + j) * strides[1];
  const auto* const grad =
      static_cast<const Element*>(p.grad) + k * grad_strides[0] + i * grad_strides[2] + j * grad_strides[3];
  BoxSums sums{};
  for (int64_t m = 0; m < ys.looked; ++m) {
    const PsSample<T> y = ps_sample(ys, y_bin, m);
    if (!y.inside) continue;
    const double y_share = ps_share(ys, y_bin, i, g.bins_y, m);
    for (int64_t n = 0; n < xs.looked; ++n) {
      const PsSample<T> x = ps_sample(xs, x_bin, n);
      if (!x.inside) continue;
      const double x_share = ps_share(xs, x_bin, j, g.bins_x, n);
      double along_y = 0, along_x = 0;
      for (int64_t c = 0; c < g.channels / bins; ++c) {
        const PsSlopes<T> slopes = ps_slopes(plane + c * bins * strides[1], strides[2], strides[3], y, x);
        const double weight = widen(grad[c * grad_strides[1]]);
        along_y += weight * slopes.along_y;
        along_x += weight * slopes.along_x;
      }
      sums.d[0] += along_x * (1 - x_share);
      sums.d[1] += along_y * (1 - y_share);
      sums.d[2] += along_x * x_share;
      sums.d[3] += along_y * y_share;
    }
  }
  return sums;
}

void store_number(DType dtype, void* numbers, int64_t at, double x) {
  switch (dtype) {
    case DType::f64:
      static_cast<double*>(numbers)[at] = x;
      return;
    case DType::f16:
      return narrow(float(x), static_cast<Half*>(numbers)[at]);
    case DType::bf16:
      return narrow(float(x), static_cast<BFloat16*>(numbers)[at]);
    default:
      static_cast<float*>(numbers)[at] = float(x);
  }
}

template <class Element>
void boxes_backward(const PsBoxesBackwardParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const PsGeometry& g = p.geometry;
  for (int64_t k = begin; k < end; ++k) {
    const PsRegion<T> region = ps_region<T>(g, k);
    BoxSums sums{};
    for (int64_t i = 0; i < g.bins_y && region.sound; ++i) {
      for (int64_t j = 0; j < g.bins_x; ++j) {
        const BoxSums bin = bin_sums<Element>(p, region, k, i, j);
        for (int64_t d = 0; d < 4; ++d) sums.d[d] += bin.d[d];
      }
    }
    const double samples = double(region.y.samples.grid) * double(region.x.samples.grid);
    const double factor = samples > 0 ? g.spatial_scale / samples : 0;
    store_number(g.boxes.dtype, p.grad_boxes, 5 * k, 0);
    for (int64_t d = 0; d < 4; ++d)
      store_number(g.boxes.dtype, p.grad_boxes, 5 * k + 1 + d, sums.d[d] * factor);
  }
}

}  // namespace

void ps_needs_cpu(const PsGeometry& g, PsNeeds* needs, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) {
    needs[k] = g.dtype == DType::f64 ? needs_of<double>(g, k) : needs_of<float>(g, k);
  }
}

void ps_tables_cpu(const PsGeometry& g, const PsTables& tables, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    if (g.dtype == DType::f64) {
      fill_group<double>(g, tables, group);
    } else {
      fill_group<float>(g, tables, group);
    }
  }
}

void ps_forward_cpu(const PsForwardParams& p, const PsTables& tables, void* scratch, int64_t begin,
                    int64_t end) {
  GCV_BY_DTYPE(p.geometry.dtype, forward, p, tables, scratch, begin, end);
}

void ps_backward_cpu(const PsBackwardParams& p, const PsTables& tables, void* scratch, int64_t begin,
                     int64_t end) {
  GCV_BY_DTYPE(p.geometry.dtype, backward, p, tables, scratch, begin, end);
}

void ps_boxes_backward_cpu(const PsBoxesBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.geometry.dtype, boxes_backward, p, begin, end);
}

}  // namespace gcv::GCV_ISA

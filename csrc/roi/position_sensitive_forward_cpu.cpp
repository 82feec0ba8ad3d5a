// Sixteen regions at a time gather from one plane, which stays in the nearest cache that has room for it.
#include "common/dtype_arrays.h"
#include "roi/position_sensitive_lanes.h"
#include "roi/position_sensitive_tables.h"

namespace gcv::GCV_ISA {
namespace {

// The channels of one item, and which bin each serves.
struct Block {
  int64_t image, channel, count;
  int64_t row[kPsBlock], column[kPsBlock];  // of the bins
};

Block block_of(const PsGeometry& g, int64_t item) {
  const int64_t blocks = ps_forward_items(g) / g.images;
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
GCV_HD void gather_bin(const T* plane, const PsGroup& group, const PsGroupTables<T>& t, int64_t i, int64_t j,
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
          gather_bin(planes[c], tables.groups[group], ps_group_tables<T>(g, tables, tables.groups[group]),
                     b.row[c], b.column[c], results + (c * kPsChunk + group - first) * kPsGroup);
        }
      }
      write_rows<Element>(p, tables, b, first, last, results);
    });
  }
}

}  // namespace

void ps_forward_cpu(const PsForwardParams& p, const PsTables& tables, void* scratch, int64_t begin,
                    int64_t end) {
  GCV_BY_DTYPE(p.geometry.dtype, forward, p, tables, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA

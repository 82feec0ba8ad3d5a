// How the CPU kernels of position-sensitive regions go about their work. Regions of one image stand together,
// those of like size side by side, in groups of kPsGroup that fill vectors. Tables hold what each bin's rows
// and columns read. Free of torch.
#pragma once

#include "roi/position_sensitive.h"

namespace gcv {

constexpr int64_t kPsGroup = 16;
constexpr int64_t kPsBlock = 16;  // channels: a cache line of the output in float32

// Marks the end of shorter lists in a group: with any pixel of the other axis it stays negative.
constexpr int32_t kPsAbsent = -(int32_t(1) << 30);

// Of one region; those that give NaN read nothing.
struct PsNeeds {
  int64_t image;
  int32_t rows, columns;       // the most that one of its bins reads
  int32_t first_row, end_row;  // of all its bins
};

struct PsGroup {
  int64_t image;
  int32_t rows, columns;  // the most of its regions
  int64_t numbers;        // where its tables start, counted in numbers of the type that is computed in
  int64_t pixels;         // the same, counted in int32
};

struct PsImage {
  int64_t first_group, end_group;
  int64_t first_row, end_row;
};

// In a group's tables lane l of a list stands at [...][l]:
//   numbers: row_weights [bins_y][rows], column_weights [bins_x][columns], row_counts [bins_y],
//            column_counts [bins_x]: a bin is divided by the product of its counts, and 0 where that is 0
//   pixels:  row_offsets [bins_y][rows], columns [bins_x][columns]
// What the kernels see of a plan (position_sensitive_plan.h).
struct PsTables {
  const PsNeeds* needs;
  const int64_t* order;
  const PsGroup* groups;
  const PsImage* images;
  void* numbers;
  int32_t* pixels;
};

template <class T>
struct PsGroupTables {
  T *row_weights, *column_weights, *row_counts, *column_counts;
  int32_t *row_offsets, *columns;
};

template <class T>
GCV_HD PsGroupTables<T> ps_group_tables(const PsGeometry& g, const PsTables& tables, const PsGroup& group) {
  PsGroupTables<T> t;
  t.row_weights = static_cast<T*>(tables.numbers) + group.numbers;
  t.column_weights = t.row_weights + g.bins_y * group.rows * kPsGroup;
  t.row_counts = t.column_weights + g.bins_x * group.columns * kPsGroup;
  t.column_counts = t.row_counts + g.bins_y * kPsGroup;
  t.row_offsets = tables.pixels + group.pixels;
  t.columns = t.row_offsets + g.bins_y * group.rows * kPsGroup;
  return t;
}

// Forward: items are images x blocks of neighbouring channels of the maps.
GCV_HD int64_t ps_forward_items(const PsGeometry& g) {
  return g.images * ((g.channels + kPsBlock - 1) / kPsBlock);
}

// Backward: items are images x blocks of channels of the result x bins.
GCV_HD int64_t ps_channel_blocks(const PsGeometry& g) {
  return (g.channels / (g.bins_y * g.bins_x) + kPsBlock - 1) / kPsBlock;
}

GCV_HD int64_t ps_backward_items(const PsGeometry& g) {
  return g.images * ps_channel_blocks(g) * g.bins_y * g.bins_x;
}

// Forward: results of this many groups wait to be written in order.
constexpr int64_t kPsChunk = 32;

// Backward: rows of a plane whose sums are in work at a time.
GCV_HD int64_t ps_band_rows(const PsGeometry& g) {
  constexpr int64_t pixels = 8192;
  const int64_t rows = pixels / (g.width > 0 ? g.width : 1);
  return rows < 1 ? 1 : rows < g.height ? rows : g.height;
}

// For one range of items.
GCV_HD size_t ps_forward_scratch(const PsGeometry& g) {
  const size_t number = g.dtype == DType::f64 ? 8 : 4;
  return number * size_t(kPsBlock) * size_t(kPsChunk * kPsGroup + g.height * g.width);
}
GCV_HD size_t ps_backward_scratch(const PsGeometry& g) {
  const size_t number = g.dtype == DType::f64 ? 8 : 4;
  return number * size_t(kPsBlock) * size_t(ps_band_rows(g) * g.width);
}

// What regions [begin, end) need.
GCV_PER_ISA(void, ps_needs_cpu, (const PsGeometry& g, PsNeeds* needs, int64_t begin, int64_t end),
            (g, needs, begin, end))

// The tables of groups [begin, end).
GCV_PER_ISA(void, ps_tables_cpu, (const PsGeometry& g, const PsTables& tables, int64_t begin, int64_t end),
            (g, tables, begin, end))

// Items [begin, end).
GCV_PER_ISA(void, ps_forward_cpu,
            (const PsForwardParams& p, const PsTables& tables, void* scratch, int64_t begin, int64_t end),
            (p, tables, scratch, begin, end))
GCV_PER_ISA(void, ps_backward_cpu,
            (const PsBackwardParams& p, const PsTables& tables, void* scratch, int64_t begin, int64_t end),
            (p, tables, scratch, begin, end))

// For regions [begin, end).
GCV_PER_ISA(void, ps_boxes_backward_cpu, (const PsBoxesBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

}  // namespace gcv

// How the CPU kernels of position-sensitive regions go about their work. Regions of one image stand together,
// those of like size side by side, in groups of kPsGroup that fill vectors. Tables hold what each bin's rows
// and columns read. A work item is a block of neighbouring channels of one image. Free of torch.
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

inline int64_t ps_blocks(const PsGeometry& g) { return (g.channels + kPsBlock - 1) / kPsBlock; }

// Results of this many groups wait to be written in order.
constexpr int64_t kPsChunk = 32;

// For one range of items.
inline size_t ps_scratch_bytes(const PsGeometry& g) {
  const size_t number = g.dtype == DType::f64 ? 8 : 4;
  return number * size_t(kPsBlock) * size_t(kPsChunk * kPsGroup + g.height * g.width);
}

// What regions [begin, end) need.
GCV_PER_ISA(void, ps_needs_cpu, (const PsGeometry& g, PsNeeds* needs, int64_t begin, int64_t end),
            (g, needs, begin, end))

// The tables of groups [begin, end).
GCV_PER_ISA(void, ps_tables_cpu, (const PsGeometry& g, const PsTables& tables, int64_t begin, int64_t end),
            (g, tables, begin, end))

// Items are images x ps_blocks.
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

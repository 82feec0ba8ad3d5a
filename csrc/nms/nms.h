// Greedy non-maximum suppression: what a caller hands to the kernels. Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

struct NmsParams {
  const void* boxes;   // [n, 4]: x1, y1, x2, y2
  int64_t box_stride;  // in elements
  int64_t coord_stride;
  const void* scores;  // [n], of the boxes' dtype
  int64_t score_stride;
  const int64_t* class_ids;  // [n], or nullptr: boxes of one class only suppress one another
  int64_t class_stride;
  int64_t n;  // at most 2^31 - 1
  DType dtype;
  double iou_threshold;
};

// Three phases, so that a caller's thread pool can share the middle one. `workspace` holds
// nms_workspace_bytes(p) bytes, aligned to 64, and carries the state from phase to phase.
GCV_PER_ISA(size_t, nms_workspace_bytes, (const NmsParams& p), (p))

// Sorts by class and score; returns the number of groups (classes), each a problem of its own.
GCV_PER_ISA(int64_t, nms_prepare_cpu, (const NmsParams& p, void* workspace), (p, workspace))

// Runs the greedy pass for groups [begin, end).
GCV_PER_ISA(void, nms_groups_cpu, (const NmsParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

// Writes the kept indices, best score first, to keep[n]; returns how many.
GCV_PER_ISA(int64_t, nms_collect_cpu, (const NmsParams& p, void* workspace, int64_t* keep),
            (p, workspace, keep))

}  // namespace gcv

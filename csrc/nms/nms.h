// Non-maximum suppression on the CPU: what a caller hands to the kernels. Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"
#include "nms/soft_nms.h"

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

struct SoftNmsParams {
  const void* boxes;   // [n, 4]
  int64_t box_stride;  // in elements
  int64_t coord_stride;
  const void* scores;  // [n], of the boxes' dtype
  int64_t score_stride;
  int64_t n;  // at most 2^31 - 1
  DType dtype;
  SoftNmsMethod method;
  double iou_threshold;
  double sigma;
  double score_threshold;
};

GCV_PER_ISA(size_t, soft_nms_workspace_bytes, (const SoftNmsParams& p), (p))

// Writes the selected indices to keep[n] in order of selection and their scores to decayed[n], of the scores'
// dtype; returns how many.
GCV_PER_ISA(int64_t, soft_nms_cpu, (const SoftNmsParams& p, void* workspace, int64_t* keep, void* decayed),
            (p, workspace, keep, decayed))

struct MulticlassNmsParams {
  const void* boxes;     // [batch, n, 4]
  int64_t image_stride;  // in elements
  int64_t box_stride;
  int64_t coord_stride;
  const void* scores;  // [batch, classes, n], of the boxes' dtype
  int64_t score_image_stride;
  int64_t score_class_stride;
  int64_t score_stride;
  int64_t batch, classes, n;  // n at most 2^31 - 1
  DType dtype;
  double iou_threshold;
  double score_threshold;
  int64_t max_output_per_class;
  int64_t max_total;
  uint32_t* kept;        // [batch * classes, most_per_class()]: between the two phases
  uint32_t* kept_count;  // [batch * classes]
  int64_t* indices;      // out [batch, max_total, 2]: class and box
  void* out_scores;      // out [batch, max_total]
  int64_t* counts;       // out [batch]

  int64_t most_per_class() const { return max_output_per_class < n ? max_output_per_class : n; }
};

// Two phases, each over independent items; every concurrent call needs a workspace of its own.
GCV_PER_ISA(size_t, multiclass_nms_workspace_bytes, (const MulticlassNmsParams& p), (p))

// Items are (image, class) pairs: the greedy pass of each.
GCV_PER_ISA(void, multiclass_nms_classes_cpu,
            (const MulticlassNmsParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

// Items are images: the best of all classes.
GCV_PER_ISA(void, multiclass_nms_merge_cpu,
            (const MulticlassNmsParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

}  // namespace gcv

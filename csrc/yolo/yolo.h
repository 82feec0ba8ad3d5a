// YOLO's maps: what a caller hands to the kernels, and where things lie in them. Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

inline constexpr int kYoloMostLevels = 8;
inline constexpr int kYoloMostBoxesPerCell = 16;
inline constexpr int kYoloMostBins = 64;

enum class YoloVersion : int32_t { v1, v2, v3, v5, v8 };

// One level's map. Its boxes are numbered anchor by anchor, row by row.
struct YoloLevel {
  const void* map;     // [batch, channels, height, width]
  int64_t strides[4];  // in elements: image, channel, row, column
  int64_t height, width;
  int64_t first_box;                         // boxes of the levels before
  int64_t first_number;                      // elements of an image in the levels before
  double stride;                             // pixels from cell to cell
  double anchors[kYoloMostBoxesPerCell][2];  // width and height in pixels, where the version has anchors
};

struct YoloMaps {
  YoloLevel levels[kYoloMostLevels];
  int64_t level_count, batch;
  int64_t boxes_per_cell;  // 1 for v8
  int64_t classes;
  int64_t reg_max;  // of v8
  int64_t boxes;    // of an image
  int64_t numbers;  // elements of an image
  YoloVersion version;
  DType dtype;
};

struct YoloDecodeParams {
  YoloMaps maps;
  void* boxes;   // out [batch, boxes, 4], dense
  void* scores;  // out [batch, classes, boxes], dense
};

struct YoloDecodeBackwardParams {
  YoloMaps maps;
  const void* grad_boxes;   // [batch, boxes, 4]
  const void* grad_scores;  // [batch, boxes, classes]
  int64_t grad_boxes_strides[3], grad_scores_strides[3];
  void* grad_maps;  // out [batch, numbers]: of each image the levels' [channels, height, width]
};

struct YoloDetectParams {
  YoloMaps maps;
  double score_threshold, iou_threshold;
  int64_t max_detections, max_candidates;
  bool class_agnostic, multi_label;
  const float* letterbox;  // [batch, 5]: scale, left and top padding, height, width; or nullptr
  int64_t letterbox_strides[2];
  void* out_boxes;   // [batch, max_detections, 4], dense like all outputs
  void* out_scores;  // [batch, max_detections]
  int64_t* labels;   // [batch, max_detections]
  int64_t* counts;   // [batch]
};

GCV_HD bool yolo_has_confidence(YoloVersion version) { return version != YoloVersion::v8; }

GCV_HD int64_t yolo_cells(const YoloLevel& level) { return level.height * level.width; }

// Channels before the classes: of a box, or of all boxes of a cell where they share the classes (v1).
GCV_HD int64_t yolo_first_class(const YoloMaps& m, int64_t anchor) {
  if (m.version == YoloVersion::v8) return 4 * m.reg_max;
  if (m.version == YoloVersion::v1) return 5 * m.boxes_per_cell;
  return anchor * (5 + m.classes) + 5;
}

// The first of x, y, w, h and confidence.
GCV_HD int64_t yolo_first_channel(const YoloMaps& m, int64_t anchor) {
  if (m.version == YoloVersion::v8) return 0;
  return m.version == YoloVersion::v1 ? 5 * anchor : anchor * (5 + m.classes);
}

GCV_HD int64_t yolo_channels(const YoloMaps& m) {
  if (m.version == YoloVersion::v8) return 4 * m.reg_max + m.classes;
  return m.version == YoloVersion::v1 ? 5 * m.boxes_per_cell + m.classes : m.boxes_per_cell * (5 + m.classes);
}

// Where an image's box lies.
struct YoloPlace {
  int level;
  int64_t anchor, row, column;
};

GCV_HD YoloPlace yolo_place(const YoloMaps& m, int64_t box) {
  int l = 0;
  while (l + 1 < m.level_count && box >= m.levels[l + 1].first_box) ++l;
  const YoloLevel& level = m.levels[l];
  const auto in_level = uint32_t(box - level.first_box), cells = uint32_t(yolo_cells(level));
  const uint32_t anchor = in_level / cells, cell = in_level - anchor * cells;
  const uint32_t row = cell / uint32_t(level.width);
  return {l, anchor, row, cell - row * uint32_t(level.width)};
}

// Work is split into tasks: (image, level, anchor) triples for decoding, where all boxes of a cell share an
// anchor's task if they share classes; images for detection.
GCV_HD int64_t yolo_anchor_tasks(const YoloMaps& m) {
  return m.version == YoloVersion::v1 ? 1 : m.boxes_per_cell;
}

// Cells that are decoded together on the CPU.
inline constexpr int64_t kYoloBlock = 64;

// Blocks of an image.
GCV_HD int64_t yolo_blocks(const YoloMaps& m) {
  int64_t blocks = 0;
  for (int64_t l = 0; l < m.level_count; ++l)
    blocks += yolo_anchor_tasks(m) * ((yolo_cells(m.levels[l]) + kYoloBlock - 1) / kYoloBlock);
  return blocks;
}

// For blocks [begin, end) of batch * yolo_blocks(maps).
GCV_PER_ISA(void, yolo_decode_cpu, (const YoloDecodeParams& p, int64_t begin, int64_t end), (p, begin, end))
GCV_PER_ISA(void, yolo_decode_backward_cpu, (const YoloDecodeBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

// For images [begin, end). Every concurrent call needs a workspace of its own, of
// yolo_detect_workspace_bytes(p) bytes, aligned to 64.
GCV_PER_ISA(size_t, yolo_detect_workspace_bytes, (const YoloDetectParams& p), (p))
GCV_PER_ISA(void, yolo_detect_cpu, (const YoloDetectParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

}  // namespace gcv

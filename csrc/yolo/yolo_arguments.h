// What the CPU and CUDA bindings make of the arguments: the checks, which checks.py makes for the other
// backends, and the kernels' parameters.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/torch_tensor.h"
#include "yolo/yolo.h"

namespace gcv {

using Tensors = std::vector<Tensor>;
using Integers = std::vector<int64_t>;
using Anchors = std::optional<std::vector<double>>;

inline std::optional<YoloVersion> yolo_version(const std::string& name) {
  if (name == "v1") return YoloVersion::v1;
  if (name == "v2") return YoloVersion::v2;
  if (name == "v3") return YoloVersion::v3;
  if (name == "v5") return YoloVersion::v5;
  if (name == "v8") return YoloVersion::v8;
  return std::nullopt;
}

// What describes the maps, besides the maps.
struct YoloHead {
  const Anchors& anchors;
  const Integers& strides;
  const std::string& version;
  int64_t boxes_per_cell, reg_max;
};

inline void check_map(const char* op, size_t i, const Tensor& map, const Tensor& first) {
  const std::string name = "preds[" + std::to_string(i) + "]";
  GCV_REQUIRE(map.dim() == 4, op, ": ", name, " must be [B, C, H, W], got ", shape_text(map), ".");
  GCV_REQUIRE(map.size(0) == first.size(0), op, ": ", name, " must have the batch size of preds[0] (",
              first.size(0), "), got ", map.size(0), ".");
  GCV_REQUIRE(map.size(1) == first.size(1), op, ": ", name, " must have the channels of preds[0] (",
              first.size(1), "), got ", map.size(1), ".");
  require_like(op, name, map, "preds[0]", first);
}

inline void check_yolo_anchors(const char* op, int64_t levels, const YoloHead& head, bool wanted) {
  if (!wanted) {
    GCV_REQUIRE(!head.anchors, op, ": anchors must be None for version ", head.version, ".");
    return;
  }
  GCV_REQUIRE(head.anchors, op, ": anchors must be given for version ", head.version, ".");
  const auto numbers = int64_t(head.anchors->size()), step = 2 * levels;
  GCV_REQUIRE(numbers > 0 && numbers <= kYoloMostBoxesPerCell * step && numbers % step == 0, op,
              ": anchors must be pairs (width, height), 1 to ", kYoloMostBoxesPerCell, " for each of the ",
              levels, " levels, got ", numbers, " numbers.");
}

inline void check_channels(const char* op, int64_t channels, const YoloMaps& m) {
  if (m.version == YoloVersion::v8) {
    GCV_REQUIRE(channels > 4 * m.reg_max, op, ": preds[0] must have more than 4 * reg_max (", 4 * m.reg_max,
                ") channels, got ", channels, ".");
  } else if (m.version == YoloVersion::v1) {
    GCV_REQUIRE(channels > 5 * m.boxes_per_cell, op, ": preds[0] must have more than 5 * boxes_per_cell (",
                5 * m.boxes_per_cell, ") channels, got ", channels, ".");
  } else {
    GCV_REQUIRE(channels % m.boxes_per_cell == 0 && channels > 5 * m.boxes_per_cell, op,
                ": preds[0] must have the same number of channels, more than 5, for each of ",
                m.boxes_per_cell, " anchors, got ", channels, ".");
  }
}

inline void fill_levels(YoloMaps& m, const Tensors& preds, const YoloHead& head) {
  for (size_t l = 0; l < preds.size(); ++l) {
    YoloLevel& level = m.levels[l];
    level.map = preds[l].const_data_ptr();
    for (int64_t k = 0; k < 4; ++k) level.strides[k] = preds[l].stride(k);
    level.height = preds[l].size(2);
    level.width = preds[l].size(3);
    level.stride = double(head.strides[l]);
    level.first_box = m.boxes;
    level.first_number = m.numbers;
    m.boxes += m.boxes_per_cell * yolo_cells(level);
    m.numbers += preds[l].size(1) * yolo_cells(level);
    if (!head.anchors) continue;
    const double* anchors = head.anchors->data() + l * size_t(2 * m.boxes_per_cell);
    for (int64_t a = 0; a < m.boxes_per_cell; ++a) {
      level.anchors[a][0] = anchors[2 * a];
      level.anchors[a][1] = anchors[2 * a + 1];
    }
  }
}

// Checks the arguments, which must outlive the result.
inline YoloMaps yolo_maps(const char* op, const Tensors& preds, const YoloHead& head) {
  const auto levels = int64_t(preds.size());
  GCV_REQUIRE(levels >= 1 && levels <= kYoloMostLevels, op, ": preds must be 1 to ", kYoloMostLevels,
              " tensors, got ", levels, ".");
  const std::optional<YoloVersion> version = yolo_version(head.version);
  GCV_REQUIRE(version, op, ": version must be 'v1', 'v2', 'v3', 'v5' or 'v8', got '", head.version, "'.");
  require_float(op, "preds[0]", preds[0]);
  for (size_t i = 0; i < preds.size(); ++i) check_map(op, i, preds[i], preds[0]);
  GCV_REQUIRE(int64_t(head.strides.size()) == levels, op, ": strides must be one per level (", levels,
              "), got ", head.strides.size(), ".");
  for (int64_t stride : head.strides)
    GCV_REQUIRE(stride > 0, op, ": strides must be positive, got ", stride, ".");
  GCV_REQUIRE(head.boxes_per_cell >= 1 && head.boxes_per_cell <= kYoloMostBoxesPerCell, op,
              ": boxes_per_cell must be 1 to ", kYoloMostBoxesPerCell, ", got ", head.boxes_per_cell, ".");
  GCV_REQUIRE(head.reg_max >= 1 && head.reg_max <= kYoloMostBins, op, ": reg_max must be 1 to ",
              kYoloMostBins, ", got ", head.reg_max, ".");
  check_yolo_anchors(op, levels, head, *version != YoloVersion::v1 && *version != YoloVersion::v8);

  YoloMaps m{};
  m.version = *version;
  m.level_count = levels;
  m.batch = preds[0].size(0);
  m.reg_max = head.reg_max;
  m.boxes_per_cell = head.anchors                   ? int64_t(head.anchors->size()) / (2 * levels)
                     : m.version == YoloVersion::v1 ? head.boxes_per_cell
                                                    : 1;
  m.dtype = kernel_dtype(preds[0].scalar_type());
  const int64_t channels = preds[0].size(1);
  check_channels(op, channels, m);
  m.classes = m.version == YoloVersion::v8   ? channels - 4 * m.reg_max
              : m.version == YoloVersion::v1 ? channels - 5 * m.boxes_per_cell
                                             : channels / m.boxes_per_cell - 5;
  fill_levels(m, preds, head);
  GCV_REQUIRE(m.boxes * m.classes <= INT32_MAX, op, ": preds must have at most ", INT32_MAX,
              " boxes times classes per image, got ", m.boxes * m.classes, ".");
  return m;
}

// The outputs of yolo_decode; scores lie in memory class by class.
struct YoloDecoded {
  Tensor boxes, scores;

  YoloDecoded(const Tensor& like, const YoloMaps& m)
      : boxes(new_output(like, Shape{m.batch, m.boxes, 4})),
        scores(new_output(like, Shape{m.batch, m.classes, m.boxes})) {}

  YoloDecodeParams params(const YoloMaps& m) const {
    return {m, boxes.mutable_data_ptr(), scores.mutable_data_ptr()};
  }
};

inline YoloDecodeBackwardParams yolo_backward_params(const Tensor& grad_boxes, const Tensor& grad_scores,
                                                     const Tensors& preds, const YoloHead& head) {
  const char* op = "yolo_decode_backward";
  YoloDecodeBackwardParams p{};
  p.maps = yolo_maps(op, preds, head);
  const auto check = [&](const char* name, const Tensor& grad, int64_t size) {
    require_like(op, name, grad, "preds[0]", preds[0]);
    const Shape expected{p.maps.batch, p.maps.boxes, size};
    GCV_REQUIRE(grad.sizes() == Sizes(expected), op, ": ", name, " must be ", shape_text(expected), ", got ",
                shape_text(grad), ".");
  };
  check("grad_boxes", grad_boxes, 4);
  check("grad_scores", grad_scores, p.maps.classes);
  p.grad_boxes = grad_boxes.const_data_ptr();
  p.grad_scores = grad_scores.const_data_ptr();
  for (int64_t k = 0; k < 3; ++k) {
    p.grad_boxes_strides[k] = grad_boxes.stride(k);
    p.grad_scores_strides[k] = grad_scores.stride(k);
  }
  return p;
}

// Of yolo_detect, besides the maps and what describes them.
struct YoloLimits {
  double score_threshold, iou_threshold;
  int64_t max_detections;
  bool class_agnostic, multi_label;
  int64_t max_candidates;
};

inline YoloDetectParams yolo_detect_params(const Tensors& preds, const YoloHead& head,
                                           const YoloLimits& limits, const std::optional<Tensor>& letterbox) {
  const char* op = "yolo_detect";
  YoloDetectParams p{};
  p.maps = yolo_maps(op, preds, head);
  p.score_threshold = limits.score_threshold;
  p.iou_threshold = limits.iou_threshold;
  p.max_detections = limits.max_detections;
  p.max_candidates = limits.max_candidates;
  p.class_agnostic = limits.class_agnostic;
  p.multi_label = limits.multi_label;
  GCV_REQUIRE(p.max_detections >= 0, op, ": max_detections must not be negative, got ", p.max_detections,
              ".");
  GCV_REQUIRE(p.max_candidates >= 0, op, ": max_candidates must not be negative, got ", p.max_candidates,
              ".");
  if (!letterbox) return p;
  const Shape expected{p.maps.batch, 5};
  GCV_REQUIRE(letterbox->sizes() == Sizes(expected), op, ": letterbox must be ", shape_text(expected),
              ", got ", shape_text(*letterbox), ".");
  GCV_REQUIRE(letterbox->scalar_type() == ScalarType::Float, op, ": letterbox must be float32, got ",
              dtype_name(letterbox->scalar_type()), ".");
  require_device(op, "letterbox", *letterbox, "preds[0]", preds[0]);
  p.letterbox = static_cast<const float*>(letterbox->const_data_ptr());
  p.letterbox_strides[0] = letterbox->stride(0);
  p.letterbox_strides[1] = letterbox->stride(1);
  return p;
}

struct YoloDetections {
  Tensor boxes, scores, labels, counts;

  YoloDetections(const Tensor& like, int64_t batch, int64_t most)
      : boxes(torch::stable::new_empty(like, {batch, most, 4})),
        scores(torch::stable::new_empty(like, {batch, most})),
        labels(torch::stable::new_empty(like, {batch, most}, ScalarType::Long)),
        counts(torch::stable::new_empty(like, {batch}, ScalarType::Long)) {}

  void put_into(YoloDetectParams& p) const {
    p.out_boxes = boxes.mutable_data_ptr();
    p.out_scores = scores.mutable_data_ptr();
    p.labels = labels.mutable_data_ptr<int64_t>();
    p.counts = counts.mutable_data_ptr<int64_t>();
  }
};

}  // namespace gcv

// What the CPU and CUDA bindings make of the arguments: the checks, which contract.py makes for the other
// backends, and the kernels' parameters.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "common/torch_tensor.h"
#include "rpn/rpn.h"

namespace gcv {

using Tensors = std::vector<Tensor>;
using Numbers = std::vector<int64_t>;

inline void check_alike(const std::string& name, const Tensor& tensor, const Tensor& first) {
  require_like("rpn_proposals", name, tensor, "objectness[0]", first);
}

inline void check_level(size_t i, const Tensor& objectness, const Tensor& deltas, const Tensor& first) {
  const std::string level = "[" + std::to_string(i) + "]";
  GCV_REQUIRE(objectness.dim() == 4, "rpn_proposals: objectness", level, " must be [B, A, H, W], got ",
              shape_text(objectness), ".");
  const Sizes shape = objectness.sizes();
  GCV_REQUIRE(shape[0] == first.size(0), "rpn_proposals: objectness", level,
              " must have the batch size of objectness[0] (", first.size(0), "), got ", shape[0], ".");
  const Shape expected{shape[0], 4 * shape[1], shape[2], shape[3]};
  GCV_REQUIRE(deltas.sizes() == Sizes(expected), "rpn_proposals: deltas", level, " must be ",
              shape_text(expected), ", got ", shape_text(deltas), ".");
  check_alike("objectness" + level, objectness, first);
  check_alike("deltas" + level, deltas, first);
  const int64_t n = shape[1] * shape[2] * shape[3];
  GCV_REQUIRE(n <= INT32_MAX, "rpn_proposals: objectness", level, " must have at most ", INT32_MAX,
              " candidates per image, got ", n, ".");
}

inline void check_anchors(const Tensors& objectness, const Tensor& anchors,
                          const std::optional<Numbers>& strides) {
  int64_t n = 0;
  for (const Tensor& o : objectness) n += strides ? o.size(1) : o.size(1) * o.size(2) * o.size(3);
  const size_t wanted = 2 * objectness.size();
  GCV_REQUIRE(!strides || strides->size() == wanted, "rpn_proposals: strides must be two per level (", wanted,
              "), got ", strides->size(), ".");
  const Shape shared{n, 4}, own{objectness[0].size(0), n, 4};
  const Sizes shape = anchors.sizes();
  GCV_REQUIRE(shape == Sizes(shared) || shape == Sizes(own), "rpn_proposals: anchors must be ",
              shape_text(shared), " or ", shape_text(own), ", got ", shape_text(shape), ".");
  check_alike("anchors", anchors, objectness[0]);
}

inline void check_not_negative(const char* name, const Numbers& numbers) {
  for (int64_t number : numbers)
    GCV_REQUIRE(number >= 0, "rpn_proposals: ", name, " must not be negative, got ", number, ".");
}

inline void check_rpn_proposals(const Tensors& objectness, const Tensors& deltas, const Tensor& anchors,
                                const Numbers& image_sizes, int64_t pre_nms_top_n, int64_t post_nms_top_n,
                                const std::optional<Numbers>& strides) {
  const size_t levels = objectness.size();
  GCV_REQUIRE(levels >= 1 && levels <= kRpnMostLevels, "rpn_proposals: objectness must be 1 to ",
              kRpnMostLevels, " tensors, got ", levels, ".");
  GCV_REQUIRE(deltas.size() == levels, "rpn_proposals: deltas must have one tensor per level (", levels,
              "), got ", deltas.size(), ".");
  const Tensor& first = objectness[0];
  require_float("rpn_proposals", "objectness[0]", first);
  for (size_t i = 0; i < levels; ++i) check_level(i, objectness[i], deltas[i], first);
  check_anchors(objectness, anchors, strides);
  const int64_t wanted = 2 * first.size(0);
  GCV_REQUIRE(int64_t(image_sizes.size()) == wanted, "rpn_proposals: image_sizes must be two per image (",
              wanted, "), got ", image_sizes.size(), ".");
  check_not_negative("pre_nms_top_n", {pre_nms_top_n});
  check_not_negative("post_nms_top_n", {post_nms_top_n});
  check_not_negative("image_sizes", image_sizes);
  if (strides) check_not_negative("strides", *strides);
}

// Of checked arguments, which must outlive it; the caller adds limits, thresholds and outputs.
inline RpnParams rpn_params(const Tensors& objectness, const Tensors& deltas, const Tensor& anchors,
                            const Numbers& image_sizes, int64_t pre_nms_top_n,
                            const std::optional<Numbers>& strides) {
  RpnParams p{};
  p.level_count = int64_t(objectness.size());
  p.batch = objectness[0].size(0);
  p.anchors = anchors.const_data_ptr();
  const int64_t d = anchors.dim();
  p.anchor_image_stride = d == 3 ? anchors.stride(0) : 0;
  p.anchor_stride = anchors.stride(d - 2);
  p.anchor_coord_stride = anchors.stride(d - 1);
  p.grid = strides.has_value();
  p.image_sizes = image_sizes.data();
  p.dtype = kernel_dtype(anchors.scalar_type());
  int64_t first_anchor = 0, first_selected = 0;
  for (size_t i = 0; i < objectness.size(); ++i) {
    RpnLevel& level = p.levels[i];
    level.objectness = objectness[i].const_data_ptr();
    level.deltas = deltas[i].const_data_ptr();
    for (int64_t k = 0; k < 4; ++k) level.objectness_strides[k] = objectness[i].stride(k);
    for (int64_t k = 0; k < 4; ++k) level.deltas_strides[k] = deltas[i].stride(k);
    level.anchors = objectness[i].size(1);
    level.height = objectness[i].size(2);
    level.width = objectness[i].size(3);
    level.first_anchor = first_anchor;
    level.stride_h = strides ? (*strides)[2 * i] : 0;
    level.stride_w = strides ? (*strides)[2 * i + 1] : 0;
    level.selected = std::min(pre_nms_top_n, rpn_size(level));
    level.first_selected = first_selected;
    first_anchor += p.grid ? level.anchors : rpn_size(level);
    first_selected += level.selected;
  }
  return p;
}

}  // namespace gcv

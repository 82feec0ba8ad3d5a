// Argument checks and allocation that the CPU and CUDA bindings of spatial pyramid pooling share; word for
// word the checks of gencv_fast/ops/roi/pyramid/checks.py.
#pragma once

#include <optional>
#include <string>

#include "roi/pyramid.h"
#include "roi/region_checks.h"

namespace gcv {

// The arguments that all ops of the wing have.
struct PyramidOptions {
  const char* op;
  const Shape& levels;
  std::string mode, bins;
  const std::optional<Tensor>& boxes;
  double spatial_scale;
};

inline bool are_pyramid_levels(const Shape& levels) {
  if (levels.empty() || levels.size() > size_t(kMostPyramidLevels)) return false;
  for (int64_t level : levels) {
    if (level < 1 || level > kMostPyramidBins) return false;
  }
  return true;
}

inline void check_pyramid(const PyramidOptions& o, const Tensor& input) {
  if (o.boxes) {
    check_regions(o.op, "input", input, *o.boxes);
  } else {
    require_float(o.op, "input", input);
    GCV_REQUIRE(input.dim() == 4, o.op, ": input must be [N, C, H, W], got ", shape_text(input), ".");
  }
  GCV_REQUIRE(are_pyramid_levels(o.levels), o.op, ": levels must be 1 to ", kMostPyramidLevels,
              " numbers from 1 to ", kMostPyramidBins, ", got ",
              shape_text({o.levels.data(), o.levels.size()}), ".");
  GCV_REQUIRE(o.mode == "max" || o.mode == "avg", o.op, ": mode must be max or avg, got ", o.mode, ".");
  GCV_REQUIRE(o.bins == "paper" || o.bins == "adaptive", o.op, ": bins must be paper or adaptive, got ",
              o.bins, ".");
  GCV_REQUIRE(o.spatial_scale > 0 && o.spatial_scale - o.spatial_scale == 0, o.op,
              ": spatial_scale must be a positive and finite number, got another number.");
  GCV_REQUIRE(input.size(2) * input.size(3) < int64_t(1) << 31, o.op,
              ": input must have fewer than 2^31 cells in a plane, got ", input.size(2), " x ", input.size(3),
              ".");
}

inline PlanesIn planes_of(const Tensor& t) {
  return {t.const_data_ptr(), {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}};
}

// The parameters, and what keeps the regions' memory alive.
struct TensorPyramid {
  TensorRegions boxes;
  Pyramid pyramid;
};

inline TensorPyramid pyramid_of(const PyramidOptions& o, const Tensor& input) {
  const TensorRegions boxes =
      o.boxes ? regions_of(*o.boxes) : TensorRegions{input, {nullptr, input.size(0), 0, DType::f32}};
  if (o.boxes && input.is_cpu()) check_images_of(o.op, boxes, input.size(0));
  Pyramid p{};
  p.images = input.size(0), p.channels = input.size(1), p.height = input.size(2), p.width = input.size(3);
  p.regions = boxes.regions;
  p.whole = !o.boxes;
  p.level_count = int32_t(o.levels.size());
  for (size_t i = 0; i < o.levels.size(); ++i) p.levels[i] = int32_t(o.levels[i]);
  p.average = o.mode == "avg";
  p.paper = o.bins == "paper";
  p.spatial_scale = o.spatial_scale;
  p.dtype = kernel_dtype(input.scalar_type());
  return {boxes, p};
}

// Calls run(PyramidPoolParams) where there is something to do, and returns the features.
template <class Run>
Tensor pyramid_pool_with(const PyramidOptions& o, const Tensor& input, Run run) {
  check_pyramid(o, input);
  const TensorPyramid t = pyramid_of(o, input);
  const Tensor output = new_output(input, {t.pyramid.regions.count, pyramid_features(t.pyramid)});
  if (output.numel() > 0) run(PyramidPoolParams{t.pyramid, planes_of(input), output.mutable_data_ptr()});
  return output;
}

template <class Run>
Tensor pyramid_backward_with(const PyramidOptions& o, const Tensor& grad, const Tensor& input, Run run) {
  check_pyramid(o, input);
  require_like(o.op, "grad", grad, "input", input);
  const TensorPyramid t = pyramid_of(o, input);
  require_same_shape(o.op, "grad", grad, "the result",
                     Shape{t.pyramid.regions.count, pyramid_features(t.pyramid)});
  const Tensor dense = torch::stable::contiguous(grad);
  const Tensor result = new_output_like(input);
  if (result.numel() > 0) {
    run(PyramidBackwardParams{t.pyramid,
                              dense.const_data_ptr(),
                              planes_of(input),
                              result.mutable_data_ptr(),
                              {result.stride(0), result.stride(1), result.stride(2), result.stride(3)}});
  }
  return result;
}

template <class Run>
Tensor pyramid_at_with(const PyramidOptions& o, const Tensor& values, const Tensor& input, Run run) {
  check_pyramid(o, input);
  require_like(o.op, "values", values, "input", input);
  require_same_shape(o.op, "values", values, "input", input.sizes());
  const TensorPyramid t = pyramid_of(o, input);
  const Tensor output = new_output(input, {t.pyramid.regions.count, pyramid_features(t.pyramid)});
  torch::stable::fill_(output, 0.0);
  if (output.numel() > 0) {
    run(PyramidAtParams{t.pyramid, planes_of(values), planes_of(input), output.mutable_data_ptr()});
  }
  return output;
}

}  // namespace gcv

// Argument checks, allocation and parameters that the CPU and CUDA bindings of RoI align share; the sentences
// are those of gencv_fast/ops/roi/align/checks.py. Each *_with function calls run(what keeps the regions,
// params) unless there is nothing to do.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "roi/region_checks.h"
#include "roi/roi_align.h"
#include "roi/roi_align_levels.h"

namespace gcv {

using Tensors = std::vector<Tensor>;
using Numbers = std::vector<int64_t>;
using Scales = std::vector<double>;

inline std::string numbers_text(const Numbers& numbers) {
  return shape_text({numbers.data(), numbers.size()});
}

inline void check_output_size(const char* op, const Numbers& size) {
  GCV_REQUIRE(size.size() == 2, op, ": output_size must be two numbers, got ", size.size(), ".");
  GCV_REQUIRE(size[0] > 0 && size[1] > 0, op, ": output_size must be positive, got ", numbers_text(size),
              ".");
}

inline void check_samples(const char* op, int64_t sampling_ratio) {
  GCV_REQUIRE(sampling_ratio <= INT32_MAX, op, ": sampling_ratio must be at most ", INT32_MAX, ", got ",
              sampling_ratio, ".");
}

inline void check_mode(const char* op, const std::string& mode) {
  GCV_REQUIRE(mode == "avg" || mode == "max", op, ": mode must be 'avg' or 'max', got '", mode, "'.");
}

inline void check_align_grad(const char* op, const Tensor& grad, const Tensor& boxes) {
  require_float(op, "grad", grad);
  GCV_REQUIRE(grad.dim() == 4, op, ": grad must be [K, C, H, W], got ", shape_text(grad), ".");
  GCV_REQUIRE(boxes.scalar_type() == grad.scalar_type() || boxes.scalar_type() == ScalarType::Float, op,
              ": boxes must have the dtype of grad (", dtype_name(grad.scalar_type()),
              ") or be float32, got ", dtype_name(boxes.scalar_type()), ".");
  require_device(op, "boxes", boxes, "grad", grad);
  const bool fits = boxes.dim() == 2 && boxes.size(1) == 5 && boxes.size(0) == grad.size(0);
  GCV_REQUIRE(fits, op, ": boxes must be [", grad.size(0), ", 5], got ", shape_text(boxes), ".");
  check_output_size(op, {grad.size(2), grad.size(3)});
}

inline void check_sizes(const char* op, const char* name, const Numbers& sizes) {
  for (int64_t size : sizes)
    GCV_REQUIRE(size >= 0, op, ": ", name, " must not be negative, got ", numbers_text(sizes), ".");
}

inline void check_scales(const char* op, const Scales& scales, size_t levels) {
  GCV_REQUIRE(levels >= 1 && levels <= size_t(kRoiMostLevels), op, ": features must be 1 to ", kRoiMostLevels,
              " tensors, got ", levels, ".");
  GCV_REQUIRE(scales.size() == levels, op, ": scales must be one per level (", levels, "), got ",
              scales.size(), ".");
  for (double scale : scales)
    GCV_REQUIRE(scale > 0 && scale < INFINITY, op, ": scales must be positive, got ", scale, ".");
  const auto level = [](double scale) { return int64_t(-std::log2(scale)); };
  const int64_t span = level(scales.back()) - level(scales.front());
  GCV_REQUIRE(span >= 0 && span < kRoiMostLevels, op, ": scales must fall, to no less than 2^-",
              kRoiMostLevels - 1, " of the first, got ", scales.front(), " and ", scales.back(),
              " at the ends.");
}

inline void check_canonical_scale(const char* op, int64_t scale) {
  GCV_REQUIRE(scale > 0, op, ": canonical_scale must be positive, got ", scale, ".");
}

inline void check_features(const char* op, const Tensors& features, const Tensor& boxes) {
  const Tensor& first = features[0];
  check_regions(op, "features[0]", first, boxes);
  for (size_t i = 0; i < features.size(); ++i) {
    const std::string name = "features[" + std::to_string(i) + "]";
    const Tensor& level = features[i];
    GCV_REQUIRE(level.dim() == 4, op, ": ", name, " must be [N, C, H, W], got ", shape_text(level), ".");
    GCV_REQUIRE(level.size(0) == first.size(0) && level.size(1) == first.size(1), op, ": ", name,
                " must have the images and channels of features[0] (", shape_text(first.sizes().slice(0, 2)),
                "), got ", shape_text(level.sizes().slice(0, 2)), ".");
    require_like(op, name, level, "features[0]", first);
  }
}

inline RoiAlignMap map_of(const Tensor& t, double scale) {
  return {
      t.const_data_ptr(), {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}, t.size(2), t.size(3), scale};
}

// A map of which only the size is known.
inline RoiAlignMap map_of_size(int64_t height, int64_t width, double scale) {
  return {nullptr, {0, 0, 0, 0}, height, width, scale};
}

inline RoiAlignRegions align_regions(const TensorRegions& boxes, const Tensor& like, int64_t batch,
                                     const Numbers& output_size, int64_t sampling_ratio, bool aligned,
                                     bool is_max) {
  RoiAlignRegions r{};
  r.boxes = boxes.regions;
  r.batch = batch;
  r.channels = like.size(1);
  r.pooled_height = output_size[0];
  r.pooled_width = output_size[1];
  r.sampling_ratio = sampling_ratio;
  r.aligned = aligned;
  r.is_max = is_max;
  r.dtype = kernel_dtype(like.scalar_type());
  return r;
}

inline void set_areas(RoiAlignRegions& r, const Scales& scales, int64_t canonical_scale,
                      int64_t canonical_level) {
  const auto areas = roi_level_areas(scales, canonical_scale, canonical_level, r.boxes.dtype == DType::f64);
  r.area_count = int64_t(areas.size());
  std::copy(areas.begin(), areas.end(), r.areas);
}

// [rows, C, height, width], dense in the format that is asked for.
inline Tensor new_maps(const Tensor& like, int64_t rows, int64_t channels, int64_t height, int64_t width,
                       bool channels_last) {
  if (!channels_last) return new_output(like, {rows, channels, height, width});
  const Tensor pixels = new_output(like, {rows, height, width, channels});
  return torch::stable::transpose(torch::stable::transpose(pixels, 1, 3), 2, 3);
}

template <class Run>
Tensor roi_align_with(const Tensor& input, const Tensor& boxes, const Numbers& output_size,
                      double spatial_scale, int64_t sampling_ratio, bool aligned, const std::string& mode,
                      bool channels_last, const Run& run) {
  const char* op = "roi_align";
  check_regions(op, "input", input, boxes);
  check_output_size(op, output_size);
  check_spatial_scale(op, spatial_scale);
  check_samples(op, sampling_ratio);
  check_mode(op, mode);
  const TensorRegions rows = regions_of(boxes);
  RoiAlignParams p{};
  p.regions = align_regions(rows, input, input.size(0), output_size, sampling_ratio, aligned, mode == "max");
  p.regions.level_count = 1;
  p.regions.levels[0] = map_of(input, spatial_scale);
  const Tensor output =
      new_maps(input, boxes.size(0), input.size(1), output_size[0], output_size[1], channels_last);
  p.output = output.mutable_data_ptr();
  p.output_channels_last = channels_last;
  run(op, rows, p);
  return output;
}

template <class Run>
Tensor multiscale_roi_align_with(const Tensors& features, const Tensor& boxes, const Numbers& output_size,
                                 const Scales& scales, int64_t sampling_ratio, int64_t canonical_scale,
                                 int64_t canonical_level, bool aligned, const Run& run) {
  const char* op = "multiscale_roi_align";
  check_scales(op, scales, features.size());
  check_features(op, features, boxes);
  check_output_size(op, output_size);
  check_samples(op, sampling_ratio);
  check_canonical_scale(op, canonical_scale);
  const Tensor& first = features[0];
  const TensorRegions rows = regions_of(boxes);
  RoiAlignParams p{};
  p.regions = align_regions(rows, first, first.size(0), output_size, sampling_ratio, aligned, false);
  p.regions.level_count = int64_t(features.size());
  for (size_t i = 0; i < features.size(); ++i) p.regions.levels[i] = map_of(features[i], scales[i]);
  set_areas(p.regions, scales, canonical_scale, canonical_level);
  const Tensor output = new_maps(first, boxes.size(0), first.size(1), output_size[0], output_size[1], false);
  p.output = output.mutable_data_ptr();
  run(op, rows, p);
  return output;
}

inline void set_grad(RoiAlignBackwardParams& p, const Tensor& grad, bool channels_last) {
  p.grad = grad.const_data_ptr();
  for (int d = 0; d < 4; ++d) p.grad_strides[d] = grad.stride(d);
  p.grad_maps_channels_last = channels_last;
}

template <class Run>
std::tuple<Tensor, Tensor> roi_align_backward_with(const Tensor& grad, const Tensor& boxes,
                                                   const std::optional<Tensor>& input, const Numbers& sizes,
                                                   double spatial_scale, int64_t sampling_ratio, bool aligned,
                                                   const std::string& mode, bool differentiable_boxes,
                                                   bool channels_last, const Run& run) {
  const char* op = "roi_align_backward";
  GCV_REQUIRE(sizes.size() == 3, op, ": input_size must be three numbers, got ", sizes.size(), ".");
  check_sizes(op, "input_size", sizes);
  check_align_grad(op, grad, boxes);
  check_spatial_scale(op, spatial_scale);
  check_samples(op, sampling_ratio);
  check_mode(op, mode);
  const bool needed = mode == "max" || differentiable_boxes;
  GCV_REQUIRE(!needed || input, op, ": input must be given for mode 'max' and for gradients of boxes.");
  if (input) {
    require_like(op, "input", *input, "grad", grad);
    const Shape expected{sizes[0], grad.size(1), sizes[1], sizes[2]};
    require_same_shape(op, "input", *input, "input_size", expected);
  }
  const TensorRegions rows = regions_of(boxes);
  RoiAlignBackwardParams p{};
  p.regions = align_regions(rows, grad, sizes[0], {grad.size(2), grad.size(3)}, sampling_ratio, aligned,
                            mode == "max");
  p.regions.level_count = 1;
  p.regions.levels[0] =
      needed ? map_of(*input, spatial_scale) : map_of_size(sizes[1], sizes[2], spatial_scale);
  set_grad(p, grad, channels_last);
  const Tensor grad_input = new_maps(grad, sizes[0], grad.size(1), sizes[1], sizes[2], channels_last);
  p.grad_maps[0] = grad_input.mutable_data_ptr();
  const Tensor grad_boxes = differentiable_boxes ? torch::stable::new_empty(boxes, boxes.sizes())
                                                 : torch::stable::new_zeros(boxes, boxes.sizes());
  p.grad_boxes = differentiable_boxes ? grad_boxes.mutable_data_ptr() : nullptr;
  run(op, rows, p);
  return {grad_input, grad_boxes};
}

template <class Run>
Tensors multiscale_roi_align_backward_with(const Tensor& grad, const Tensor& boxes, const Numbers& sizes,
                                           const Scales& scales, int64_t sampling_ratio,
                                           int64_t canonical_scale, int64_t canonical_level, bool aligned,
                                           bool channels_last, const Run& run) {
  const char* op = "multiscale_roi_align_backward";
  check_scales(op, scales, scales.size());
  GCV_REQUIRE(sizes.size() == 2 * scales.size() + 1, op, ": feature_sizes must be ", 2 * scales.size() + 1,
              " numbers, got ", sizes.size(), ".");
  check_sizes(op, "feature_sizes", sizes);
  check_align_grad(op, grad, boxes);
  check_samples(op, sampling_ratio);
  check_canonical_scale(op, canonical_scale);
  const TensorRegions rows = regions_of(boxes);
  RoiAlignBackwardParams p{};
  p.regions =
      align_regions(rows, grad, sizes[0], {grad.size(2), grad.size(3)}, sampling_ratio, aligned, false);
  p.regions.level_count = int64_t(scales.size());
  set_areas(p.regions, scales, canonical_scale, canonical_level);
  set_grad(p, grad, channels_last);
  Tensors grads;
  for (size_t i = 0; i < scales.size(); ++i) {
    const int64_t height = sizes[2 * i + 1], width = sizes[2 * i + 2];
    p.regions.levels[i] = map_of_size(height, width, scales[i]);
    grads.push_back(new_maps(grad, sizes[0], grad.size(1), height, width, channels_last));
    p.grad_maps[i] = grads.back().mutable_data_ptr();
  }
  run(op, rows, p);
  return grads;
}

}  // namespace gcv

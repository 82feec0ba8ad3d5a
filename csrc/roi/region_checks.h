// Checks of regions and of the maps that they lie on, which all bindings of the room share; word for word
// those of gencv_fast/ops/roi/regions.py.
#pragma once

#include <string_view>

#include "common/torch_tensor.h"
#include "roi/regions.h"

namespace gcv {

// `maps` is [N, C, H, W], `boxes` [K, 5] of the same dtype or float32.
inline void check_regions(const char* op, std::string_view name, const Tensor& maps, const Tensor& boxes) {
  require_float(op, name, maps);
  GCV_REQUIRE(maps.dim() == 4, op, ": ", name, " must be [N, C, H, W], got ", shape_text(maps), ".");
  GCV_REQUIRE(boxes.scalar_type() == maps.scalar_type() || boxes.scalar_type() == ScalarType::Float, op,
              ": boxes must have the dtype of ", name, " (", dtype_name(maps.scalar_type()),
              ") or be float32, got ", dtype_name(boxes.scalar_type()), ".");
  require_device(op, "boxes", boxes, name, maps);
  GCV_REQUIRE(boxes.dim() == 2 && boxes.size(1) == 5, op, ": boxes must be [K, 5], got ", shape_text(boxes),
              ".");
}

// Regions and what keeps their memory alive.
struct TensorRegions {
  Tensor owner;
  Regions regions;
};

// In place where the five numbers are neighbours, else those of a dense copy.
inline TensorRegions regions_of(const Tensor& boxes) {
  const Tensor owner = boxes.stride(1) == 1 ? boxes : torch::stable::contiguous(boxes);
  return {owner, {owner.const_data_ptr(), owner.size(0), owner.stride(0), kernel_dtype(owner.scalar_type())}};
}

// On the CPU, where looking costs nothing, an index of no image is an error. On a GPU such a region gives
// NaN.
inline void check_images_of(const char* op, const TensorRegions& boxes, int64_t images) {
  for (int64_t k = 0; k < boxes.regions.count; ++k) {
    GCV_REQUIRE(read_region<double>(boxes.regions, k, images).image >= 0, op, ": boxes[", k,
                ", 0] must be the index of one of ", images, " images, got another number.");
  }
}

inline void check_spatial_scale(const char* op, double spatial_scale) {
  GCV_REQUIRE(spatial_scale - spatial_scale == 0, op, ": spatial_scale must be finite, got another number.");
}

}  // namespace gcv

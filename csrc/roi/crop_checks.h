// Argument checks and allocation that the CPU and CUDA bindings share; checks.py makes the same checks for
// the other backends. Each *_with function checks, allocates, calls run(Params) and returns the result.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/torch_tensor.h"
#include "roi/crop.h"

namespace gcv {

using ChannelNumbers = std::optional<std::vector<double>>;

inline bool is_kernel_or_byte(ScalarType type) { return is_kernel_dtype(type) || type == ScalarType::Byte; }

inline ScalarType crop_result_type(const Tensor& images) {
  return images.scalar_type() == ScalarType::Byte ? ScalarType::Float : images.scalar_type();
}

// Whether the channels of a pixel are neighbours and pixels follow each other: then the result is alike.
inline bool is_channels_last(const Tensor& maps) {
  return maps.size(1) > 1 && maps.stride(1) == 1 && maps.stride(3) == maps.size(1);
}

inline void check_crop_images(const char* op, const Tensor& images) {
  GCV_REQUIRE(is_kernel_or_byte(images.scalar_type()), op,
              ": images must be uint8, float16, bfloat16, float32 or float64, got ",
              dtype_name(images.scalar_type()), ".");
  GCV_REQUIRE(images.dim() == 4, op, ": images must be [N, C, H, W], got ", shape_text(images), ".");
  GCV_REQUIRE(images.size(2) > 0 && images.size(3) > 0, op,
              ": images must have at least one row and one column, got ", shape_text(images), ".");
}

// `maps`, called `name`, has the dtype and the device that boxes must have.
inline void check_crop_boxes(const char* op, std::string_view name, const Tensor& maps, const Tensor& boxes,
                             const Tensor& box_indices) {
  if (maps.scalar_type() == ScalarType::Byte) {
    require_float(op, "boxes", boxes);
  } else {
    GCV_REQUIRE(boxes.scalar_type() == maps.scalar_type() || boxes.scalar_type() == ScalarType::Float, op,
                ": boxes must have the dtype of ", name, " (", dtype_name(maps.scalar_type()),
                ") or be float32, got ", dtype_name(boxes.scalar_type()), ".");
  }
  require_device(op, "boxes", boxes, name, maps);
  GCV_REQUIRE(boxes.dim() == 2 && boxes.size(1) == 4, op, ": boxes must be [K, 4], got ", shape_text(boxes),
              ".");
  const ScalarType type = box_indices.scalar_type();
  GCV_REQUIRE(type == ScalarType::Int || type == ScalarType::Long, op,
              ": box_indices must be int32 or int64, got ", dtype_name(type), ".");
  require_device(op, "box_indices", box_indices, name, maps);
  GCV_REQUIRE(box_indices.dim() == 1 && box_indices.size(0) == boxes.size(0), op,
              ": box_indices must be [K] with K = ", boxes.size(0), ", got ", shape_text(box_indices), ".");
}

inline void check_crop_method(const char* op, const std::string& method) {
  GCV_REQUIRE(method == "bilinear" || method == "nearest", op,
              ": method must be 'bilinear' or 'nearest', got '", method, "'.");
}

inline void check_crop_channels(const char* op, const char* name, const ChannelNumbers& numbers,
                                int64_t channels) {
  GCV_REQUIRE(!numbers || int64_t(numbers->size()) == channels, op, ": ", name,
              " must be one number for each of ", channels, " channels, got ", numbers->size(), ".");
}

// On the CPU, where looking costs nothing, an index of no image is an error. On a GPU such a box gives NaN.
inline void check_crop_indices(const char* op, const CropBoxes& boxes, int64_t images) {
  for (int64_t k = 0; k < boxes.count; ++k) {
    const int64_t at = k * boxes.index_stride;
    const int64_t image = boxes.wide_indices ? static_cast<const int64_t*>(boxes.indices)[at]
                                             : int64_t(static_cast<const int32_t*>(boxes.indices)[at]);
    GCV_REQUIRE(image >= 0 && image < images, op, ": box_indices[", k, "] must be the index of one of ",
                images, " images, got ", image, ".");
  }
}

inline void check_crop_grad_rank(const char* op, const Tensor& grad) {
  GCV_REQUIRE(grad.dim() == 4, op, ": grad must be [K, C, height, width], got ", shape_text(grad), ".");
  GCV_REQUIRE(grad.size(2) > 0 && grad.size(3) > 0, op,
              ": grad must have at least one row and one column, got ", shape_text(grad), ".");
}

inline CropBoxes crop_boxes_of(const Tensor& boxes, const Tensor& box_indices) {
  return {boxes.const_data_ptr(),
          kernel_dtype(boxes.scalar_type()),
          boxes.stride(0),
          boxes.stride(1),
          box_indices.const_data_ptr(),
          box_indices.scalar_type() == ScalarType::Long,
          box_indices.stride(0),
          boxes.size(0)};
}

inline CropMaps crop_maps_of(const Tensor& t) {
  return {t.const_data_ptr(), t.size(0), t.size(1),
          t.size(2),          t.size(3), {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}};
}

inline const double* numbers_of(const ChannelNumbers& numbers) { return numbers ? numbers->data() : nullptr; }

inline Tensor new_maps(const Tensor& like, const Shape& shape, bool channels_last, ScalarType type) {
  if (!channels_last) return new_output(like, shape, type);
  const Tensor pixels = new_output(like, Shape{shape[0], shape[2], shape[3], shape[1]}, type);
  return torch::stable::transpose(torch::stable::transpose(pixels, 1, 3), 2, 3);
}

// Dense in the layout that it has, or that comes nearest.
inline Tensor dense_maps(const Tensor& maps) {
  using torch::headeronly::MemoryFormat;
  return torch::stable::contiguous(
      maps, is_channels_last(maps) ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

template <class Run>
Tensor crop_and_resize_with(const Tensor& images, const Tensor& boxes, const Tensor& box_indices,
                            const std::vector<int64_t>& size, const std::string& method,
                            double extrapolation_value, const ChannelNumbers& mean, const ChannelNumbers& std,
                            bool differentiable_boxes, const Run& run) {
  const char* op = "crop_and_resize";
  check_crop_images(op, images);
  check_crop_boxes(op, "images", images, boxes, box_indices);
  GCV_REQUIRE(size.size() == 2, op, ": size must be (height, width), got ", size.size(), " numbers.");
  GCV_REQUIRE(size[0] > 0 && size[1] > 0, op, ": size must be positive, got (", size[0], ", ", size[1], ").");
  check_crop_method(op, method);
  check_crop_channels(op, "mean", mean, images.size(1));
  check_crop_channels(op, "std", std, images.size(1));
  GCV_REQUIRE(method == "bilinear" || !differentiable_boxes, op,
              ": differentiable_boxes must be False for method '", method, "', got True.");
  const bool channels_last = is_channels_last(images);
  const ScalarType type = crop_result_type(images);
  const Tensor crops =
      new_maps(images, {boxes.size(0), images.size(1), size[0], size[1]}, channels_last, type);
  run(CropParams{crop_boxes_of(boxes, box_indices), crop_maps_of(images),
                 images.scalar_type() == ScalarType::Byte, channels_last, crops.mutable_data_ptr(), size[0],
                 size[1], kernel_dtype(type), method == "nearest", extrapolation_value, numbers_of(mean),
                 numbers_of(std)});
  return crops;
}

template <class Run>
Tensor crop_and_resize_backward_with(const Tensor& grad, const Tensor& boxes, const Tensor& box_indices,
                                     const std::vector<int64_t>& image_size, const std::string& method,
                                     const ChannelNumbers& std, const Run& run) {
  const char* op = "crop_and_resize_backward";
  require_float(op, "grad", grad);
  check_crop_grad_rank(op, grad);
  check_crop_boxes(op, "grad", grad, boxes, box_indices);
  GCV_REQUIRE(grad.size(0) == boxes.size(0), op, ": grad must have the length of boxes (", boxes.size(0),
              "), got ", shape_text(grad), ".");
  GCV_REQUIRE(image_size.size() == 3, op, ": image_size must be (number, height, width), got ",
              image_size.size(), " numbers.");
  const int64_t number = image_size[0], height = image_size[1], width = image_size[2];
  GCV_REQUIRE(number >= 0 && height > 0 && width > 0, op, ": image_size must be of images with pixels, got (",
              number, ", ", height, ", ", width, ").");
  check_crop_method(op, method);
  check_crop_channels(op, "std", std, grad.size(1));
  const bool channels_last = is_channels_last(grad);
  const Tensor dense = dense_maps(grad);
  const Tensor images =
      new_maps(grad, {number, grad.size(1), height, width}, channels_last, grad.scalar_type());
  void* data = images.mutable_data_ptr();
  run(CropBackwardParams{crop_boxes_of(boxes, box_indices), crop_maps_of(dense), channels_last, data, data,
                         number, height, width, kernel_dtype(grad.scalar_type()), method == "nearest",
                         numbers_of(std)});
  return images;
}

template <class Run>
Tensor crop_and_resize_boxes_backward_with(const Tensor& grad, const Tensor& images, const Tensor& boxes,
                                           const Tensor& box_indices, const ChannelNumbers& std,
                                           const Run& run) {
  const char* op = "crop_and_resize_boxes_backward";
  check_crop_images(op, images);
  check_crop_boxes(op, "images", images, boxes, box_indices);
  const ScalarType type = crop_result_type(images);
  require_dtype(op, "grad", grad, "the result", type);
  require_device(op, "grad", grad, "images", images);
  check_crop_grad_rank(op, grad);
  GCV_REQUIRE(grad.size(0) == boxes.size(0) && grad.size(1) == images.size(1), op,
              ": grad must have the length of boxes (", boxes.size(0), ") and ", images.size(1),
              " channels, got ", shape_text(grad), ".");
  check_crop_channels(op, "std", std, images.size(1));
  const Tensor grad_boxes = new_output(boxes, boxes.sizes());
  run(CropBoxesBackwardParams{crop_boxes_of(boxes, box_indices), crop_maps_of(grad), crop_maps_of(images),
                              images.scalar_type() == ScalarType::Byte, grad_boxes.mutable_data_ptr(),
                              kernel_dtype(type), numbers_of(std)});
  return grad_boxes;
}

}  // namespace gcv

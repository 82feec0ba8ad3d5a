// Argument checks and allocation that the CPU and CUDA bindings share; word for word those of
// gencv_fast/ops/roi/masks/checks.py. Each *_with function checks, allocates, calls run(Params) and returns
// the result.
#pragma once

#include <string_view>
#include <vector>

#include "common/torch_tensor.h"
#include "roi/masks.h"

namespace gcv {

inline void check_pasted(const char* op, std::string_view name, const Tensor& maps, const Tensor& boxes,
                         const char* size_name, const std::vector<int64_t>& size, int64_t padding) {
  require_float(op, name, maps);
  GCV_REQUIRE(maps.dim() == 4, op, ": ", name, " must be [K, C, H, W], got ", shape_text(maps), ".");
  GCV_REQUIRE(boxes.scalar_type() == maps.scalar_type() || boxes.scalar_type() == ScalarType::Float, op,
              ": boxes must have the dtype of ", name, " (", dtype_name(maps.scalar_type()),
              ") or be float32, got ", dtype_name(boxes.scalar_type()), ".");
  require_device(op, "boxes", boxes, name, maps);
  GCV_REQUIRE(boxes.dim() == 2 && boxes.size(0) == maps.size(0) && boxes.size(1) == 4, op,
              ": boxes must be [", maps.size(0), ", 4], got ", shape_text(boxes), ".");
  GCV_REQUIRE(size.size() == 2, op, ": ", size_name, " must be two numbers, got ", size.size(), ".");
  GCV_REQUIRE(padding >= 0, op, ": padding must not be negative, got ", padding, ".");
}

struct TensorMaskBoxes {
  Tensor owner;
  MaskBoxes boxes;
};

inline TensorMaskBoxes mask_boxes_of(const Tensor& boxes) {
  const Tensor owner = boxes.stride(1) == 1 ? boxes : torch::stable::contiguous(boxes);
  return {owner, {owner.const_data_ptr(), owner.stride(0), kernel_dtype(owner.scalar_type())}};
}

inline MaskGrids grids_of(const Tensor& maps) {
  return {maps.const_data_ptr(), maps.size(0),
          maps.size(1),          maps.size(2),
          maps.size(3),          maps.stride(0),
          maps.stride(1),        maps.stride(2),
          maps.stride(3),        kernel_dtype(maps.scalar_type())};
}

template <class Run>
Tensor paste_masks_with(const Tensor& masks, const Tensor& boxes, const std::vector<int64_t>& size,
                        int64_t padding, Run run) {
  const char* op = "paste_masks";
  check_pasted(op, "masks", masks, boxes, "image_size", size, padding);
  GCV_REQUIRE(masks.size(2) > 0 && masks.size(3) > 0, op,
              ": masks must have at least one row and one column, got ", shape_text(masks), ".");
  for (int64_t side : size) GCV_REQUIRE(side >= 0, op, ": image_size must not be negative, got ", side, ".");
  const Tensor images = new_output(masks, Shape{masks.size(0), masks.size(1), size[0], size[1]});
  const TensorMaskBoxes rows = mask_boxes_of(boxes);
  run(PasteMasksParams{grids_of(masks), rows.boxes, padding, images.mutable_data_ptr(), size[0], size[1]});
  return images;
}

template <class Run>
Tensor paste_masks_backward_with(const Tensor& grad, const Tensor& boxes, const std::vector<int64_t>& size,
                                 int64_t padding, Run run) {
  const char* op = "paste_masks_backward";
  check_pasted(op, "grad", grad, boxes, "mask_size", size, padding);
  for (int64_t side : size) GCV_REQUIRE(side > 0, op, ": mask_size must be positive, got ", side, ".");
  const Tensor grad_masks = new_output(grad, Shape{grad.size(0), grad.size(1), size[0], size[1]});
  const TensorMaskBoxes rows = mask_boxes_of(boxes);
  run(PasteMasksBackwardParams{grids_of(grad), rows.boxes, padding, grad_masks.mutable_data_ptr(),
                               grad_masks.mutable_data_ptr(), size[0], size[1]});
  return grad_masks;
}

}  // namespace gcv

// crop_and_resize for CUDA tensors; in the emulated build, for CPU tensors.
#include "common/torch_cuda.h"
#include "roi/crop_checks.h"
#include "roi/crop_cuda.h"

namespace gcv {
namespace {

Tensor crop_and_resize(const Tensor& images, const Tensor& boxes, const Tensor& box_indices,
                       std::vector<int64_t> size, std::string method, double extrapolation_value,
                       ChannelNumbers mean, ChannelNumbers std, bool differentiable_boxes) {
  return crop_and_resize_with(images, boxes, box_indices, size, method, extrapolation_value, mean, std,
                              differentiable_boxes, on_current_stream(images, crop_and_resize_cuda));
}

Tensor crop_and_resize_backward(const Tensor& grad, const Tensor& boxes, const Tensor& box_indices,
                                std::vector<int64_t> image_size, std::string method, ChannelNumbers std) {
  return crop_and_resize_backward_with(grad, boxes, box_indices, image_size, method, std,
                                       on_current_stream(grad, crop_and_resize_backward_cuda));
}

Tensor crop_and_resize_boxes_backward(const Tensor& grad, const Tensor& images, const Tensor& boxes,
                                      const Tensor& box_indices, ChannelNumbers std) {
  return crop_and_resize_boxes_backward_with(
      grad, images, boxes, box_indices, std, [&](const CropBoxesBackwardParams& p) {
        const Tensor sums = torch::stable::new_empty(boxes, {boxes.size(0), 4}, ScalarType::Double);
        on_current_stream(images, crop_and_resize_boxes_backward_cuda)({p, sums.mutable_data_ptr<double>()});
      });
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "crop_and_resize(Tensor images, Tensor boxes, Tensor box_indices, SymInt[] size, str "
      "method='bilinear', "
      "float extrapolation_value=0.0, float[]? mean=None, float[]? std=None, bool "
      "differentiable_boxes=False) "
      "-> Tensor");
  m.def(
      "crop_and_resize_backward(Tensor grad, Tensor boxes, Tensor box_indices, SymInt[] image_size, "
      "str method, float[]? std) -> Tensor");
  m.def(
      "crop_and_resize_boxes_backward(Tensor grad, Tensor images, Tensor boxes, Tensor box_indices, "
      "float[]? std) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("crop_and_resize", TORCH_BOX(&crop_and_resize));
  m.impl("crop_and_resize_backward", TORCH_BOX(&crop_and_resize_backward));
  m.impl("crop_and_resize_boxes_backward", TORCH_BOX(&crop_and_resize_boxes_backward));
}

}  // namespace
}  // namespace gcv

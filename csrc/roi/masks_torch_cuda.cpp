// paste_masks for CUDA tensors; in the emulated build, for CPU tensors.
#include "common/torch_cuda.h"
#include "roi/masks_checks.h"
#include "roi/masks_cuda.h"

namespace gcv {
namespace {

Tensor paste_masks(const Tensor& masks, const Tensor& boxes, std::vector<int64_t> image_size,
                   int64_t padding) {
  return paste_masks_with(masks, boxes, image_size, padding, on_current_stream(masks, paste_masks_cuda));
}

Tensor paste_masks_backward(const Tensor& grad, const Tensor& boxes, std::vector<int64_t> mask_size,
                            int64_t padding) {
  return paste_masks_backward_with(grad, boxes, mask_size, padding,
                                   on_current_stream(grad, paste_masks_backward_cuda));
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def("paste_masks(Tensor masks, Tensor boxes, SymInt[] image_size, int padding=1) -> Tensor");
  m.def("paste_masks_backward(Tensor grad, Tensor boxes, SymInt[] mask_size, int padding=1) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("paste_masks", TORCH_BOX(&paste_masks));
  m.impl("paste_masks_backward", TORCH_BOX(&paste_masks_backward));
}

}  // namespace
}  // namespace gcv

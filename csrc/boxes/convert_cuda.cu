// Conversion between box formats on the device.
#include "boxes/coding_cuda.h"
#include "boxes/convert_rows.h"
#include "boxes/row_map_cuda.h"

namespace gcv {
namespace {

template <class Element>
cudaError_t convert(const BoxConvertParams& p, cudaStream_t stream) {
  using T = typename Compute<Element>::type;
  return with_conversion<T>(p.from, p.to, cudaErrorInvalidValue, [&](auto step) {
    return map_rows<ConvertRow<T, decltype(step)>, Element>({}, {p.boxes}, {p.converted}, p.n, stream);
  });
}

template <class Element>
cudaError_t convert_backward(const BoxConvertBackwardParams& p, cudaStream_t stream) {
  using T = typename Compute<Element>::type;
  return with_conversion<T>(p.from, p.to, cudaErrorInvalidValue, [&](auto step) {
    return map_rows<ConvertBackwardRow<T, decltype(step)>, Element>({}, {p.grad, p.boxes}, {p.grad_boxes},
                                                                    p.n, stream);
  });
}

}  // namespace

cudaError_t box_convert_cuda(const BoxConvertParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, convert, p, stream);
}

cudaError_t box_convert_backward_cuda(const BoxConvertBackwardParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, convert_backward, p, stream);
}

}  // namespace gcv

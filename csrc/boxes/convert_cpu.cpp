// Conversion between box formats on the CPU.
#include "boxes/convert_rows.h"
#include "boxes/row_map_cpu.h"

namespace gcv::GCV_ISA {
namespace {

template <class Element>
void convert(const BoxConvertParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  with_conversion<T>(p.from, p.to, false, [&](auto step) {
    map_rows<ConvertRow<T, decltype(step)>, Element>({}, {p.boxes}, {p.converted}, begin, end);
    return true;
  });
}

template <class Element>
void convert_backward(const BoxConvertBackwardParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  with_conversion<T>(p.from, p.to, false, [&](auto step) {
    map_rows<ConvertBackwardRow<T, decltype(step)>, Element>({}, {p.grad, p.boxes}, {p.grad_boxes}, begin,
                                                             end);
    return true;
  });
}

}  // namespace

void box_convert_cpu(const BoxConvertParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, convert, p, begin, end);
}

void box_convert_backward_cpu(const BoxConvertBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, convert_backward, p, begin, end);
}

}  // namespace gcv::GCV_ISA

// Losses of pairs of boxes, and their gradients, on the CPU: a vector of pairs at a time.
#include "boxes/iou_terms.h"

namespace gcv::GCV_ISA {
namespace {

template <IouKind kKind, class Element>
void loss(const IouLossParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const auto* boxes1 = static_cast<const Element*>(p.boxes1);
  const auto* boxes2 = static_cast<const Element*>(p.boxes2);
  auto* result = static_cast<T*>(p.result);
  for (int64_t i = begin; i < end; i += kLanes<T>) {
    const auto a = terms_of<kKind>(load_boxes(boxes1 + 4 * i, 4, 1, end - i));
    const auto b = terms_of<kKind>(load_boxes(boxes2 + 4 * i, 4, 1, end - i));
    store_some(result + i, overlap_value<kKind, IouForm::loss>(a, b, T(p.eps)), end - i);
  }
}

template <IouKind kKind, class Element>
void backward(const IouLossBackwardParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const auto* boxes1 = static_cast<const Element*>(p.boxes1);
  const auto* boxes2 = static_cast<const Element*>(p.boxes2);
  for (int64_t i = begin; i < end; i += kLanes<T>) {
    const auto a = sloped_terms_of<kKind>(load_boxes(boxes1 + 4 * i, 4, 1, end - i));
    const auto b = sloped_terms_of<kKind>(load_boxes(boxes2 + 4 * i, 4, 1, end - i));
    const Simd<T> grad = load_some(static_cast<const T*>(p.grad) + i, 1, end - i);
    const auto slopes = overlap_slopes<kKind, IouForm::loss>(a, b, -grad, T(p.eps));
    store_boxes(box_gradient<kKind>(a, b.box, slopes), static_cast<Element*>(p.grad1) + 4 * i, end - i);
    store_boxes(box_gradient<kKind>(b, a.box, swapped(slopes)), static_cast<Element*>(p.grad2) + 4 * i,
                end - i);
  }
}

template <class Element>
void loss_of(const IouLossParams& p, int64_t begin, int64_t end) {
  GCV_BY_LOSS_KIND(p.kind, loss, Element, p, begin, end);
}

template <class Element>
void backward_of(const IouLossBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_LOSS_KIND(p.kind, backward, Element, p, begin, end);
}

}  // namespace

void iou_loss_cpu(const IouLossParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, loss_of, p, begin, end);
}

void iou_loss_backward_cpu(const IouLossBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, backward_of, p, begin, end);
}

}  // namespace gcv::GCV_ISA

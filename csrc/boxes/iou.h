// Overlap metrics of axis-aligned boxes, the losses made of them, and the derivatives of both. V is float,
// double, or (CPU only) a SIMD vector of them; T is its lane. Free of torch.
#pragma once

#include <cstdint>

#include "boxes/atan.h"
#include "common/box.h"

namespace gcv {

enum class IouKind : int32_t { iou, giou, diou, ciou };

// torchvision's pairwise metrics and its losses differ at the edges. Metrics clamp lengths at 0, where the
// gradient stops. Losses leave the hull of reversed boxes negative, and add eps to each divisor.
enum class IouForm : int32_t { metric, loss };

template <IouKind kKind>
inline constexpr bool kHasHull = kKind != IouKind::iou;
template <IouKind kKind>
inline constexpr bool kHasCentre = kKind == IouKind::diou || kKind == IouKind::ciou;
template <IouKind kKind>
inline constexpr bool kHasAngle = kKind == IouKind::ciou;

// What a box brings to each of its pairs. Fields that the kind does not use are left alone.
template <class V>
struct BoxTerms {
  Box<V> box;
  V area;
  V centre_x, centre_y;
  V angle;             // atan(width / height)
  V angle_w, angle_h;  // its derivatives
};

template <IouKind kKind, class V>
GCV_HD BoxTerms<V> terms_of(const Box<V>& box) {
  using T = Lane<V>;
  BoxTerms<V> terms;
  terms.box = box;
  terms.area = area(box);
  if constexpr (kHasCentre<kKind>) {
    terms.centre_x = (box.x1 + box.x2) * T(0.5);
    terms.centre_y = (box.y1 + box.y2) * T(0.5);
  }
  if constexpr (kHasAngle<kKind>) terms.angle = atan_of_ratio(box.x2 - box.x1, box.y2 - box.y1);
  return terms;
}

// As terms_of, with what the gradient needs besides. A box without height has NaN for derivatives of its
// angle, as autograd finds.
template <IouKind kKind, class V>
GCV_HD BoxTerms<V> sloped_terms_of(const Box<V>& box) {
  BoxTerms<V> terms = terms_of<kKind>(box);
  if constexpr (kHasAngle<kKind>) {
    const V one = V{} + Lane<V>(1);
    const V per_height = exact::div(one, box.y2 - box.y1);
    const V ratio = (box.x2 - box.x1) * per_height;
    terms.angle_w = exact::div(one, one + ratio * ratio) * per_height;
    terms.angle_h = -ratio * terms.angle_w;
  }
  return terms;
}

// What metric and gradient share.
template <class V>
struct Overlap {
  V w, h;            // of the intersection, negative where the boxes are apart
  V inter, whole;    // areas of the intersection and of the union
  V hull_w, hull_h;  // of the smallest box around both, before it is clamped
};

template <IouKind kKind, IouForm kForm, class V>
GCV_HD Overlap<V> overlap_of(const BoxTerms<V>& a, const BoxTerms<V>& b) {
  const V zero{};
  Overlap<V> o;
  o.w = smaller(a.box.x2, b.box.x2) - larger(a.box.x1, b.box.x1);
  o.h = smaller(a.box.y2, b.box.y2) - larger(a.box.y1, b.box.y1);
  if constexpr (kForm == IouForm::metric) {
    o.inter = intersection(a.box, b.box);
  } else {
    o.inter = o.w > zero ? (o.h > zero ? o.w * o.h : zero) : zero;
  }
  o.whole = union_area(a.area, b.area, o.inter);
  if constexpr (kHasHull<kKind>) {
    o.hull_w = larger(a.box.x2, b.box.x2) - smaller(a.box.x1, b.box.x1);
    o.hull_h = larger(a.box.y2, b.box.y2) - smaller(a.box.y1, b.box.y1);
  }
  return o;
}

template <IouForm kForm, class V>
GCV_HD V hull_length(V length) {
  return kForm == IouForm::metric ? larger(V{}, length) : length;
}

template <IouForm kForm, class V>
GCV_HD V divisor(V area, Lane<V> eps) {
  return kForm == IouForm::loss ? area + eps : area;
}

template <class V>
struct Penalty {
  V numerator, divisor;
};

// Of DIoU and CIoU: the squared distance of the centres, over the squared diagonal of the hull.
template <IouForm kForm, class V>
GCV_HD Penalty<V> distance_penalty(const BoxTerms<V>& a, const BoxTerms<V>& b, const Overlap<V>& o,
                                   Lane<V> eps) {
  const V x = a.centre_x - b.centre_x, y = a.centre_y - b.centre_y;
  const V w = hull_length<kForm>(o.hull_w), h = hull_length<kForm>(o.hull_h);
  return {x * x + y * y, w * w + h * h + eps};
}

// Of GIoU: the share of the hull that neither box covers.
template <IouForm kForm, class V>
GCV_HD Penalty<V> hull_penalty(const Overlap<V>& o, Lane<V> eps) {
  const V hull = hull_length<kForm>(o.hull_w) * hull_length<kForm>(o.hull_h);
  return {hull - o.whole, divisor<kForm>(hull, eps)};
}

// Of CIoU: weight * difference^2, where the weight has no gradient.
template <class V>
struct AspectPenalty {
  V scaled_difference, value, weight;
};

template <class V>
GCV_HD AspectPenalty<V> aspect_penalty(const BoxTerms<V>& a, const BoxTerms<V>& b, V iou, Lane<V> eps) {
  using T = Lane<V>;
  constexpr T four_per_pi_squared = T(0.40528473456935108577551785283891);
  const V difference = a.angle - b.angle;
  const V scaled = difference * four_per_pi_squared;
  const V value = scaled * difference;
  return {scaled, value, exact::div(value, (V{} + T(1)) - iou + value + eps)};
}

// The metric of two boxes, or their loss, which is 1 minus the metric.
template <IouKind kKind, IouForm kForm, class V>
GCV_HD V overlap_value(const BoxTerms<V>& a, const BoxTerms<V>& b, Lane<V> eps) {
  const Overlap<V> o = overlap_of<kKind, kForm>(a, b);
  const V iou = exact::div(o.inter, divisor<kForm>(o.whole, eps));
  if constexpr (kKind == IouKind::iou) {
    return iou;
  } else {
    const Penalty<V> p =
        kHasCentre<kKind> ? distance_penalty<kForm>(a, b, o, eps) : hull_penalty<kForm>(o, eps);
    V penalty = exact::div(p.numerator, p.divisor);
    if constexpr (kHasAngle<kKind>) {
      const AspectPenalty<V> aspect = aspect_penalty(a, b, iou, eps);
      penalty = penalty + aspect.weight * aspect.value;
    }
    return kForm == IouForm::metric ? iou - penalty : (V{} + Lane<V>(1)) - iou + penalty;
  }
}

// Derivatives of a pair's value by what the two boxes bring to it, for box a; box b has the same but for the
// signs of shift and angle.
template <class V>
struct OverlapSlopes {
  V inter_w, inter_h, hull_w, hull_h, area;
  V shift_x, shift_y;  // by each of the two coordinates that make the centre
  V angle;
};

// `grad` is the derivative of the result by the metric.
template <IouKind kKind, IouForm kForm, class V>
GCV_HD OverlapSlopes<V> overlap_slopes(const BoxTerms<V>& a, const BoxTerms<V>& b, V grad, Lane<V> eps) {
  using T = Lane<V>;
  const V zero{};
  const Overlap<V> o = overlap_of<kKind, kForm>(a, b);
  const V whole = divisor<kForm>(o.whole, eps);
  const V iou = exact::div(o.inter, whole);
  const V per_whole = exact::div(grad, whole);
  OverlapSlopes<V> s{};
  s.area = -per_whole * iou;
  if constexpr (kHasHull<kKind>) {
    const Penalty<V> p =
        kHasCentre<kKind> ? distance_penalty<kForm>(a, b, o, eps) : hull_penalty<kForm>(o, eps);
    const V per_divisor = exact::div(grad, p.divisor);
    const V penalty = exact::div(p.numerator, p.divisor);
    const V hull_w = hull_length<kForm>(o.hull_w), hull_h = hull_length<kForm>(o.hull_h);
    if constexpr (kHasCentre<kKind>) {
      const V by_square = per_divisor * penalty * T(2);
      s.hull_w = by_square * hull_w;
      s.hull_h = by_square * hull_h;
      s.shift_x = -per_divisor * (a.centre_x - b.centre_x);
      s.shift_y = -per_divisor * (a.centre_y - b.centre_y);
    } else {
      const V by_hull = per_divisor * penalty - per_divisor;
      s.hull_w = by_hull * hull_h;
      s.hull_h = by_hull * hull_w;
      s.area = s.area + per_divisor;
    }
    if constexpr (kForm == IouForm::metric) {
      s.hull_w = o.hull_w > zero ? s.hull_w : zero;
      s.hull_h = o.hull_h > zero ? s.hull_h : zero;
    }
    if constexpr (kHasAngle<kKind>) {
      const AspectPenalty<V> aspect = aspect_penalty(a, b, iou, eps);
      s.angle = grad * aspect.weight * aspect.scaled_difference * T(-2);
    }
  }
  const V by_inter = per_whole - s.area;
  s.inter_w = o.w > zero ? (o.h > zero ? by_inter * o.h : zero) : zero;
  s.inter_h = o.w > zero ? (o.h > zero ? by_inter * o.w : zero) : zero;
  return s;
}

// An edge that lies further in than the other box's bounds the intersection, one further out bounds the hull;
// two edges in one place share both.
template <class V>
GCV_HD V edge_slope(V outer, V inner, V by_inter, V by_hull) {
  const V shared = (by_inter + by_hull) * Lane<V>(0.5);
  return outer < inner ? by_inter : (inner < outer ? by_hull : shared);
}

// The gradient of `own` in its pair with `other`.
template <IouKind kKind, class V>
GCV_HD Box<V> box_gradient(const BoxTerms<V>& own, const Box<V>& other, const OverlapSlopes<V>& s) {
  const Box<V>& box = own.box;
  V by_w = s.area * (box.y2 - box.y1), by_h = s.area * (box.x2 - box.x1);
  if constexpr (kHasAngle<kKind>) {
    by_w = by_w + s.angle * own.angle_w;
    by_h = by_h + s.angle * own.angle_h;
  }
  return {s.shift_x - by_w - edge_slope(other.x1, box.x1, s.inter_w, s.hull_w),
          s.shift_y - by_h - edge_slope(other.y1, box.y1, s.inter_h, s.hull_h),
          s.shift_x + by_w + edge_slope(box.x2, other.x2, s.inter_w, s.hull_w),
          s.shift_y + by_h + edge_slope(box.y2, other.y2, s.inter_h, s.hull_h)};
}

// The slopes as box b sees them.
template <class V>
GCV_HD OverlapSlopes<V> swapped(OverlapSlopes<V> s) {
  s.shift_x = -s.shift_x;
  s.shift_y = -s.shift_y;
  s.angle = -s.angle;
  return s;
}

}  // namespace gcv

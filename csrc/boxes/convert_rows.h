// The maths of format conversion, a row at a time: steps that go forward and back, and chains of two.
// Formulas are torchvision's, gradients those of torch's autograd through them.
#pragma once

#include "boxes/angles.h"
#include "boxes/convert.h"

namespace gcv {

template <class T>
struct XywhToXyxy {
  static constexpr int kFrom = 4, kTo = 4;

  GCV_HD void forward(const T* in, T* out) {
    for (int axis = 0; axis < 2; ++axis) {
      out[axis] = in[axis];
      out[axis + 2] = in[axis] + in[axis + 2];
    }
  }
  GCV_HD void backward(const T* grad, const T*, T* out) {
    for (int axis = 0; axis < 2; ++axis) {
      out[axis] = grad[axis] + grad[axis + 2];
      out[axis + 2] = grad[axis + 2];
    }
  }
};

template <class T>
struct XyxyToXywh {
  static constexpr int kFrom = 4, kTo = 4;

  GCV_HD void forward(const T* in, T* out) {
    for (int axis = 0; axis < 2; ++axis) {
      out[axis] = in[axis];
      out[axis + 2] = in[axis + 2] - in[axis];
    }
  }
  GCV_HD void backward(const T* grad, const T*, T* out) {
    for (int axis = 0; axis < 2; ++axis) {
      out[axis] = grad[axis] - grad[axis + 2];
      out[axis + 2] = grad[axis + 2];
    }
  }
};

template <class T>
struct CxcywhToXyxy {
  static constexpr int kFrom = 4, kTo = 4;

  GCV_HD void forward(const T* in, T* out) {
    for (int axis = 0; axis < 2; ++axis) {
      const T half = T(0.5) * in[axis + 2];
      out[axis] = in[axis] - half;
      out[axis + 2] = in[axis] + half;
    }
  }
  GCV_HD void backward(const T* grad, const T*, T* out) {
    for (int axis = 0; axis < 2; ++axis) {
      out[axis] = grad[axis] + grad[axis + 2];
      out[axis + 2] = T(0.5) * (grad[axis + 2] - grad[axis]);
    }
  }
};

template <class T>
struct XyxyToCxcywh {
  static constexpr int kFrom = 4, kTo = 4;

  GCV_HD void forward(const T* in, T* out) {
    for (int axis = 0; axis < 2; ++axis) {
      out[axis] = T(0.5) * (in[axis] + in[axis + 2]);
      out[axis + 2] = in[axis + 2] - in[axis];
    }
  }
  GCV_HD void backward(const T* grad, const T*, T* out) {
    for (int axis = 0; axis < 2; ++axis) {
      const T half = T(0.5) * grad[axis];
      out[axis] = half - grad[axis + 2];
      out[axis + 2] = half + grad[axis + 2];
    }
  }
};

// From the centre to the first corner: its offset is (-w/2 cos - h/2 sin, w/2 sin - h/2 cos). kSign is 1, or
// -1 for the way back.
template <class T, int kSign>
struct ShiftRotated {
  static constexpr int kFrom = 5, kTo = 5;

  GCV_HD void forward(const T* in, T* out) {
    const Rotation<T> r = rotation(in[4]);
    const T w = T(0.5 * kSign) * in[2], h = T(0.5 * kSign) * in[3];
    out[0] = in[0] - w * r.cos - h * r.sin;
    out[1] = in[1] - h * r.cos + w * r.sin;
    for (int k = 2; k < 5; ++k) out[k] = in[k];
  }
  GCV_HD void backward(const T* grad, const T* in, T* out) {
    const Rotation<T> r = rotation(in[4]);
    const T half = T(0.5 * kSign), w = half * in[2], h = half * in[3];
    const T x = grad[0], y = grad[1];
    out[0] = x;
    out[1] = y;
    out[2] = grad[2] + half * (y * r.sin - x * r.cos);
    out[3] = grad[3] - half * (x * r.sin + y * r.cos);
    out[4] = grad[4] + radians(x * (w * r.sin - h * r.cos) + y * (h * r.sin + w * r.cos));
  }
};

template <class T>
using CxcywhrToXywhr = ShiftRotated<T, 1>;
template <class T>
using XywhrToCxcywhr = ShiftRotated<T, -1>;

template <class T>
struct XywhrToCorners {
  static constexpr int kFrom = 5, kTo = 8;

  GCV_HD void forward(const T* in, T* out) {
    const Rotation<T> r = rotation(in[4]);
    const T x = in[0], y = in[1], w = in[2], h = in[3];
    out[0] = x;
    out[1] = y;
    out[2] = x + w * r.cos;
    out[3] = y - w * r.sin;
    out[4] = out[2] + h * r.sin;
    out[5] = out[3] + h * r.cos;
    out[6] = x + h * r.sin;
    out[7] = y + h * r.cos;
  }
  GCV_HD void backward(const T* grad, const T* in, T* out) {
    const Rotation<T> r = rotation(in[4]);
    const T along_w_x = grad[2] + grad[4], along_w_y = grad[3] + grad[5];  // corners that w moves
    const T along_h_x = grad[4] + grad[6], along_h_y = grad[5] + grad[7];
    out[0] = grad[0] + grad[6] + along_w_x;
    out[1] = grad[1] + grad[7] + along_w_y;
    out[2] = along_w_x * r.cos - along_w_y * r.sin;
    out[3] = along_h_x * r.sin + along_h_y * r.cos;
    out[4] = radians(in[3] * (along_h_x * r.cos - along_h_y * r.sin) -
                     in[2] * (along_w_x * r.sin + along_w_y * r.cos));
  }
};

template <class T>
struct CornersToXywhr {
  static constexpr int kFrom = 8, kTo = 5;

  GCV_HD void forward(const T* in, T* out) {
    const T wx = in[2] - in[0], wy = in[1] - in[3], hx = in[4] - in[2], hy = in[5] - in[3];
    out[0] = in[0];
    out[1] = in[1];
    out[2] = square_root(wx * wx + wy * wy);
    out[3] = square_root(hx * hx + hy * hy);
    out[4] = direction(wy, wx);
  }
  GCV_HD void backward(const T* grad, const T* in, T* out) {
    const T wx = in[2] - in[0], wy = in[1] - in[3], hx = in[4] - in[2], hy = in[5] - in[3];
    const T w_square = wx * wx + wy * wy;
    const T per_w = grad[2] / square_root(w_square), per_h = grad[3] / square_root(hx * hx + hy * hy);
    const T turn = grad[4] * T(180) / T(kPi) / w_square;
    const T grad_wx = wx * per_w - wy * turn, grad_wy = wy * per_w + wx * turn;
    const T grad_hx = hx * per_h, grad_hy = hy * per_h;
    out[0] = grad[0] - grad_wx;
    out[1] = grad[1] + grad_wy;
    out[2] = grad_wx - grad_hx;
    out[3] = -grad_wy - grad_hy;
    out[4] = grad_hx;
    out[5] = grad_hy;
    out[6] = T(0);
    out[7] = T(0);
  }
};

template <class T, class First, class Second>
struct Chain {
  static constexpr int kFrom = First::kFrom, kTo = Second::kTo;

  GCV_HD void forward(const T* in, T* out) {
    T between[First::kTo];
    First::forward(in, between);
    Second::forward(between, out);
  }
  GCV_HD void backward(const T* grad, const T* in, T* out) {
    T between[First::kTo], grad_between[First::kTo];
    First::forward(in, between);
    Second::backward(grad, between, grad_between);
    First::backward(grad_between, in, out);
  }
};

struct NoConstants {};

template <class T, class Step>
struct ConvertRow {
  using In = Widths<Step::kFrom>;
  using Out = Widths<Step::kTo>;
  using Constants = NoConstants;

  GCV_HD void apply(const Constants&, const T (&in)[In::kTotal], T (&out)[Out::kTotal]) {
    Step::forward(in, out);
  }
};

template <class T, class Step>
struct ConvertBackwardRow {
  using In = Widths<Step::kTo, Step::kFrom>;
  using Out = Widths<Step::kFrom>;
  using Constants = NoConstants;

  GCV_HD void apply(const Constants&, const T (&in)[In::kTotal], T (&out)[Out::kTotal]) {
    Step::backward(in, in + Step::kTo, out);
  }
};

// Returns run(Step{}) for the conversion; `fallback` for a pair that there is none for.
template <class T, class Result, class Run>
static inline Result with_conversion(BoxFormat from, BoxFormat to, Result fallback, const Run& run) {
  using F = BoxFormat;
  const auto is = [from, to](F a, F b) { return from == a && to == b; };
  if (is(F::xywh, F::xyxy)) return run(XywhToXyxy<T>{});
  if (is(F::xyxy, F::xywh)) return run(XyxyToXywh<T>{});
  if (is(F::cxcywh, F::xyxy)) return run(CxcywhToXyxy<T>{});
  if (is(F::xyxy, F::cxcywh)) return run(XyxyToCxcywh<T>{});
  if (is(F::xywh, F::cxcywh)) return run(Chain<T, XywhToXyxy<T>, XyxyToCxcywh<T>>{});
  if (is(F::cxcywh, F::xywh)) return run(Chain<T, CxcywhToXyxy<T>, XyxyToXywh<T>>{});
  if (is(F::cxcywhr, F::xywhr)) return run(CxcywhrToXywhr<T>{});
  if (is(F::xywhr, F::cxcywhr)) return run(XywhrToCxcywhr<T>{});
  if (is(F::xywhr, F::xyxyxyxy)) return run(XywhrToCorners<T>{});
  if (is(F::xyxyxyxy, F::xywhr)) return run(CornersToXywhr<T>{});
  if (is(F::cxcywhr, F::xyxyxyxy)) return run(Chain<T, CxcywhrToXywhr<T>, XywhrToCorners<T>>{});
  if (is(F::xyxyxyxy, F::cxcywhr)) return run(Chain<T, CornersToXywhr<T>, XywhrToCxcywhr<T>>{});
  return fallback;
}

}  // namespace gcv

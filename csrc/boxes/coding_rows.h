// The maths of encoding, decoding and clipping, a row at a time. Formulas are torchvision's, gradients those
// of torch's autograd through them.
#pragma once

#include "boxes/box_rows.h"
#include "boxes/coding.h"
#include "boxes/logarithm.h"
#include "common/box_decode.h"

namespace gcv {

template <class T>
struct CoderConstants {
  T weights[4];
  T clip;
};

template <class T>
GCV_HD CoderConstants<T> coder_constants(const CoderWeights& w, double clip = 0) {
  return {{T(w.x), T(w.y), T(w.w), T(w.h)}, T(clip)};
}

template <class T>
GCV_HD T centre(T low, T length) {
  return exact::add(low, exact::mul(T(0.5), length));
}

// Each axis of a row: numbers `axis` and `axis + 2` of every box and of the deltas.
template <class T>
struct EncodeRow {
  using In = Widths<4, 4>;  // reference box, proposal
  using Out = Widths<4>;    // deltas
  using Constants = CoderConstants<T>;

  GCV_HD void apply(const Constants& c, const T (&in)[8], T (&out)[4]) {
    for (int axis = 0; axis < 2; ++axis) {
      const T *box = in + axis, *from = in + 4 + axis;
      const T length = exact::sub(box[2], box[0]), from_length = exact::sub(from[2], from[0]);
      const T shift = exact::sub(centre(box[0], length), centre(from[0], from_length));
      out[axis] = exact::div(exact::mul(c.weights[axis], shift), from_length);
      out[axis + 2] = exact::mul(c.weights[axis + 2], logarithm(exact::div(length, from_length)));
    }
  }
};

template <class T>
struct EncodeBackwardRow {
  using In = Widths<4, 4, 4>;  // gradient of the deltas, reference box, proposal
  using Out = Widths<4, 4>;    // gradients of reference box and proposal
  using Constants = CoderConstants<T>;

  GCV_HD void apply(const Constants& c, const T (&in)[12], T (&out)[8]) {
    for (int axis = 0; axis < 2; ++axis) {
      const T *grad = in + axis, *box = in + 4 + axis, *from = in + 8 + axis;
      const T length = box[2] - box[0], from_length = from[2] - from[0];
      const T shift = centre(box[0], length) - centre(from[0], from_length);
      const T grad_shift = grad[0] * c.weights[axis] / from_length;  // and its negative for the other centre
      const T grad_log = grad[2] * c.weights[axis + 2];
      const T grad_length = grad_log / length + T(0.5) * grad_shift;
      const T grad_from = -(grad_log + grad_shift * shift) / from_length - T(0.5) * grad_shift;
      out[axis] = grad_shift - grad_length;
      out[axis + 2] = grad_length;
      out[axis + 4] = -grad_shift - grad_from;
      out[axis + 6] = grad_from;
    }
  }
};

template <class T>
struct DecodeRow {
  using In = Widths<4, 4>;  // deltas, anchor
  using Out = Widths<4>;    // box
  using Constants = CoderConstants<T>;

  GCV_HD void apply(const Constants& c, const T (&in)[8], T (&out)[4]) {
    const Deltas<T> deltas = {exact::div(in[0], c.weights[0]), exact::div(in[1], c.weights[1]),
                              exact::div(in[2], c.weights[2]), exact::div(in[3], c.weights[3])};
    const Box<T> box = decode_box<T>({in[4], in[5], in[6], in[7]}, deltas, c.clip);
    out[0] = box.x1;
    out[1] = box.y1;
    out[2] = box.x2;
    out[3] = box.y2;
  }
};

template <class T>
struct DecodeBackwardRow {
  using In = Widths<4, 4, 4>;  // gradient of the box, deltas, anchor
  using Out = Widths<4, 4>;    // gradients of deltas and anchor
  using Constants = CoderConstants<T>;

  GCV_HD void apply(const Constants& c, const T (&in)[12], T (&out)[8]) {
    for (int axis = 0; axis < 2; ++axis) {
      const T *grad = in + axis, *deltas = in + 4 + axis, *anchor = in + 8 + axis;
      const T length = anchor[2] - anchor[0];
      const T shift = deltas[0] / c.weights[axis], growth = deltas[2] / c.weights[axis + 2];
      const T factor = exponential(growth > c.clip ? c.clip : growth);
      const T grad_centre = grad[0] + grad[2], grad_grown = T(0.5) * (grad[2] - grad[0]);
      const T grad_length = grad_centre * (shift + T(0.5)) + grad_grown * factor;
      const T grad_growth = grad_grown * (factor * length) / c.weights[axis + 2];
      out[axis] = grad_centre * length / c.weights[axis];
      out[axis + 2] = growth < c.clip ? grad_growth : T(0);
      out[axis + 4] = grad_centre - grad_length;
      out[axis + 6] = grad_length;
    }
  }
};

template <class T>
struct ImageSize {
  T limits[2];  // width, height
};

// The limit as a number of the boxes' dtype, as torch's clamp takes it.
template <class Element>
GCV_HD typename Compute<Element>::type limit_of(double size) {
  Element rounded;
  narrow(typename Compute<Element>::type(size), rounded);
  return widen(rounded);
}

template <class Element>
GCV_HD ImageSize<typename Compute<Element>::type> image_size(double height, double width) {
  return {{limit_of<Element>(width), limit_of<Element>(height)}};
}

template <class T>
struct ClipRow {
  using In = Widths<4>;
  using Out = Widths<4>;
  using Constants = ImageSize<T>;

  GCV_HD void apply(const Constants& c, const T (&in)[4], T (&out)[4]) {
    for (int k = 0; k < 4; ++k) {
      const T floored = in[k] < T(0) ? T(0) : in[k];  // comparisons leave NaN as it is
      out[k] = floored > c.limits[k % 2] ? c.limits[k % 2] : floored;
    }
  }
};

template <class T>
struct ClipBackwardRow {
  using In = Widths<4, 4>;  // gradient, box
  using Out = Widths<4>;
  using Constants = ImageSize<T>;

  GCV_HD void apply(const Constants& c, const T (&in)[8], T (&out)[4]) {
    for (int k = 0; k < 4; ++k) {
      const T box = in[4 + k];
      const bool inside = int(box > T(0)) & int(box < c.limits[k % 2]);  // && would keep it from vectorising
      out[k] = inside ? in[k] : T(0);
    }
  }
};

// V is a number or, on the CPU, a SIMD vector, whose comparisons give a mask.
template <class V>
GCV_HD auto is_large(const Box<V>& box, V min_size) {
  return (exact::sub(box.x2, box.x1) >= min_size) & (exact::sub(box.y2, box.y1) >= min_size);
}

}  // namespace gcv

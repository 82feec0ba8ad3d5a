// A box and its scores from the network's outputs, with the same bits on every backend, and their
// derivatives.
#pragma once

#include "common/box.h"
#include "common/exp.h"
#include "yolo/yolo.h"

namespace gcv {

// The centre along one axis, for versions with a confidence.
template <class T>
GCV_HD T yolo_centre(YoloVersion version, T t, T cell, T stride) {
  if (version == YoloVersion::v1) return exact::mul(exact::add(t, cell), stride);
  const T s = sigmoid(t);
  if (version != YoloVersion::v5) return exact::mul(exact::add(s, cell), stride);
  return exact::mul(exact::add(exact::sub(exact::mul(T(2), s), T(0.5)), cell), stride);
}

template <class T>
GCV_HD T yolo_centre_slope(YoloVersion version, T t, T stride) {
  if (version == YoloVersion::v1) return stride;
  const T s = sigmoid(t), slope = s * (T(1) - s) * stride;
  return version == YoloVersion::v5 ? T(2) * slope : slope;
}

// The length along one axis; `unit` is the anchor's, or for v1 the image's.
template <class T>
GCV_HD T yolo_length(YoloVersion version, T t, T unit) {
  if (version == YoloVersion::v1) return exact::mul(exact::mul(t, t), unit);
  if (version != YoloVersion::v5) return exact::mul(exponential(t), unit);
  const T twice = exact::mul(T(2), sigmoid(t));
  return exact::mul(exact::mul(twice, twice), unit);
}

template <class T>
GCV_HD T yolo_length_slope(YoloVersion version, T t, T unit) {
  if (version == YoloVersion::v1) return T(2) * t * unit;
  if (version != YoloVersion::v5) return exponential(t) * unit;
  const T s = sigmoid(t);
  return T(8) * s * s * (T(1) - s) * unit;
}

template <class T>
GCV_HD void yolo_interval(T centre, T length, T& low, T& high) {
  const T half = exact::mul(T(0.5), length);
  low = exact::sub(centre, half);
  high = exact::add(centre, half);
}

// The unit of lengths along one axis: 0 is horizontal.
template <class T>
GCV_HD T yolo_unit(const YoloMaps& m, const YoloLevel& level, int64_t anchor, int axis) {
  if (m.version != YoloVersion::v1) return T(level.anchors[anchor][axis]);
  return T(double(axis == 0 ? level.width : level.height) * level.stride);
}

// A corner's coordinate from the distance to the centre of its cell, for v8.
template <class T>
GCV_HD T yolo_low_side(T cell, T distance, T stride) {
  return exact::mul(exact::sub(exact::add(cell, T(0.5)), distance), stride);
}

template <class T>
GCV_HD T yolo_high_side(T cell, T distance, T stride) {
  return exact::mul(exact::add(exact::add(cell, T(0.5)), distance), stride);
}

// One more bin of a distribution whose largest logit is `most`.
template <class T>
GCV_HD void yolo_add_bin(T logit, T most, T bin, T& total, T& moment) {
  const T weight = exponential(exact::sub(logit, most));
  total = exact::add(total, weight);
  moment = exact::add(moment, exact::mul(bin, weight));
}

// The score of a class from its output, for all versions but v2, whose classes share a softmax.
template <class T>
GCV_HD T yolo_score(YoloVersion version, T confidence, T output) {
  if (version == YoloVersion::v8) return sigmoid(output);
  return exact::mul(confidence, version == YoloVersion::v1 ? output : sigmoid(output));
}

// The same for v2: `most` and `total` are those of the softmax.
template <class T>
GCV_HD T yolo_softmax_score(T confidence, T output, T most, T total) {
  return exact::mul(confidence, exact::div(exponential(exact::sub(output, most)), total));
}

template <class T>
GCV_HD T yolo_confidence(YoloVersion version, T output) {
  return version == YoloVersion::v1 ? output : sigmoid(output);
}

// What detection makes of a class's output.
template <class T>
GCV_HD T yolo_cleaned(T output) {
  return output == output ? output : -T(__builtin_inff());
}

// A coordinate of the original image.
template <class T>
GCV_HD T yolo_restore(T coordinate, T padding, T scale, T most) {
  const T x = exact::div(exact::sub(coordinate, padding), scale);
  const T floored = x < T(0) ? T(0) : x;
  return floored > most ? most : floored;
}

}  // namespace gcv

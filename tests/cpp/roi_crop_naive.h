// crop_and_resize by the definition, number by number, and its gradients; with arguments in exactly sized
// memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "roi/crop.h"

namespace gcv_test {

struct Shape {
  int64_t number, channels, height, width, boxes, crop_height, crop_width;
};

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr gcv::DType value = gcv::DType::f32;
};
template <>
struct TypeOf<double> {
  static constexpr gcv::DType value = gcv::DType::f64;
};

// Small whole numbers and coordinates in sixteenths, so that sums are exact in any order.
template <class T>
struct Scene {
  Shape shape;
  bool channels_last, nearest, normalised;
  std::vector<T> images, grad, boxes;
  std::vector<int32_t> indices;
  std::vector<double> mean, std;
  std::vector<T> crops, grad_images, grad_boxes;

  Scene(Shape s, bool channels_last, bool nearest, bool normalised, unsigned seed)
      : shape(s), channels_last(channels_last), nearest(nearest), normalised(normalised) {
    std::mt19937 random(seed);
    const auto whole = [&](int least, int most) {
      return std::uniform_int_distribution<int>(least, most)(random);
    };
    images.resize(s.number * s.channels * s.height * s.width);
    for (T& x : images) x = T(whole(-8, 8));
    crops.assign(s.boxes * s.channels * s.crop_height * s.crop_width, T(0.747));
    grad.resize(crops.size());
    for (T& x : grad) x = T(whole(-4, 4));
    grad_images.assign(images.size(), T(0.747));
    boxes.resize(4 * s.boxes);
    for (T& x : boxes) x = T(whole(-4, 20)) / 16;
    for (int64_t k = 0; k < s.boxes; ++k) indices.push_back(int32_t(whole(0, int(s.number) - 1)));
    if (s.boxes > 3) boxes[13] = T(NAN);
    grad_boxes.assign(4 * s.boxes, T(0.747));
    for (int64_t c = 0; c < s.channels; ++c) {
      mean.push_back(double(c) - 1);
      std.push_back(c % 2 ? 2 : 0.5);
    }
  }

  int64_t image_place(int64_t n, int64_t c, int64_t y, int64_t x) const {
    const Shape& s = shape;
    return channels_last ? ((n * s.height + y) * s.width + x) * s.channels + c
                         : ((n * s.channels + c) * s.height + y) * s.width + x;
  }
  int64_t crop_place(int64_t k, int64_t c, int64_t i, int64_t j) const {
    const Shape& s = shape;
    return channels_last ? ((k * s.crop_height + i) * s.crop_width + j) * s.channels + c
                         : ((k * s.channels + c) * s.crop_height + i) * s.crop_width + j;
  }

  gcv::CropBoxes crop_boxes() const {
    return {boxes.data(), TypeOf<T>::value, 4, 1, indices.data(), false, 1, shape.boxes};
  }
  gcv::CropMaps maps(const T* data, int64_t number, int64_t height, int64_t width) const {
    const int64_t c = shape.channels;
    if (channels_last) return {data, number, c, height, width, {height * width * c, 1, width * c, c}};
    return {data, number, c, height, width, {c * height * width, height * width, width, 1}};
  }
  gcv::CropMaps image_maps() const { return maps(images.data(), shape.number, shape.height, shape.width); }
  gcv::CropMaps grad_maps() const {
    return maps(grad.data(), shape.boxes, shape.crop_height, shape.crop_width);
  }

  gcv::CropParams forward() {
    return {crop_boxes(),
            image_maps(),
            false,
            channels_last,
            crops.data(),
            shape.crop_height,
            shape.crop_width,
            TypeOf<T>::value,
            nearest,
            1.5,
            normalised ? mean.data() : nullptr,
            normalised ? std.data() : nullptr};
  }
  gcv::CropBackwardParams backward() {
    return {crop_boxes(),
            grad_maps(),
            channels_last,
            grad_images.data(),
            grad_images.data(),
            shape.number,
            shape.height,
            shape.width,
            TypeOf<T>::value,
            nearest,
            normalised ? std.data() : nullptr};
  }
  gcv::CropBoxesBackwardParams boxes_backward() {
    return {crop_boxes(),
            grad_maps(),
            image_maps(),
            false,
            grad_boxes.data(),
            TypeOf<T>::value,
            normalised ? std.data() : nullptr};
  }
};

struct Sample {
  bool inside;
  int64_t low, high;
  double weight, of_first, of_last;  // how the position moves with the ends of the box
};

inline Sample naive_sample(double first, double last, int64_t i, int64_t count, int64_t length,
                           bool nearest) {
  const double share = count > 1 ? double(i) / double(count - 1) : 0.5;
  const double position = (first + share * (last - first)) * double(length - 1);
  // Coordinates in sixteenths: what differs from a whole number by rounding is one.
  const double rounded = std::round(position * 4096) / 4096;
  const double at = std::abs(rounded - position) < 1e-9 ? rounded : position;
  Sample s{at >= 0 && at <= double(length - 1), 0, 0, 0, (1 - share) * double(length - 1),
           share * double(length - 1)};
  if (!s.inside) return s;
  s.low = int64_t(std::floor(nearest ? at + 0.5 : at));
  s.weight = nearest ? 0 : at - std::floor(at);
  s.high = s.low + (s.weight > 0);
  return s;
}

struct Expected {
  std::vector<double> crops, grad_images, grad_boxes;
};

template <class T>
Expected naive(const Scene<T>& scene) {
  const Shape& s = scene.shape;
  Expected e;
  e.crops.resize(scene.crops.size());
  e.grad_images.resize(scene.images.size());
  e.grad_boxes.resize(4 * s.boxes);
  for (int64_t k = 0; k < s.boxes; ++k) {
    const T* box = &scene.boxes[4 * k];
    const int64_t n = scene.indices[k];
    const bool sound = std::isfinite(double(box[0]) + double(box[1]) + double(box[2]) + double(box[3]));
    for (int64_t c = 0; c < s.channels; ++c) {
      const double mean = scene.normalised ? scene.mean[c] : 0, std = scene.normalised ? scene.std[c] : 1;
      for (int64_t i = 0; i < s.crop_height; ++i) {
        for (int64_t j = 0; j < s.crop_width; ++j) {
          const int64_t place = scene.crop_place(k, c, i, j);
          if (!sound) {
            e.crops[place] = NAN;
            continue;
          }
          const Sample y = naive_sample(box[0], box[2], i, s.crop_height, s.height, scene.nearest);
          const Sample x = naive_sample(box[1], box[3], j, s.crop_width, s.width, scene.nearest);
          double value = 1.5;
          if (y.inside && x.inside) {
            const double g = double(scene.grad[place]) / std;
            double corner[2][2];
            for (int bottom : {0, 1}) {
              for (int right : {0, 1}) {
                const int64_t at = scene.image_place(n, c, bottom ? y.high : y.low, right ? x.high : x.low);
                corner[bottom][right] = double(scene.images[at]);
                e.grad_images[at] +=
                    g * (bottom ? y.weight : 1 - y.weight) * (right ? x.weight : 1 - x.weight);
              }
            }
            const double left = corner[1][0] - corner[0][0], right = corner[1][1] - corner[0][1];
            const double top = corner[0][1] - corner[0][0], bottom = corner[1][1] - corner[1][0];
            value = corner[0][0] + x.weight * top +
                    y.weight * (corner[1][0] + x.weight * bottom - corner[0][0] - x.weight * top);
            const double of_y = g * (left + x.weight * (right - left));
            const double of_x = g * (top + y.weight * (bottom - top));
            e.grad_boxes[4 * k] += of_y * y.of_first;
            e.grad_boxes[4 * k + 1] += of_x * x.of_first;
            e.grad_boxes[4 * k + 2] += of_y * y.of_last;
            e.grad_boxes[4 * k + 3] += of_x * x.of_last;
          }
          e.crops[place] = (value - mean) / std;
        }
      }
    }
  }
  return e;
}

template <class T>
bool close(const std::vector<T>& found, const std::vector<double>& expected) {
  double size = 1;
  for (double x : expected) size = std::isfinite(x) && std::abs(x) > size ? std::abs(x) : size;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]) != std::isnan(double(found[i]))) return false;
    if (std::abs(double(found[i]) - expected[i]) > size * (sizeof(T) == 8 ? 1e-12 : 1e-5)) return false;
  }
  return true;
}

}  // namespace gcv_test

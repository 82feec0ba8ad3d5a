// Plain row functions in double for the tests of box coding, and gradients by differences.
#pragma once

#include <cmath>
#include <complex>
#include <functional>
#include <random>
#include <vector>

namespace gcv {

using Row = std::vector<double>;
using RowFunction = std::function<Row(const Row&)>;

struct NaiveCoder {
  double weights[4] = {10, 10, 5, 5};
  double clip = 1.5;

  // Of a reference box and a proposal.
  Row encode(const Row& r) const {
    Row deltas(4);
    for (int axis = 0; axis < 2; ++axis) {
      const double size = r[axis + 2] - r[axis], from = r[axis + 6] - r[axis + 4];
      const double shift = (r[axis] + r[axis + 2]) / 2 - (r[axis + 4] + r[axis + 6]) / 2;
      deltas[axis] = weights[axis] * shift / from;
      deltas[axis + 2] = weights[axis + 2] * std::log(size / from);
    }
    return deltas;
  }

  // Of deltas and an anchor.
  Row decode(const Row& r) const {
    Row box(4);
    for (int axis = 0; axis < 2; ++axis) {
      const double size = r[axis + 6] - r[axis + 4];
      const double centre = r[axis] / weights[axis] * size + (r[axis + 4] + r[axis + 6]) / 2;
      const double grown = std::exp(std::min(r[axis + 2] / weights[axis + 2], clip)) * size;
      box[axis] = centre - grown / 2;
      box[axis + 2] = centre + grown / 2;
    }
    return box;
  }
};

inline Row naive_clip(const Row& r, double height, double width) {
  return {std::fmin(std::fmax(r[0], 0), width), std::fmin(std::fmax(r[1], 0), height),
          std::fmin(std::fmax(r[2], 0), width), std::fmin(std::fmax(r[3], 0), height)};
}

// Through the first corner and two sides as complex numbers (y upwards), which every format has.
struct Parallelogram {
  std::complex<double> corner, along_w, along_h;
};

inline std::complex<double> turned(double length, double degrees) {
  return std::polar(length, degrees * std::acos(-1.0) / 180);
}

inline Row naive_convert(const Row& r, const std::string& from, const std::string& to) {
  using Complex = std::complex<double>;
  Parallelogram p;
  if (from == "xyxyxyxy") {
    p = {{r[0], -r[1]}, Complex(r[2] - r[0], r[1] - r[3]), Complex(r[4] - r[2], r[3] - r[5])};
    // Of a shape that is no rectangle the angle of the first side holds for both.
    if (to != from) p.along_h = turned(std::abs(p.along_h), std::arg(p.along_w) * 180 / std::acos(-1.0) - 90);
  } else {
    const double degrees = r.size() == 5 ? r[4] : 0;
    const bool corners = from == "xyxy", centred = from[0] == 'c';
    const double w = corners ? r[2] - r[0] : r[2], h = corners ? r[3] - r[1] : r[3];
    p.along_w = turned(w, degrees);
    p.along_h = turned(h, degrees - 90);
    p.corner = Complex(r[0], -r[1]) - (centred ? 0.5 * (p.along_w + p.along_h) : 0);
  }
  const Complex middle = p.corner + 0.5 * (p.along_w + p.along_h);
  const Complex second = p.corner + p.along_w, third = second + p.along_h, fourth = p.corner + p.along_h;
  if (to == "xyxy") return {p.corner.real(), -p.corner.imag(), third.real(), -third.imag()};
  if (to == "xyxyxyxy") {
    return {p.corner.real(), -p.corner.imag(), second.real(), -second.imag(),
            third.real(),    -third.imag(),    fourth.real(), -fourth.imag()};
  }
  const Complex at = to[0] == 'c' ? middle : p.corner;
  Row box = {at.real(), -at.imag(), std::abs(p.along_w), std::abs(p.along_h)};
  if (to.size() >= 5 && to.back() == 'r') box.push_back(std::arg(p.along_w) * 180 / std::acos(-1.0));
  return box;
}

// The gradient of `forward`, whose results' gradient comes first in the row.
inline RowFunction gradient_of(RowFunction forward, size_t results) {
  return [forward, results](const Row& r) {
    const Row grad(r.begin(), r.begin() + results), at(r.begin() + results, r.end());
    Row out(at.size());
    for (size_t i = 0; i < at.size(); ++i) {
      constexpr double kStep = 1e-5;
      Row less = at, more = at;
      less[i] -= kStep;
      more[i] += kStep;
      const Row low = forward(less), high = forward(more);
      for (size_t k = 0; k < results; ++k) out[i] += grad[k] * (high[k] - low[k]) / (2 * kStep);
    }
    return out;
  };
}

class RowMaker {
 public:
  explicit RowMaker(unsigned seed) : random_(seed) {}

  double number(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random_);
  }

  Row numbers(int count) {
    Row r(count);
    for (double& x : r) x = number(-2, 2);
    return r;
  }

  Row box(const std::string& format) {
    const double x = number(-30, 60), y = number(-30, 60), w = number(5, 80), h = number(5, 80);
    if (format == "xyxy") return {x, y, x + w, y + h};
    const double degrees = number(-170, 170);
    if (format == "xyxyxyxy") return naive_convert({x, y, w, h, degrees}, "xywhr", format);
    return format.back() == 'r' ? Row{x, y, w, h, degrees} : Row{x, y, w, h};
  }

 private:
  std::mt19937 random_;
};

}  // namespace gcv

// paste_masks pixel by pixel in double, and exactly sized cases for the test programs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "roi/masks.h"

namespace gcv {

struct PasteCase {
  int64_t count, rows, columns, height, width, padding;
};

inline std::vector<PasteCase> paste_cases() {
  return {{0, 3, 3, 5, 5, 1}, {3, 4, 4, 11, 13, 1},  {2, 1, 1, 6, 7, 1},  {3, 6, 3, 9, 20, 2},
          {3, 4, 4, 0, 5, 1}, {2, 28, 28, 70, 9, 1}, {2, 5, 5, 12, 8, 0}, {1, 4, 4, 3, 1030, 1}};
}

template <class T>
struct PasteArrays {
  explicit PasteArrays(const PasteCase& c)
      : masks(c.count * c.rows * c.columns), images(c.count * c.height * c.width), boxes(4 * c.count) {
    for (size_t i = 0; i < masks.size(); ++i) masks[i] = T(std::cos(1.7 * double(i)));
    for (size_t i = 0; i < images.size(); ++i) images[i] = T(std::sin(0.9 * double(i)));
    for (int64_t k = 0; k < c.count; ++k) {
      const T corners[] = {T(-2.3), T(1.3), T(0.7 * double(c.width)), T(1.2 * double(c.height) + 1)};
      for (int i = 0; i < 4; ++i) boxes[4 * k + i] = corners[i] + T(0.4 * double(k));
    }
    if (c.count == 3) boxes[4] = std::numeric_limits<T>::quiet_NaN();
  }
  std::vector<T> masks, images, boxes;
};

// What pixel (y, x) of image k takes of cell (row, column); NaN for a box that is not finite.
template <class T>
double paste_weight(const PasteCase& c, const std::vector<T>& boxes, int64_t k, int64_t y, int64_t x,
                    int64_t row, int64_t column) {
  const double scale = double(c.columns + 2 * c.padding) / double(c.columns);
  const int64_t at[] = {x, y}, cell[] = {column, row}, cells[] = {c.columns, c.rows};
  double weight = 1;
  for (int d = 0; d < 2; ++d) {
    const double low = double(boxes[4 * k + d]), high = double(boxes[4 * k + d + 2]);
    if (!std::isfinite(low) || !std::isfinite(high)) return NAN;
    const double middle = (low + high) / 2, reach = (high - low) / 2 * scale;
    const double first = std::trunc(middle - reach), last = std::trunc(middle + reach);
    const double all = double(cells[d] + 2 * c.padding);
    double position = (double(at[d]) - first + 0.5) * all / std::max(1.0, last - first + 1) - 0.5;
    position = std::min(std::max(position, 0.0), all - 1);
    const bool inside = double(at[d]) >= first && double(at[d]) <= last;
    weight *= inside ? std::max(0.0, 1 - std::abs(position - double(cell[d] + c.padding))) : 0.0;
  }
  return weight;
}

template <class T>
constexpr DType kPasteType = sizeof(T) == 8 ? DType::f64 : DType::f32;

template <class T>
PasteMasksParams paste_params(const PasteCase& c, const PasteArrays<T>& a, std::vector<T>& out) {
  const MaskGrids masks{a.masks.data(),     c.count, 1,         c.rows, c.columns,
                        c.rows * c.columns, 0,       c.columns, 1,      kPasteType<T>};
  return {masks, {a.boxes.data(), 4, kPasteType<T>}, c.padding, out.data(), c.height, c.width};
}

template <class T>
PasteMasksBackwardParams paste_backward_params(const PasteCase& c, const PasteArrays<T>& a,
                                               std::vector<T>& out) {
  const MaskGrids grad{a.images.data(),    c.count, 1,       c.height, c.width,
                       c.height * c.width, 0,       c.width, 1,        kPasteType<T>};
  return {grad, {a.boxes.data(), 4, kPasteType<T>}, c.padding, out.data(), out.data(), c.rows, c.columns};
}

template <class T>
bool pasted_right(const PasteCase& c, const PasteArrays<T>& a, const std::vector<T>& images,
                  const std::vector<T>& grads) {
  std::vector<double> expected(a.images.size()), expected_grads(a.masks.size());
  for (int64_t k = 0; k < c.count; ++k) {
    for (int64_t pixel = 0; pixel < c.height * c.width; ++pixel) {
      for (int64_t cell = 0; cell < c.rows * c.columns; ++cell) {
        const double w =
            paste_weight(c, a.boxes, k, pixel / c.width, pixel % c.width, cell / c.columns, cell % c.columns);
        const int64_t to = k * c.height * c.width + pixel, from = k * c.rows * c.columns + cell;
        expected[to] += w * double(a.masks[from]);
        if (!std::isnan(w)) expected_grads[from] += w * double(a.images[to]);
      }
    }
  }
  const auto differs = [](T got, double wanted) {
    return std::isnan(wanted) ? !std::isnan(got) : !(std::abs(double(got) - wanted) <= 1e-4);
  };
  for (size_t i = 0; i < images.size(); ++i) {
    if (differs(images[i], expected[i])) return false;
  }
  for (size_t i = 0; i < grads.size(); ++i) {
    if (differs(grads[i], expected_grads[i])) return false;
  }
  return true;
}

}  // namespace gcv

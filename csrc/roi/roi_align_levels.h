// Which level of a pyramid a region lies on, as areas: equation 1 of the paper on feature pyramids, solved
// for the area. Only roi_align_checks.h includes this.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace gcv {

// The formula in T, step by step as plain PyTorch computes it.
template <class T>
T roi_level_formula(T area, int64_t canonical_scale, int64_t canonical_level) {
  const T side = std::sqrt(area) / T(canonical_scale);
  return std::floor(T(canonical_level) + std::log2(side) + T(1e-6));
}

// The smallest area whose level is `level` or more. The formula ascends, and so do the bits of positive
// numbers.
template <class T, class Bits>
T roi_smallest_area(int64_t level, int64_t canonical_scale, int64_t canonical_level) {
  const auto number = [](Bits bits) {
    T x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  };
  Bits low = 0, high;
  const T infinity = T(INFINITY);
  std::memcpy(&high, &infinity, sizeof high);
  while (low < high) {
    const Bits middle = low + (high - low) / 2;
    if (roi_level_formula(number(middle), canonical_scale, canonical_level) >= T(level)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return number(low);
}

// One for each level after the first, up to that of the last scale.
inline std::vector<double> roi_level_areas(const std::vector<double>& scales, int64_t canonical_scale,
                                           int64_t canonical_level, bool is_double) {
  const auto number = [](double scale) { return int64_t(-std::log2(scale)); };
  std::vector<double> areas;
  for (int64_t level = number(scales.front()) + 1; level <= number(scales.back()); ++level) {
    areas.push_back(
        is_double ? roi_smallest_area<double, uint64_t>(level, canonical_scale, canonical_level)
                  : double(roi_smallest_area<float, uint32_t>(level, canonical_scale, canonical_level)));
  }
  return areas;
}

}  // namespace gcv

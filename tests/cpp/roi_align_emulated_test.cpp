// The launchers of csrc/roi/roi_align_cuda.h, executed by the emulator, against plain loops over samples.
// Buffers have exactly the documented sizes, so that AddressSanitizer sees a step beyond them.
#include <cmath>
#include <vector>

#include "emulated_cases.h"
#include "roi/roi_align_cuda.h"

namespace gcv {
namespace {

using Values = std::vector<double>;

constexpr int64_t kImages = 2, kChannels = 3, kHeight = 9, kWidth = 11;

Values numbers(int64_t count, int seed) {
  Values values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = std::sin(double(i * 7 + seed));
  return values;
}

// Inside, over every border, empty, far outside, huge, and one that is not sound.
const Values kBoxes = {0, 1, 1, 6,  8,  1,  -3, -3, 5,    5, 0,   7, 6, 13,  12,  1,  4, 4,
                       4, 4, 0, 50, 50, 60, 60, 1,  -1e9, 2, 1e9, 3, 0, NAN, 1.0, 2., 3};

struct Case {
  int64_t pooled_height, pooled_width, sampling_ratio;
  bool aligned, is_max;

  int64_t regions() const { return int64_t(kBoxes.size()) / 5; }
  int64_t outputs() const { return regions() * kChannels * pooled_height * pooled_width; }

  // Levels have half the size each; regions are told apart by an area of 20.
  RoiAlignRegions of(const Values& maps, int64_t levels) const {
    RoiAlignRegions r{};
    r.boxes = {kBoxes.data(), regions(), 5, DType::f64};
    r.batch = kImages;
    r.channels = kChannels;
    r.pooled_height = pooled_height;
    r.pooled_width = pooled_width;
    r.sampling_ratio = sampling_ratio;
    r.aligned = aligned;
    r.is_max = is_max;
    r.dtype = DType::f64;
    r.level_count = levels;
    r.area_count = levels - 1;
    r.areas[0] = 20;
    const double* data = maps.data();
    for (int64_t i = 0; i < levels; ++i) {
      const int64_t h = kHeight >> i, w = kWidth >> i;
      r.levels[i] = {data, {kChannels * h * w, h * w, w, 1}, h, w, 1.0 / double(1 << i)};
      data += kImages * kChannels * h * w;
    }
    return r;
  }
};

int64_t map_numbers(int64_t levels) {
  int64_t all = 0;
  for (int64_t i = 0; i < levels; ++i) all += kImages * kChannels * (kHeight >> i) * (kWidth >> i);
  return all;
}

// Calls f(index of the output, weight, index into the level's maps, sound) for every neighbour of every
// sample on the map that counts.
template <class F>
void for_neighbours(const RoiAlignRegions& r, F f) {
  int64_t output = 0;
  for (int64_t k = 0; k < r.boxes.count; ++k) {
    const RoiPlace<double> place = roi_place<double>(r, k);
    for (int64_t c = 0; c < r.channels; ++c) {
      for (int64_t bin = 0; bin < r.pooled_height * r.pooled_width; ++bin, ++output) {
        if (place.level < 0) continue;
        const RoiAlignMap& map = r.levels[place.level];
        const int64_t ph = bin / r.pooled_width, pw = bin % r.pooled_width;
        const RoiSampleRange ys = roi_samples_near(place.y, ph, map.height);
        const RoiSampleRange xs = roi_samples_near(place.x, pw, map.width);
        const int64_t plane = place.image * map.strides[0] + c * map.strides[1];
        for (int64_t iy = ys.first; iy < ys.last; ++iy) {
          for (int64_t ix = xs.first; ix < xs.last; ++ix) {
            const auto y = roi_sample(place.y, ph, iy, map.height);
            const auto x = roi_sample(place.x, pw, ix, map.width);
            if (!y.inside || !x.inside) continue;
            const double share = 1 / roi_sample_count(place.y, place.x);
            f(output, share * y.low_weight * x.low_weight, map, plane + y.low * map.width + x.low);
            f(output, share * y.low_weight * x.high_weight, map, plane + y.low * map.width + x.high);
            f(output, share * y.high_weight * x.low_weight, map, plane + y.high * map.width + x.low);
            f(output, share * y.high_weight * x.high_weight, map, plane + y.high * map.width + x.high);
          }
        }
      }
    }
  }
}

bool close(double a, double b) { return std::abs(a - b) < 1e-10 || (a != a && b != b); }

Values forward(const RoiAlignRegions& r, int64_t outputs) {
  Values result(outputs, -7);
  const RoiAlignParams p{r, result.data(), false};
  std::vector<Values> workspace(1, Values((roi_align_cuda_workspace_bytes(p) + 7) / 8));
  check_launch(roi_align_cuda(p, workspace[0].data(), nullptr));
  return result;
}

void check_means_of(const Case& c, int64_t levels) {
  const Values maps = numbers(map_numbers(levels), 1);
  const RoiAlignRegions r = c.of(maps, levels);
  Values expected(c.outputs());
  for_neighbours(r, [&](int64_t output, double weight, const RoiAlignMap& map, int64_t cell) {
    expected[output] += weight * static_cast<const double*>(map.data)[cell];
  });
  const Values result = forward(r, c.outputs());
  const int64_t last = c.outputs() / c.regions() * (c.regions() - 1);
  for (int64_t i = 0; i < c.outputs(); ++i)
    require(i < last ? close(result[i], expected[i]) : result[i] != result[i], "mean");
}

void check_gradients_of(const Case& c, int64_t levels) {
  const Values maps = numbers(map_numbers(levels), 1), grad = numbers(c.outputs(), 2);
  const RoiAlignRegions r = c.of(maps, levels);
  Values expected(map_numbers(levels)), result(map_numbers(levels), -7);
  for_neighbours(r, [&](int64_t output, double weight, const RoiAlignMap& map, int64_t cell) {
    expected[static_cast<const double*>(map.data) - maps.data() + cell] += weight * grad[output];
  });
  const int64_t bins = c.pooled_height * c.pooled_width;
  RoiAlignBackwardParams p{r, grad.data(), {kChannels * bins, bins, c.pooled_width, 1}, {}, false, nullptr};
  for (int64_t i = 0; i < levels; ++i)
    p.grad_maps[i] = result.data() + (static_cast<const double*>(r.levels[i].data) - maps.data());
  check_launch(roi_align_backward_cuda(p, nullptr, nullptr));
  for (size_t i = 0; i < result.size(); ++i) require(close(result[i], expected[i]), "gradient of maps");
}

void check_means() {
  check_means_of({2, 3, 2, false, false}, 1);
  check_means_of({3, 2, -1, true, false}, 1);
  check_means_of({3, 2, 0, false, false}, 2);
  check_means_of({1, 2, 1000, false, false}, 1);  // taps in the workspace
}

void check_gradients() {
  check_gradients_of({2, 3, 2, false, false}, 1);
  check_gradients_of({18, 17, -1, true, false}, 1);
  check_gradients_of({3, 2, 0, false, false}, 2);
}

// The gradient of the sum of all maxima moves the sum as it says.
void check_maximum() {
  const Case c{2, 2, 2, false, true};
  Values maps = numbers(map_numbers(1), 3);
  const RoiAlignRegions r = c.of(maps, 1);
  const int64_t bins = c.pooled_height * c.pooled_width, sound = c.outputs() - kChannels * bins;
  const Values grad(c.outputs(), 1.0);
  Values result(maps.size(), -7), boxes(kBoxes.size(), -7);
  RoiAlignBackwardParams p{r,     grad.data(), {kChannels * bins, bins, c.pooled_width, 1}, {result.data()},
                           false, boxes.data()};
  Values workspace((roi_align_backward_cuda_workspace_bytes(p) + 7) / 8);
  check_launch(roi_align_backward_cuda(p, workspace.data(), nullptr));
  const Values before = forward(r, c.outputs());
  for (size_t i = 0; i < maps.size(); i += 5) {
    constexpr double kStep = 1e-7;
    maps[i] += kStep;
    const Values after = forward(r, c.outputs());
    maps[i] -= kStep;
    double change = 0;
    for (int64_t o = 0; o < sound; ++o) change += after[o] - before[o];
    require(std::abs(change / kStep - result[i]) < 1e-5, "gradient of the maximum");
  }
  for (size_t i = 0; i < boxes.size(); ++i)
    require(std::isfinite(boxes[i]) && (i % 5 != 0 || boxes[i] == 0), "gradient of boxes");
}

void check_empty() {
  RoiAlignParams p{};
  check_launch(roi_align_cuda(p, nullptr, nullptr));
  check_launch(roi_align_backward_cuda({}, nullptr, nullptr));
}

const EmulatedCases kCases = {{"means", check_means},
                              {"gradients", check_gradients},
                              {"maximum", check_maximum},
                              {"empty", check_empty}};

}  // namespace
}  // namespace gcv

int main(int argc, char** argv) { return gcv::run_cases(gcv::kCases, argc, argv); }

// The launchers of csrc/roi/pyramid_cuda.h, executed by the emulator in exactly sized memory.
#include <cmath>
#include <vector>

#include "emulated_cases.h"
#include "roi/pyramid_cuda.h"

namespace {

gcv::Pyramid pyramid(bool average, const std::vector<float>& boxes) {
  gcv::Pyramid p{};
  p.images = 2, p.channels = 3, p.height = 5, p.width = 6;
  p.regions = {boxes.data(), int64_t(boxes.size()) / 5, 5, gcv::DType::f32};
  p.level_count = 2;
  p.levels[0] = 1, p.levels[1] = 2;
  p.average = average;
  p.spatial_scale = 1;
  p.dtype = gcv::DType::f32;
  return p;
}

// Boxes: the inner 3 x 4 cells of image 1, one of no image, one outside, one that is not finite.
void check(bool average) {
  const std::vector<float> boxes{1, 0, 0, 5, 4, 7, 0, 0, 5, 4, 0, 90, 90, 99, 99, 0, 0, 0, INFINITY, 4};
  const gcv::Pyramid p = pyramid(average, boxes);
  std::vector<float> maps(2 * 3 * 5 * 6), output(4 * 15), grad(4 * 15, 1.f), grad_input(maps.size()),
      values(4 * 15);
  for (size_t i = 0; i < maps.size(); ++i) maps[i] = float(i);
  const gcv::PlanesIn planes{maps.data(), {90, 30, 6, 1}};
  std::vector<int32_t> places(average ? 0 : 4 * 15);
  const gcv::PyramidBackwardParams backward{p, grad.data(), planes, grad_input.data(), {90, 30, 6, 1}};
  gcv::check_launch(gcv::pyramid_pool_cuda({p, planes, output.data()}, nullptr));
  gcv::check_launch(gcv::pyramid_backward_cuda(backward, places.data(), nullptr));
  gcv::check_launch(gcv::pyramid_at_cuda({p, planes, planes, values.data()}, nullptr));
  bool fine = true;
  for (int c = 0; c < 3; ++c) {
    const float corner = 90.f + 30 * float(c) + 7;  // rows 1 to 3, columns 1 to 4
    fine = fine && output[c] == (average ? corner + 7.5f : corner + 15);
  }
  for (int i = 0; i < 15; ++i) {
    fine = fine && std::isnan(output[15 + i]) && output[30 + i] == 0 && std::isnan(output[45 + i]);
    if (!average) fine = fine && values[i] == output[i] && values[15 + i] == 0;
  }
  double total = 0;
  for (float g : grad_input) total += g;
  gcv::require(fine, "features");
  gcv::require(std::abs(total - 15) < 1e-3, "gradient");
}

const gcv::EmulatedCases kCases = {{"maximum", [] { check(false); }}, {"mean", [] { check(true); }}};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }

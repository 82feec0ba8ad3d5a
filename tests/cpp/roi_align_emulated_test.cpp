// The launchers of csrc/roi/roi_align_cuda.h, executed by the emulator, against plain loops over samples.
// Buffers have exactly the documented sizes, so that AddressSanitizer sees a step beyond them.
#include <algorithm>
#include <vector>

#include "emulated_cases.h"
#include "roi/roi_align_cuda.h"
#include "roi_align_naive.h"

namespace gcv {
namespace {

using gcv_test::AlignLevel;
using gcv_test::AlignProblem;
using gcv_test::AlignResults;
using gcv_test::close;

using Values = std::vector<double>;

constexpr double kTolerance = 1e-10;

// Levels have half the size each; regions are told apart by an area of 20. One region is huge.
AlignProblem problem(int64_t rows, int64_t columns, int64_t ratio, bool aligned, bool is_max,
                     int64_t levels = 1) {
  std::vector<AlignLevel> sizes;
  for (int64_t i = 0; i < levels; ++i) sizes.push_back(AlignLevel{9 >> i, 11 >> i, 1.0 / double(1 << i), {}});
  AlignProblem p = gcv_test::align_problem(2, 3, sizes, rows, columns, ratio, aligned, is_max, 3);
  if (levels > 1) p.areas = {20};
  const double huge[5] = {1, -1e9, 2, 1e9, 3};
  std::copy_n(huge, 5, p.boxes.begin());
  return p;
}

RoiAlignRegions arguments(const AlignProblem& p) {
  RoiAlignRegions r = p.shape(DType::f64);
  r.boxes.rows = p.boxes.data();
  for (size_t i = 0; i < p.levels.size(); ++i) {
    const int64_t h = p.levels[i].height, w = p.levels[i].width;
    r.levels[i] = {p.levels[i].maps.data(), {p.channels * h * w, h * w, w, 1}, h, w, p.levels[i].scale};
  }
  return r;
}

Values numbers_for(size_t bytes) { return Values((bytes + 7) / 8); }

void check_forward(const AlignProblem& p) {
  Values output(p.outputs(), -7);
  const RoiAlignParams params{arguments(p), output.data(), false};
  Values workspace = numbers_for(roi_align_cuda_workspace_bytes(params));
  check_launch(roi_align_cuda(params, workspace.data(), nullptr));
  require(close(output, gcv_test::naive_align<double>(p).output, kTolerance), "output");
}

void check_backward(const AlignProblem& p) {
  const int64_t bins = p.bins();
  std::vector<Values> grad_maps;
  Values grad_boxes(p.boxes.size(), -7);
  RoiAlignBackwardParams params{arguments(p), p.grad.data(), {p.channels * bins, bins, p.columns, 1},
                                {},           false,         grad_boxes.data()};
  for (const AlignLevel& level : p.levels) grad_maps.emplace_back(level.maps.size(), -7);
  for (size_t i = 0; i < grad_maps.size(); ++i) params.grad_maps[i] = grad_maps[i].data();
  Values workspace = numbers_for(roi_align_backward_cuda_workspace_bytes(params));
  check_launch(roi_align_backward_cuda(params, workspace.data(), nullptr));
  const AlignResults expected = gcv_test::naive_align<double>(p);
  for (size_t i = 0; i < grad_maps.size(); ++i)
    require(close(grad_maps[i], expected.grad_maps[i], kTolerance), "gradient of maps");
  require(close(grad_boxes, expected.grad_boxes, kTolerance), "gradient of boxes");
}

void check_means() {
  check_forward(problem(2, 3, 2, false, false));
  check_forward(problem(3, 2, -1, true, false));
  check_forward(problem(3, 2, 0, false, false, 2));
  check_forward(problem(1, 2, 1000, false, false));  // taps in the workspace
}

void check_gradients() {
  check_backward(problem(2, 3, 2, false, false));
  check_backward(problem(18, 17, -1, true, false));
  check_backward(problem(3, 2, 0, false, false, 2));
}

void check_maximum() {
  for (bool aligned : {false, true}) {
    check_forward(problem(2, 2, 2, aligned, true));
    check_backward(problem(2, 2, 2, aligned, true));
  }
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

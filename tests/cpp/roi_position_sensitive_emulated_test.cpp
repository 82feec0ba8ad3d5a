// The launchers of csrc/roi/position_sensitive_cuda.h, executed by the emulator, against plain loops.
// Buffers have exactly the documented sizes, so that AddressSanitizer sees a step beyond them.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <string>

#include "emulated_cases.h"
#include "roi/position_sensitive_cuda.h"
#include "roi_position_sensitive_naive.h"

namespace gcv {
namespace {

std::string text_of(const PsProblem& p, bool pool) {
  return std::string(pool ? "pool" : "align") + ", " + std::to_string(p.regions()) + " regions on " +
         std::to_string(p.height) + " x " + std::to_string(p.width) + ", ratio " + std::to_string(p.ratio);
}

template <class E>
void check_forward(const PsProblem& p, bool pool) {
  const auto boxes = ps_elements<PsBoxOf<E>>(p.boxes);
  const std::vector<double> numbers = ps_numbers(p.pixels());
  const int64_t plane = p.height * p.width, channels = p.channels();
  const std::vector<E> input = ps_channels_last(ps_elements<E>(numbers), p.images, channels, plane);
  std::vector<E> output(size_t(p.results()));
  check_launch(ps_forward_cuda({ps_geometry_of<E>(p, pool, boxes),
                                input.data(),
                                {{channels * plane, 1, p.width * channels, channels}},
                                output.data()},
                               nullptr));
  require(ps_close(output, ps_naive_forward(p, pool, numbers)), "forward: " + text_of(p, pool));
}

template <class E>
void check_backward(const PsProblem& p, bool pool) {
  const auto boxes = ps_elements<PsBoxOf<E>>(p.boxes);
  const std::vector<double> numbers = ps_numbers(p.results());
  const int64_t bins = p.bins_y * p.bins_x;
  const std::vector<E> grad = ps_channels_last(ps_elements<E>(numbers), p.regions(), p.bin_channels, bins);
  std::vector<E> grad_input(size_t(p.pixels()));
  check_launch(ps_backward_cuda({ps_geometry_of<E>(p, pool, boxes),
                                 grad.data(),
                                 {{p.channels(), 1, p.bins_x * p.bin_channels, p.bin_channels}},
                                 grad_input.data()},
                                nullptr));
  require(ps_close(grad_input, ps_naive_backward(p, pool, numbers)), "backward: " + text_of(p, pool));
}

template <class E>
void check(const PsProblem& p) {
  for (bool pool : {false, true}) {
    check_forward<E>(p, pool);
    check_backward<E>(p, pool);
  }
}

void check_sizes() {
  for (int64_t regions : {1, 31, 33}) check<float>(ps_problem(regions, 1, 5, 6, 2, false));
  for (int64_t size : {1, 2, 7}) check<float>(ps_problem(3, 2, size, size, 0, true));
  check<float>(ps_problem(0, 2, 5, 6, 2, false));
}

void check_types() {
  check<double>(ps_problem(5, 2, 5, 6, 2, true));
  check<Half>(ps_problem(5, 2, 5, 6, 2, true));
  check<BFloat16>(ps_problem(5, 2, 5, 6, 0, true));
}

void check_tiles() { check<float>(ps_problem(3, 1, 50, 70, 2, false)); }

// Windows of more than a warp's width and height.
void check_windows() {
  PsProblem p{1, 1, 40, 44, 1, 1, 1, 0, {0, 0.6, 0.7, 43.3, 39.2, 0, 3.4, 2.7, 38.1, 37.9}};
  check<float>(p);
  p.ratio = 2;
  check<float>(p);
}

void check_boxes() {
  for (const PsProblem& p : {ps_problem(4, 2, 5, 6, 2, true), ps_problem(3, 2, 5, 6, 0, false)}) {
    const std::vector<double> input = ps_numbers(p.pixels()), grad = ps_numbers(p.results());
    std::vector<double> grad_boxes(p.boxes.size(), 7);
    const int64_t bins = p.bins_y * p.bins_x, plane = p.height * p.width;
    check_launch(ps_boxes_backward_cuda({ps_geometry_of<double>(p, false, p.boxes),
                                         grad.data(),
                                         {{p.channels(), bins, p.bins_x, 1}},
                                         input.data(),
                                         {{p.channels() * plane, plane, p.width, 1}},
                                         grad_boxes.data()},
                                        nullptr));
    require(ps_close(grad_boxes, ps_naive_boxes(p, input, grad)), "boxes: " + text_of(p, false));
  }
}

const EmulatedCases kCases = {
    {"sizes", check_sizes}, {"types", check_types},     {"tiles", check_tiles},
    {"boxes", check_boxes}, {"windows", check_windows},
};

}  // namespace
}  // namespace gcv

int main(int argc, char** argv) { return gcv::run_cases(gcv::kCases, argc, argv); }

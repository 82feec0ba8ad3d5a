// The launcher of csrc/boxes/matching_cuda.h, executed by the emulator, against plain loops. Buffers have
// exactly the documented sizes, so that AddressSanitizer sees a step beyond them.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "boxes/matching_cuda.h"
#include "boxes_matching_naive.h"
#include "emulated_cases.h"

namespace gcv {
namespace {

template <class E>
constexpr DType kTypeOf = DType::f32;
template <>
constexpr DType kTypeOf<double> = DType::f64;
template <>
constexpr DType kTypeOf<Half> = DType::f16;
template <>
constexpr DType kTypeOf<BFloat16> = DType::bf16;

template <class E>
E element(double x) {
  E e;
  narrow(typename Compute<E>::type(x), e);
  return e;
}

// Each element `step` after the one before it; the last one at the very end.
template <class E>
std::vector<E> spread(const Boxes& values, int64_t step) {
  std::vector<E> out(values.empty() ? 0 : (values.size() - 1) * step + 1);
  for (size_t i = 0; i < values.size(); ++i) out[i * step] = element<E>(values[i]);
  return out;
}

template <class E>
std::vector<int64_t> run_match(const MatchProblem& problem, int64_t step) {
  const auto gts = spread<E>(problem.gts, step), anchors = spread<E>(problem.anchors, step);
  std::vector<int64_t> matches(problem.anchors.size() / 4, -7);
  const MatchParams p{{gts.data(), int64_t(problem.gts.size() / 4), 4 * step, step},
                      {anchors.data(), int64_t(matches.size()), 4 * step, step},
                      kTypeOf<E>,
                      problem.high,
                      problem.low,
                      problem.allow_low_quality,
                      matches.data()};
  const size_t bytes = match_cuda_workspace_bytes(p);
  void* memory = nullptr;
  require(posix_memalign(&memory, 256, bytes) == 0, "out of memory");
  const std::unique_ptr<void, void (*)(void*)> workspace(memory, std::free);
  std::memset(memory, 0xa5, bytes);
  const cudaError_t error = match_cuda(p, memory, nullptr);
  require(error == cudaSuccess, "launch failed: " + std::to_string(error) + " " + gcv_emulator_last_error());
  return matches;
}

template <class E>
void compare(MatchProblem problem, int64_t step = 1) {
  for (bool allow : {false, true}) {
    problem.allow_low_quality = allow;
    require(run_match<E>(problem, step) == naive_matches<typename Compute<E>::type>(problem),
            std::to_string(problem.gts.size() / 4) + " gts, " + std::to_string(problem.anchors.size() / 4) +
                " anchors");
  }
}

void check_sizes() {
  for (int64_t anchors : {0, 1, 255, 257, 600}) {
    compare<float>({close_boxes(5, 1), close_boxes(anchors, 2)});
    compare<float>(small_anchors(anchors));
  }
  for (int64_t gts : {0, 1, 128, 129}) compare<float>({close_boxes(gts, 3), close_boxes(90, 4)});
}

void check_types() {
  const MatchProblem p{close_boxes(9, 5), close_boxes(300, 6)};
  compare<double>(p);
  compare<Half>(p);
  compare<BFloat16>(p);
  compare<float>(p, 3);
  compare<double>(p, 2);
}

void check_grid() {
  MatchProblem p{close_boxes(20, 7), anchor_grid(600)};
  compare<float>(p);
  p.gts.insert(p.gts.end(), {900, 900, 950, 950});  // out of reach: every anchor is its best
  compare<float>(p);
  // Each gt, of several tiles, is some anchor's best.
  p = {anchor_grid(300), anchor_grid(300, true)};
  compare<float>(p);
  p.low = p.high = 2;
  compare<float>(p);
}

void check_thresholds() {
  MatchProblem p{close_boxes(9, 8), close_boxes(300, 9)};
  for (auto [low, high] : {std::pair<double, double>{0, 0.5}, {-1, -1}, {1.0 / 3, 1.0 / 3}, {0.2, 2}}) {
    p.low = low;
    p.high = high;
    compare<float>(p);
  }
}

void check_odd() {
  compare<float>(cancelling_areas());
  for (const Oddity& oddity : oddities()) {
    const Boxes gts = close_boxes(17, 10), anchors = anchor_grid(90);
    compare<float>({oddity.in(gts), anchors});
    compare<double>({gts, oddity.in(anchors)});
    compare<float>({oddity.in(gts), oddity.in(anchors)});
  }
}

void check_limits() {
  MatchParams p{};
  p.gts.count = 50;
  p.anchors.count = 200000;
  require(match_cuda_workspace_bytes(p) == 0, "no workspace without low-quality matches");
  p.allow_low_quality = true;
  require(match_cuda_workspace_bytes(p) < 50 * 200000 * sizeof(float) / 200, "far less than the matrix");
  p.gts.count = int64_t(1) << 31;
  require(match_cuda(p, nullptr, nullptr) == cudaErrorInvalidValue, "indices of gts have 32 bits");
}

const EmulatedCases kCases = {
    {"sizes", check_sizes},           {"types", check_types}, {"grid", check_grid},
    {"thresholds", check_thresholds}, {"odd", check_odd},     {"limits", check_limits},
};

}  // namespace
}  // namespace gcv

int main(int argc, char** argv) { return gcv::run_cases(gcv::kCases, argc, argv); }

// roi_pyramid_emulated_test [--order ORDER]: the launchers of csrc/roi/pyramid_cuda.h, executed by the
// emulator in exactly sized memory, against plain loops. Exit status: 0 all right, 1 wrong result or failed
// launch, 3 bad usage.
#include <cstdio>
#include <cstring>

#include "emulator/engine.h"
#include "roi/pyramid_cuda.h"
#include "roi_pyramid_naive.h"

namespace {

using gcv_test::PyramidProblem;

template <class T>
bool right(const PyramidProblem<T>& problem) {
  gcv_test::PyramidResults<T> r(problem);
  const gcv::Pyramid p = problem.pyramid();
  const gcv::PlanesIn input = problem.planes(problem.maps), values = problem.planes(problem.values);
  std::vector<int32_t> places(p.average ? 0 : problem.grad.size());
  gcv::PyramidBackwardParams backward{p, problem.grad.data(), input, r.grad_input.data(), {}};
  problem.set_strides(backward.grad_strides);
  if (gcv::pyramid_pool_cuda({p, input, r.pooled.data()}, nullptr) != cudaSuccess ||
      gcv::pyramid_backward_cuda(backward, places.data(), nullptr) != cudaSuccess ||
      (!p.average && gcv::pyramid_at_cuda({p, values, input, r.picked.data()}, nullptr) != cudaSuccess)) {
    std::printf("launch failed: %s\n", gcv_emulator_last_error());
    return false;
  }
  if (gcv_test::pyramid_right(problem, r)) return true;
  std::printf("FAILED: %zu bytes, %lld channels, average %d, paper %d, whole %d, layout %d\n", sizeof(T),
              static_cast<long long>(p.channels), p.average, p.paper, p.whole, int(problem.kind.layout));
  return false;
}

template <class T>
bool all_right() {
  bool passed = true;
  for (const gcv_test::PyramidKind& kind : gcv_test::pyramid_kinds()) {
    auto problem = gcv_test::pyramid_problem<T>(kind, 3, 5, 6, {1, 2, 3});
    if (!kind.whole) problem.boxes[0] = T(2), problem.boxes[5] = T(-1);  // of no image
    passed = right(problem) && passed;
    passed = right(gcv_test::pyramid_problem<T>(kind, 2, 7, 4, {5, 2})) && passed;
  }
  return passed;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--order") == 0) {
    if (gcv_emulator_set_order(argv[2]) != 0) return 3;
  } else if (argc != 1) {
    return 3;
  }
  const bool passed = all_right<float>() & all_right<double>();
  std::printf("%s\n", passed ? "launchers of spatial pyramid pooling: passed" : "some checks failed");
  return passed ? 0 : 1;
}

// The launchers of csrc/roi/pyramid_cuda.h, executed by the emulator in exactly sized memory, against plain
// loops.
#include <string>
#include <vector>

#include "emulated_cases.h"
#include "roi/pyramid_cuda.h"
#include "roi_pyramid_naive.h"

namespace {

using gcv::check_launch;
using gcv_test::PyramidProblem;

template <class T>
void check(const PyramidProblem<T>& problem) {
  gcv_test::PyramidResults<T> r(problem);
  const gcv::Pyramid p = problem.pyramid();
  const gcv::PlanesIn input = problem.planes(problem.maps), values = problem.planes(problem.values);
  std::vector<int32_t> places(p.average ? 0 : problem.grad.size());
  gcv::PyramidBackwardParams backward{p, problem.grad.data(), input, r.grad_input.data(), {}};
  problem.set_strides(backward.grad_strides);
  check_launch(gcv::pyramid_pool_cuda({p, input, r.pooled.data()}, nullptr));
  check_launch(gcv::pyramid_backward_cuda(backward, places.data(), nullptr));
  if (!p.average) check_launch(gcv::pyramid_at_cuda({p, values, input, r.picked.data()}, nullptr));
  gcv::require(gcv_test::pyramid_right(problem, r),
               std::to_string(p.channels) + " channels" + (p.average ? ", average" : ", maximum") +
                   (p.paper ? ", paper" : "") + (p.whole ? ", whole" : ""));
}

template <class T>
void check_all() {
  for (const gcv_test::PyramidKind& kind : gcv_test::pyramid_kinds()) {
    auto problem = gcv_test::pyramid_problem<T>(kind, 3, 5, 6, {1, 2, 3});
    if (!kind.whole) problem.boxes[0] = T(2), problem.boxes[5] = T(-1);  // of no image
    check(problem);
    check(gcv_test::pyramid_problem<T>(kind, 2, 7, 4, {5, 2}));
  }
}

const gcv::EmulatedCases kCases = {{"fp32", check_all<float>}, {"fp64", check_all<double>}};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }

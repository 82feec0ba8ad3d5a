// The launchers of csrc/roi/roi_pool_cuda.h, executed by the emulator in exactly sized memory, against
// plain loops.
#include "emulated_cases.h"
#include "roi/roi_pool_cuda.h"
#include "roi_pool_naive.h"

namespace {

using gcv::check_launch;
using gcv_test::PoolProblem;
using gcv_test::PoolResults;

template <class T>
void check(const PoolProblem<T>& p) {
  PoolResults<T> r;
  r.pooled.resize(size_t(p.outputs()));
  r.picked.resize(size_t(p.outputs()));
  r.grad_input.resize(p.maps.size());
  std::vector<int32_t> maxima(size_t(p.outputs()));
  const auto values = gcv_test::picked_maps(p);
  const gcv::PoolShape s = p.shape();
  const gcv::PoolMaps input = p.input(p.maps.data());
  check_launch(gcv::roi_pool_cuda({s, input, r.pooled.data()}, nullptr));
  check_launch(gcv::roi_pool_pick_cuda({s, p.input(values.data()), input, r.picked.data()}, nullptr));
  check_launch(gcv::roi_pool_backward_cuda({s, p.bins(p.grad.data()), input, p.input(r.grad_input.data())},
                                           maxima.data(), nullptr));
  gcv::require(r == gcv_test::naive_pool(p), std::to_string(p.channels) + " channels of " +
                                                 std::to_string(p.height) + " x " + std::to_string(p.width) +
                                                 (p.channels_last ? ", channels_last" : ""));
}

template <class T>
void check_all() {
  for (bool channels_last : {false, true}) {
    // More than a warp of channels, and of regions; rows of several stretches; regions of no image.
    auto problem = gcv_test::pool_problem<T>(2, 34, 4, 35, 5, 2, 3, channels_last);
    problem.boxes[0] = T(2);
    problem.boxes[5] = T(-1);
    check(problem);
    check(gcv_test::pool_problem<T>(1, 2, 5, 6, 37, 2, 2, channels_last));
    check(gcv_test::pool_problem<T>(1, 1, 1, 1, 1, 1, 1, channels_last));
    check(gcv_test::pool_problem<T>(2, 3, 3, 3, 0, 1, 1, channels_last));
  }
}

const gcv::EmulatedCases kCases = {{"fp32", check_all<float>}, {"fp64", check_all<double>}};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }

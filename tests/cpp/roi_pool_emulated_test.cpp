// roi_pool_emulated_test [--order ORDER]: the launchers of csrc/roi/roi_pool_cuda.h, executed by the emulator
// in exactly sized memory, against plain loops. Exit status: 0 all right, 1 wrong result or failed launch, 3
// bad usage.
#include <cstdio>
#include <cstring>

#include "emulator/engine.h"
#include "roi/roi_pool_cuda.h"
#include "roi_pool_naive.h"

namespace {

using gcv_test::PoolProblem;
using gcv_test::PoolResults;

template <class T>
bool right(const PoolProblem<T>& p) {
  PoolResults<T> r;
  r.pooled.resize(size_t(p.outputs()));
  r.picked.resize(size_t(p.outputs()));
  r.grad_input.resize(p.maps.size());
  std::vector<int32_t> maxima(size_t(p.outputs()));
  const auto values = gcv_test::picked_maps(p);
  const gcv::PoolShape s = p.shape();
  const gcv::PoolMaps input = p.input(p.maps.data());
  if (gcv::roi_pool_cuda({s, input, r.pooled.data()}, nullptr) != cudaSuccess ||
      gcv::roi_pool_pick_cuda({s, p.input(values.data()), input, r.picked.data()}, nullptr) != cudaSuccess ||
      gcv::roi_pool_backward_cuda({s, p.bins(p.grad.data()), input, p.input(r.grad_input.data())},
                                  maxima.data(), nullptr) != cudaSuccess) {
    std::printf("launch failed: %s\n", gcv_emulator_last_error());
    return false;
  }
  if (r == gcv_test::naive_pool(p)) return true;
  std::printf("FAILED: %zu bytes, %lld channels, %lld x %lld, channels_last %d\n", sizeof(T),
              static_cast<long long>(p.channels), static_cast<long long>(p.height),
              static_cast<long long>(p.width), p.channels_last);
  return false;
}

template <class T>
bool all_right() {
  bool passed = true;
  for (bool channels_last : {false, true}) {
    // More than a warp of channels, and of regions; rows of several stretches; regions of no image.
    auto problem = gcv_test::pool_problem<T>(2, 34, 4, 35, 5, 2, 3, channels_last);
    problem.boxes[0] = T(2);
    problem.boxes[5] = T(-1);
    passed = right(problem) && passed;
    passed = right(gcv_test::pool_problem<T>(1, 2, 5, 6, 37, 2, 2, channels_last)) && passed;
    passed = right(gcv_test::pool_problem<T>(1, 1, 1, 1, 1, 1, 1, channels_last)) && passed;
    passed = right(gcv_test::pool_problem<T>(2, 3, 3, 3, 0, 1, 1, channels_last)) && passed;
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
  std::printf("%s\n", passed ? "launchers of RoI pooling: passed" : "some checks failed");
  return passed ? 0 : 1;
}

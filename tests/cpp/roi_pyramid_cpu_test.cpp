// Drives the CPU kernels of spatial pyramid pooling at every instruction set with exactly sized memory, for
// the sanitizers, and compares them with plain loops.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "roi_pyramid_naive.h"

namespace {

using gcv_test::PyramidProblem;
using gcv_test::PyramidResults;

int failures = 0;

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up: the sanitizer sees the first byte too many.
std::unique_ptr<void, Free> exactly(int64_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, size_t(bytes > 0 ? bytes : 1)) != 0) std::abort();
  return std::unique_ptr<void, Free>(p);
}

// Each half of the items by a thread of its own.
template <class Run>
void in_halves(int64_t items, int64_t scratch_bytes, const Run& run) {
  const auto half = [&](int64_t begin, int64_t end) { run(exactly(scratch_bytes).get(), begin, end); };
  std::thread other(half, 0, items / 2);
  half(items / 2, items);
  other.join();
}

template <class T>
PyramidResults<T> run(const PyramidProblem<T>& problem) {
  PyramidResults<T> r(problem);
  const gcv::Pyramid p = problem.pyramid();
  const int64_t lanes = gcv::pyramid_lanes(p.dtype), bytes = gcv::pyramid_scratch_bytes(p);
  const int64_t groups = (p.channels + lanes - 1) / lanes, all = p.images * groups;
  const gcv::PyramidPoolParams forward{p, problem.planes(problem.maps), r.pooled.data()};
  const auto shared = exactly(all * problem.cells() * lanes * int64_t(sizeof(T)));
  if (!p.whole) {
    in_halves(all, 0, [&](void*, int64_t begin, int64_t end) {
      gcv::pyramid_gather_cpu(forward, shared.get(), begin, end);
    });
  }
  in_halves(p.regions.count * groups, bytes, [&](void* scratch, int64_t begin, int64_t end) {
    gcv::pyramid_pool_cpu(forward, p.whole ? nullptr : shared.get(), scratch, begin, end);
  });
  gcv::PyramidBackwardParams backward{p, problem.grad.data(), forward.input, r.grad_input.data(), {}};
  problem.set_strides(backward.grad_strides);
  const gcv::PyramidAtParams at{p, problem.planes(problem.values), forward.input, r.picked.data()};
  in_halves(all, bytes, [&](void* scratch, int64_t begin, int64_t end) {
    gcv::pyramid_backward_cpu(backward, scratch, begin, end);
    if (!p.average) gcv::pyramid_at_cpu(at, scratch, begin, end);
  });
  return r;
}

template <class T>
void check(gcv::Isa isa, const PyramidProblem<T>& p) {
  if (gcv_test::pyramid_right(p, run(p))) return;
  ++failures;
  std::printf(
      "FAILED: %s, %zu bytes, %lld channels, %lld x %lld, average %d, paper %d, whole %d, layout %d\n",
      gcv::isa_name(isa), sizeof(T), static_cast<long long>(p.channels), static_cast<long long>(p.height),
      static_cast<long long>(p.width), p.kind.average, p.kind.paper, p.kind.whole, int(p.kind.layout));
}

template <class T>
void check_all(gcv::Isa isa) {
  for (const gcv_test::PyramidKind& kind : gcv_test::pyramid_kinds()) {
    for (int64_t channels : {1, 5, 16, 35})
      check(isa, gcv_test::pyramid_problem<T>(kind, channels, 7, 19, {1, 3, 4}));
    check(isa, gcv_test::pyramid_problem<T>(kind, 3, 1, 1, {1, 2}));
    check(isa, gcv_test::pyramid_problem<T>(kind, 2, 5, 3, {6, 2}));
  }
}

}  // namespace

int main() {
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) continue;
    check_all<float>(isa);
    check_all<double>(isa);
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}

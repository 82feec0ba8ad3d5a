// Drives the CPU kernels of RoI pooling at every instruction set with exactly sized memory, for the
// sanitizers, and compares them with plain loops.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>

#include "roi_pool_naive.h"

namespace {

using gcv_test::PoolProblem;
using gcv_test::PoolResults;

int failures = 0;

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up: the sanitizer sees the first byte too many.
std::unique_ptr<void, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(bytes, 1)) != 0) std::abort();
  return std::unique_ptr<void, Free>(p);
}

// Each half of the items by a thread of its own.
void in_halves(int64_t items, size_t scratch_bytes, const std::function<void(void*, int64_t, int64_t)>& run) {
  const auto half = [&](int64_t begin, int64_t end) { run(exactly(scratch_bytes).get(), begin, end); };
  std::thread other(half, 0, items / 2);
  half(items / 2, items);
  other.join();
}

template <class T>
PoolResults<T> run(const PoolProblem<T>& p, bool lay_out) {
  PoolResults<T> r;
  r.pooled.resize(size_t(p.outputs()));
  r.picked.resize(size_t(p.outputs()));
  r.grad_input.resize(p.maps.size());
  const gcv::PoolShape s = p.shape();
  std::vector<int64_t> order, starts(1, 0);
  for (int64_t n = 0; n < p.images; ++n) {
    for (int64_t k = 0; k < p.regions(); ++k)
      if (int64_t(p.boxes[size_t(5 * k)]) == n) order.push_back(k);
    starts.push_back(int64_t(order.size()));
  }
  const int64_t block = gcv::roi_pool_block_cpu(s.dtype), blocks = (p.channels + block - 1) / block;
  const int64_t pixels = gcv::map_pixels(s);
  const gcv::RoiPoolParams forward{s, p.input(p.maps.data()), r.pooled.data()};
  const auto laid_out = exactly(size_t(blocks * p.images * pixels * block) * sizeof(T));
  if (lay_out) {
    in_halves(blocks * p.images, 0, [&](void*, int64_t begin, int64_t end) {
      gcv::roi_pool_lay_out_cpu(forward, laid_out.get(), begin, end);
    });
  }
  in_halves(blocks * p.regions(), gcv::roi_pool_scratch_cpu(s, lay_out ? 0 : pixels),
            [&](void* scratch, int64_t begin, int64_t end) {
              gcv::roi_pool_cpu(forward, lay_out ? laid_out.get() : nullptr, order.data(), scratch, begin,
                                end);
            });
  const gcv::PoolOrder by_image{order.data(), starts.data()};
  const auto values = gcv_test::picked_maps(p);
  const gcv::RoiPoolPickParams pick{s, p.input(values.data()), forward.input, r.picked.data()};
  const gcv::RoiPoolBackwardParams backward{s, p.bins(p.grad.data()), forward.input,
                                            p.input(r.grad_input.data())};
  const size_t bytes = gcv::roi_pool_owner_scratch_cpu(s);
  in_halves(blocks * p.images, bytes, [&](void* scratch, int64_t begin, int64_t end) {
    gcv::roi_pool_pick_cpu(pick, by_image, scratch, begin, end);
    gcv::roi_pool_backward_cpu(backward, by_image, scratch, begin, end);
  });
  return r;
}

template <class T>
void check(gcv::Isa isa, const PoolProblem<T>& p) {
  const auto expected = gcv_test::naive_pool(p);
  for (bool lay_out : {false, true}) {
    if (run(p, lay_out) == expected) continue;
    ++failures;
    std::printf("FAILED: %s, %zu bytes, %lld channels, %lld x %lld, channels_last %d, laid out %d\n",
                gcv::isa_name(isa), sizeof(T), static_cast<long long>(p.channels),
                static_cast<long long>(p.height), static_cast<long long>(p.width), p.channels_last, lay_out);
  }
}

template <class T>
void check_all(gcv::Isa isa) {
  for (bool channels_last : {false, true}) {
    check(isa, gcv_test::pool_problem<T>(2, 70, 9, 11, 12, 3, 2, channels_last));
    check(isa, gcv_test::pool_problem<T>(3, 3, 17, 5, 6, 4, 5, channels_last));
    check(isa, gcv_test::pool_problem<T>(1, 64, 40, 33, 3, 2, 2, channels_last));
    check(isa, gcv_test::pool_problem<T>(1, 1, 1, 1, 1, 1, 1, channels_last));
  }
  check(isa, gcv_test::pool_problem<T>(1, 130, 24, 24, 170, 7, 7, false));  // streamed
}

}  // namespace

int main() {
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
      continue;
    }
    check_all<float>(isa);
    check_all<double>(isa);
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}

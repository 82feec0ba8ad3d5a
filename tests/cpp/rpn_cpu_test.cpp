// Drives the CPU kernels of room rpn at every instruction set with exactly sized memory, for the sanitizers,
// and compares them with sorts and plain loops. `rpn_cpu_test full` adds larger pyramids.
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

#include "rpn_naive.h"

namespace {

using gcv_test::LevelSize;
using gcv_test::Logits;
using Levels = std::vector<LevelSize>;

int failures = 0;

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up: the sanitizer sees the first byte too many.
std::unique_ptr<void, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(bytes, 1)) != 0) std::abort();
  std::memset(p, 0xa5, bytes);
  return std::unique_ptr<void, Free>(p);
}

void run(const gcv::RpnParams& p, bool threads) {
  const auto task = [&](int64_t begin, int64_t end) {
    gcv::rpn_proposals_cpu(p, exactly(gcv::rpn_workspace_bytes(p)).get(), begin, end);
  };
  if (!threads) return task(0, p.batch);
  std::vector<std::thread> pool;
  for (int64_t i = 0; i < p.batch; ++i) pool.emplace_back(task, i, i + 1);
  for (std::thread& thread : pool) thread.join();
}

template <class T>
void check(const Levels& sizes, int64_t batch, gcv::Isa isa) {
  for (Logits kind : {Logits::random, Logits::tied, Logits::odd}) {
    for (int layout = 0; layout < 4; ++layout) {
      const auto pyramid = gcv_test::make_pyramid<T>(sizes, batch, kind, layout & 1, layout & 2);
      for (int64_t pre : {0, 5, 300, 100000}) {
        for (int64_t post : {0, 4, 400}) {
          gcv_test::Proposals<T> expected, found;
          gcv_test::naive_proposals<T>(gcv_test::params_of(pyramid, pre, post, expected));
          run(gcv_test::params_of(pyramid, pre, post, found), post == 4);
          if (found == expected) continue;
          ++failures;
          std::printf("FAILED: %s, %zu levels, logits %d, layout %d, pre %lld, post %lld\n",
                      gcv::isa_name(isa), sizes.size(), int(kind), layout, static_cast<long long>(pre),
                      static_cast<long long>(post));
        }
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  // A level large enough for the sampled threshold, and more logits at it than the array of candidates holds.
  std::vector<Levels> pyramids = {
      {{1, 1, 1}}, {{3, 9, 11}, {2, 4, 5}, {1, 2, 0}, {0, 3, 3}}, {{3, 20, 22}, {1, 3, 70}}};
  if (argc > 1 && std::strcmp(argv[1], "full") == 0) pyramids.push_back({{3, 50, 67}, {3, 25, 34}});
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
      continue;
    }
    for (const Levels& sizes : pyramids) {
      check<float>(sizes, 2, isa);
      check<double>(sizes, 1, isa);
    }
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}

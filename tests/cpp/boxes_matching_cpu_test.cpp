// Drives the CPU matcher at every instruction set with exactly sized memory, for the sanitizers, and compares
// it with plain loops. `boxes_matching_cpu_test full` adds a larger case.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "boxes/matching.h"
#include "boxes_matching_naive.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what, gcv::Isa isa, int64_t anchors) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s, %s, %lld anchors\n", what, gcv::isa_name(isa), static_cast<long long>(anchors));
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up: the sanitizer sees the first byte too many.
std::unique_ptr<char, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(bytes, 1)) != 0) std::abort();
  std::memset(p, 0x3f, bytes);
  return std::unique_ptr<char, Free>(static_cast<char*>(p));
}

// Calls run(begin, end) over all strips, one thread each where asked for.
template <class Run>
void over_strips(int64_t strips, bool threads, Run run) {
  if (!threads) return run(0, strips);
  std::vector<std::thread> pool;
  for (int64_t s = 0; s < strips; ++s) pool.emplace_back([&run, s] { run(s, s + 1); });
  for (std::thread& thread : pool) thread.join();
}

// Each number of the boxes `step` elements after the one before it; the last one at the very end.
template <class T>
std::vector<int64_t> run_match(const gcv::MatchProblem& problem, int64_t step, bool threads) {
  const auto spread = [step](const gcv::Boxes& values) {
    std::vector<T> out(values.empty() ? 0 : (values.size() - 1) * step + 1);
    for (size_t i = 0; i < values.size(); ++i) out[i * step] = T(values[i]);
    return out;
  };
  const std::vector<T> gts = spread(problem.gts), anchors = spread(problem.anchors);
  std::vector<int64_t> matches(problem.anchors.size() / 4, -7);
  const gcv::MatchParams p{{gts.data(), int64_t(problem.gts.size() / 4), 4 * step, step},
                           {anchors.data(), int64_t(matches.size()), 4 * step, step},
                           sizeof(T) == 8 ? gcv::DType::f64 : gcv::DType::f32,
                           problem.high,
                           problem.low,
                           problem.allow_low_quality,
                           matches.data()};
  const auto workspace = exactly(gcv::match_workspace_bytes(p));
  void* memory = workspace.get();
  const int64_t strips = gcv::match_strips(p);
  gcv::match_prepare_cpu(p, memory);
  over_strips(strips, threads, [&](int64_t b, int64_t e) { gcv::match_strips_cpu(p, memory, b, e); });
  if (!p.allow_low_quality) return matches;
  gcv::match_best_of_gts_cpu(p, memory);
  over_strips(strips, threads, [&](int64_t b, int64_t e) { gcv::match_low_quality_cpu(p, memory, b, e); });
  return matches;
}

template <class T>
void check(gcv::MatchProblem problem, const char* what, gcv::Isa isa) {
  const int64_t anchors = int64_t(problem.anchors.size() / 4);
  for (bool allow : {false, true}) {
    problem.allow_low_quality = allow;
    const auto expected = gcv::naive_matches<T>(problem);
    expect(run_match<T>(problem, 1, false) == expected, what, isa, anchors);
    expect(run_match<T>(problem, 3, true) == expected, what, isa, anchors);
  }
}

template <class T>
void check_all(gcv::Isa isa, bool full) {
  for (int64_t anchors : {0, 1, 63, 64, 65, 200, 1025, 2200}) {
    gcv::MatchProblem p{gcv::close_boxes(17, 1), gcv::close_boxes(anchors, 2)};
    check<T>(p, "close boxes", isa);
    p.low = 0;
    check<T>(p, "threshold 0", isa);
    p.low = p.high = -1;
    check<T>(p, "every anchor matches", isa);
    check<T>(gcv::small_anchors(anchors), "small anchors", isa);
  }
  check<T>(gcv::cancelling_areas(), "cancelling areas", isa);
  for (const gcv::Oddity& oddity : gcv::oddities()) {
    const gcv::Boxes gts = gcv::close_boxes(17, 3), anchors = gcv::anchor_grid(90);
    check<T>({oddity.in(gts), anchors}, "an odd gt", isa);
    check<T>({gts, oddity.in(anchors)}, "an odd anchor", isa);
    check<T>({oddity.in(gts), oddity.in(anchors)}, "an odd gt and an odd anchor", isa);
  }
  for (int64_t gts : {1, 16, 33}) {
    gcv::MatchProblem p{gcv::close_boxes(gts, 5), gcv::anchor_grid(2200)};
    check<T>(p, "anchor grid", isa);
    check<T>({p.gts, gcv::anchor_grid(2200, true)}, "backward anchor grid", isa);
    p.gts.insert(p.gts.end(), {900, 900, 950, 950});  // out of reach: every anchor is its best
    check<T>(p, "a gt that no anchor touches", isa);
  }
  if (full) check<T>({gcv::close_boxes(300, 6), gcv::anchor_grid(20000)}, "large", isa);
}

}  // namespace

int main(int argc, char** argv) {
  const bool full = argc > 1 && std::strcmp(argv[1], "full") == 0;
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
      continue;
    }
    check_all<float>(isa, full);
    check_all<double>(isa, full);
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}

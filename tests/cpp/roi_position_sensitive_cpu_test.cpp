// Drives the CPU kernels of position-sensitive regions at every instruction set with exactly sized memory,
// for the sanitizers, and compares them with plain loops. `roi_position_sensitive_cpu_test full` adds larger
// maps.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "roi/position_sensitive_plan.h"
#include "roi_position_sensitive_naive.h"

namespace gcv {
namespace {

int failures = 0;

void expect(bool holds, const char* what, Isa isa, const PsProblem& p, bool pool) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s of %s, %s, %lld regions on %lld x %lld, ratio %lld\n", what,
              pool ? "pool" : "align", isa_name(isa), static_cast<long long>(p.regions()),
              static_cast<long long>(p.height), static_cast<long long>(p.width),
              static_cast<long long>(p.ratio));
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up: the sanitizer sees the first byte too many.
std::unique_ptr<char, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, bytes > 0 ? bytes : 1) != 0) std::abort();
  std::memset(p, 0x3f, bytes);
  return std::unique_ptr<char, Free>(static_cast<char*>(p));
}

// Two threads share the items.
template <class Run>
void in_halves(int64_t items, const Run& run) {
  std::thread other([&] { run(0, items / 2); });
  run(items / 2, items);
  other.join();
}

// Calls run(tables) with the tables of all regions.
template <class E, class Run>
void with_tables(const PsGeometry& g, const Run& run) {
  using T = typename Compute<E>::type;
  PsPlan plan;
  plan.needs.resize(size_t(g.boxes.count));
  in_halves(g.boxes.count, [&](int64_t b, int64_t e) { ps_needs_cpu(g, plan.needs.data(), b, e); });
  ps_make_plan(g, plan);
  const auto memory = exactly(plan.table_bytes(sizeof(T)));
  const PsTables tables = ps_tables(plan, sizeof(T), memory.get());
  in_halves(int64_t(plan.groups.size()), [&](int64_t b, int64_t e) { ps_tables_cpu(g, tables, b, e); });
  run(tables);
}

template <class E>
void check_forward(Isa isa, const PsProblem& p, bool pool) {
  const auto boxes = ps_elements<PsBoxOf<E>>(p.boxes);
  const std::vector<double> numbers = ps_numbers(p.pixels());
  const std::vector<double> expected = ps_naive_forward(p, pool, numbers);
  const std::vector<E> dense = ps_elements<E>(numbers);
  const int64_t plane = p.height * p.width, channels = p.channels();
  const std::vector<E> moved = ps_channels_last(dense, p.images, channels, plane);
  const PsStrides strides[2] = {{{channels * plane, plane, p.width, 1}},
                                {{channels * plane, 1, p.width * channels, channels}}};
  for (int last : {0, 1}) {
    std::vector<E> output(size_t(p.results()));
    const PsForwardParams params{ps_geometry_of<E>(p, pool, boxes), (last ? moved : dense).data(),
                                 strides[last], output.data()};
    with_tables<E>(params.geometry, [&](const PsTables& tables) {
      in_halves(ps_forward_items(params.geometry), [&](int64_t begin, int64_t end) {
        const auto scratch = exactly(ps_forward_scratch(params.geometry));
        ps_forward_cpu(params, tables, scratch.get(), begin, end);
      });
    });
    expect(ps_close(output, expected), last ? "channels last" : "forward", isa, p, pool);
  }
}

template <class E>
void check_backward(Isa isa, const PsProblem& p, bool pool) {
  const auto boxes = ps_elements<PsBoxOf<E>>(p.boxes);
  const std::vector<double> numbers = ps_numbers(p.results());
  const int64_t bins = p.bins_y * p.bins_x;
  const std::vector<E> grad = ps_channels_last(ps_elements<E>(numbers), p.regions(), p.bin_channels, bins);
  std::vector<E> grad_input(size_t(p.pixels()));
  const PsBackwardParams params{ps_geometry_of<E>(p, pool, boxes),
                                grad.data(),
                                {{p.channels(), 1, p.bins_x * p.bin_channels, p.bin_channels}},
                                grad_input.data()};
  with_tables<E>(params.geometry, [&](const PsTables& tables) {
    in_halves(ps_backward_items(params.geometry), [&](int64_t begin, int64_t end) {
      const auto scratch = exactly(ps_backward_scratch(params.geometry));
      ps_backward_cpu(params, tables, scratch.get(), begin, end);
    });
  });
  expect(ps_close(grad_input, ps_naive_backward(p, pool, numbers)), "backward", isa, p, pool);
}

void check_boxes(Isa isa, const PsProblem& p) {
  const std::vector<double> input = ps_numbers(p.pixels()), grad = ps_numbers(p.results());
  std::vector<double> grad_boxes(p.boxes.size(), 7);
  const int64_t bins = p.bins_y * p.bins_x, plane = p.height * p.width;
  const PsBoxesBackwardParams params{ps_geometry_of<double>(p, false, p.boxes),   grad.data(),
                                     {{p.channels(), bins, p.bins_x, 1}},         input.data(),
                                     {{p.channels() * plane, plane, p.width, 1}}, grad_boxes.data()};
  in_halves(p.regions(), [&](int64_t begin, int64_t end) { ps_boxes_backward_cpu(params, begin, end); });
  expect(ps_close(grad_boxes, ps_naive_boxes(p, input, grad)), "boxes", isa, p, false);
}

template <class E>
void check(Isa isa, const PsProblem& p) {
  for (bool pool : {false, true}) {
    check_forward<E>(isa, p, pool);
    check_backward<E>(isa, p, pool);
  }
}

void check_all(Isa isa, bool full) {
  for (int64_t ratio : {0, 1, 2, 3}) check<float>(isa, ps_problem(9, 3, 7, 8, ratio, true));
  for (int64_t channels : {1, 5, 9, 17, 40}) check<float>(isa, ps_problem(3, channels, 4, 5, 2, false));
  for (int64_t regions : {1, 16, 17, 70}) check<float>(isa, ps_problem(regions, 2, 5, 6, 2, false));
  for (int64_t size : {1, 2, 17}) check<float>(isa, ps_problem(5, 2, size, size, 0, true));
  check<double>(isa, ps_problem(9, 11, 7, 8, 2, true));
  check<Half>(isa, ps_problem(9, 3, 7, 8, 2, true));
  check<BFloat16>(isa, ps_problem(9, 3, 7, 8, 0, true));
  check_boxes(isa, ps_problem(4, 2, 5, 6, 2, true));
  check_boxes(isa, ps_problem(4, 2, 5, 6, 0, false));
  // More regions of one image than wait to be written at a time; a plane of more than one band.
  check<float>(isa, ps_problem(full ? 3000 : 1100, 1, 3, 4, 1, false));
  check<float>(isa, ps_problem(3, 1, full ? 150 : 40, full ? 130 : 330, 2, false));
}

}  // namespace
}  // namespace gcv

int main(int argc, char** argv) {
  const bool full = argc > 1 && std::strcmp(argv[1], "full") == 0;
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (gcv::set_isa(isa)) gcv::check_all(isa, full);
  }
  std::printf("%s\n", gcv::failures ? "some checks failed" : "all checks passed");
  return gcv::failures ? 1 : 0;
}

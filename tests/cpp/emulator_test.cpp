// emulator_test [--order ORDER] [CASE [BUG]]: runs one case, or all that must pass everywhere, without a
// planted bug. Exit status: 0 all right, 1 wrong result, 2 a launch failed, 3 bad usage; a sanitizer ends the
// process with its own.
#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulator/engine.h"
#include "emulator_builtins_check.h"
#include "emulator_check.h"
#include "emulator_kernels.h"
#include "emulator_misuse.h"

namespace gcv::emulator_test {
namespace {

float sample(int i) { return static_cast<float>((i * 37 + 11) % 101) / 64.0f - 0.75f; }

void check_row_sum(Bug bug) {
  const int rows = 3, columns = 1000;
  std::vector<float> x(rows * columns), sums(rows, -1.0f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = sample(static_cast<int>(i));
  check_launch(row_sum(bug, x.data(), sums.data(), rows, columns));
  for (int r = 0; r < rows; ++r) {
    // Sums of multiples of 1/64: exact in any order.
    check_equal(sums[r], std::accumulate(&x[r * columns], &x[r * columns] + columns, 0.0f), "sum", r);
  }
}

void check_rotate(Bug bug) {
  const int rounds = 5;
  std::vector<int> in(kRotateThreads), out(kRotateThreads, -1);
  std::iota(in.begin(), in.end(), 100);
  check_launch(rotate(bug, in.data(), out.data(), rounds));
  for (int t = 0; t < kRotateThreads; ++t)
    check_equal(out[t], in[(t + rounds) % kRotateThreads], "thread", t);
}

void check_histogram(Bug bug) {
  const int n = 500, bins = 20;
  std::vector<int> values(n), counts(bins, 0), expected(bins, 0);
  int divisible = 0, expected_divisible = 0;
  for (int i = 0; i < n; ++i) {
    values[i] = i * i % 97;
    ++expected[values[i] % bins];
    expected_divisible += values[i] % 3 == 0;
  }
  check_launch(histogram(bug, values.data(), n, bins, counts.data(), &divisible));
  check_equal(divisible, expected_divisible, "divisible");
  for (int b = 0; b < bins; ++b) check_equal(counts[b], expected[b], "bin", b);
}

void check_tile_product(Bug bug) {
  const int depth = 96;
  std::vector<__half> a(kTileRows * depth), b(depth * kTileColumns);
  std::vector<float> c(kTileRows * kTileColumns, -1.0f);
  for (size_t i = 0; i < a.size(); ++i) a[i] = __float2half(sample(static_cast<int>(i)));
  for (size_t i = 0; i < b.size(); ++i) b[i] = __float2half(sample(static_cast<int>(i) + 5000));
  check_launch(tile_product(bug, a.data(), b.data(), c.data(), depth));
  for (int row = 0; row < kTileRows; ++row) {
    for (int column = 0; column < kTileColumns; ++column) {
      float sum = 0;  // exact: products of multiples of 1/64
      for (int d = 0; d < depth; ++d) {
        sum += __half2float(a[row * depth + d]) * __half2float(b[d * kTileColumns + column]);
      }
      check_equal(c[row * kTileColumns + column], sum, "element", row * kTileColumns + column);
    }
  }
}

void check_grid_rounds(Bug bug) {
  const int blocks = 6, rounds = 4;
  std::vector<unsigned> values(2 * blocks, 0), expected(blocks);
  std::iota(expected.begin(), expected.end(), 1u);
  std::copy(expected.begin(), expected.end(), values.begin());
  unsigned arrivals = 0;
  check_launch(grid_rounds(bug, blocks, values.data(), &arrivals, rounds));
  for (int round = 0; round < rounds; ++round) {
    const std::vector<unsigned> before = expected;
    for (int b = 0; b < blocks; ++b) expected[b] = before[b] + before[(b + 1) % blocks];
  }
  for (int b = 0; b < blocks; ++b) check_equal(values[b], expected[b], "block", b);
}

void check_wait_forever(Bug) {
  const unsigned flag = 0;
  check_launch(wait_forever(3, &flag));
}

void print_order(Bug) {
  const int blocks = 3, threads = 8;
  unsigned counter = 0;
  std::vector<unsigned> order(blocks * threads, 0);
  check_launch(record_order(blocks, threads, &counter, order.data()));
  for (unsigned thread : order) std::printf("%u ", thread);
  std::printf("\n");
  std::sort(order.begin(), order.end());
  for (unsigned i = 0; i < order.size(); ++i) check_equal(order[i], i, "sorted order", i);
}

void check_limits(Bug) {
  check_equal(do_nothing(dim3(1), dim3(1025), false), cudaErrorInvalidConfiguration, "1025 threads");
  check_equal(do_nothing(dim3(0), dim3(32), false), cudaErrorInvalidConfiguration, "no block");
  check_equal(do_nothing(dim3(1, 65536), dim3(1), false), cudaErrorInvalidConfiguration, "65536 blocks on y");
  check_equal(do_nothing(dim3(9), dim3(1), true), cudaErrorCooperativeLaunchTooLarge,
              "too many resident blocks");
  float out = 0;
  check_equal(read_dynamic_shared(228 * 1024, &out), cudaErrorInvalidValue, "228 KiB of shared memory");
  check_equal(read_dynamic_shared(0, &out), cudaErrorLaunchFailure, "no dynamic shared memory");
  check_launch(read_dynamic_shared(4, &out));
  check_equal(out != out, true, "unwritten shared memory is NaN");
}

void check_recovery(Bug) {
  const std::string before = gcv_emulator_last_error();
  const auto throws = [](const void*) { throw std::runtime_error("not for the host"); };
  const emulator::Launch launch{dim3(2), dim3(64), 0, false};
  check_equal(emulator::run(launch, throws, nullptr), cudaErrorLaunchFailure, "a thread that throws");
  check_equal(before == gcv_emulator_last_error(), false, "a new report");
  check_row_sum(Bug::none);
}

const std::map<std::string, void (*)(Bug)> kCases = {
    {"row_sum", check_row_sum},
    {"rotate", check_rotate},
    {"histogram", check_histogram},
    {"tile_product", check_tile_product},
    {"grid_rounds", check_grid_rounds},
    {"order", print_order},
    {"limits", check_limits},
    {"recovery", check_recovery},
    {"builtins", [](Bug) { check_builtins(); }},
};

// More threads than ThreadSanitizer can tell apart.
void check_many_threads(Bug) { check_launch(do_nothing(dim3(9), dim3(1000), false)); }

template <Misuse kKind>
void check_misuse(Bug) {
  std::vector<int> out(32, 0);
  check_launch(misuse(kKind, out.data()));
}

const std::map<std::string, void (*)(Bug)> kCasesByNameOnly = {
    {"wait_forever", check_wait_forever},
    {"many_threads", check_many_threads},
    {"foreign_mask", check_misuse<Misuse::foreign_mask>},
    {"outside_source", check_misuse<Misuse::outside_source>},
    {"returned_lane", check_misuse<Misuse::returned_lane>},
    {"mixed_operations", check_misuse<Misuse::mixed_operations>},
    {"misaligned_row", check_misuse<Misuse::misaligned_row>},
    {"misaligned_copy", check_misuse<Misuse::misaligned_copy>},
    {"unfinished_copy", check_misuse<Misuse::unfinished_copy>},
    {"shared_memory", check_misuse<Misuse::shared_memory>},
    {"stack_overflow", check_misuse<Misuse::stack_overflow>},
};

const std::map<std::string, Bug> kBugs = {
    {"missing_barrier", Bug::missing_barrier}, {"unwritten_slot", Bug::unwritten_slot},
    {"read_past_end", Bug::read_past_end},     {"divergent_barrier", Bug::divergent_barrier},
    {"early_exit", Bug::early_exit},           {"shared_index", Bug::shared_index},
    {"reused_shared", Bug::reused_shared},     {"async_wait", Bug::async_wait},
    {"block_race", Bug::block_race},           {"not_co_resident", Bug::not_co_resident},
};

int run_case(const std::string& name, void (*check)(Bug), Bug bug) {
  try {
    check(bug);
    std::printf("%s: passed\n", name.c_str());
    return 0;
  } catch (const WrongResult& error) {
    std::printf("%s: wrong result: %s\n", name.c_str(), error.what());
    return 1;
  } catch (const LaunchFailed& error) {
    std::printf("%s: launch failed: %s\n", name.c_str(), error.what());
    return 2;
  }
}

int run_all() {
  int worst = 0;
  for (const auto& [name, check] : kCases) worst = std::max(worst, run_case(name, check, Bug::none));
  return worst;
}

int run_named(const std::string& name, const std::string& bug_name) {
  const auto& cases = kCases.count(name) != 0 ? kCases : kCasesByNameOnly;
  const auto found = cases.find(name);
  const auto bug = kBugs.find(bug_name);
  if (found == cases.end() || (bug == kBugs.end() && !bug_name.empty())) {
    std::fprintf(stderr, "no such case or bug: %s %s\n", name.c_str(), bug_name.c_str());
    return 3;
  }
  return run_case(name, found->second, bug_name.empty() ? Bug::none : bug->second);
}

}  // namespace
}  // namespace gcv::emulator_test

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 2 && words[0] == "--order") {
    if (gcv_emulator_set_order(words[1].c_str()) != 0) {
      std::fprintf(stderr, "no such order: %s\n", words[1].c_str());
      return 3;
    }
    words.erase(words.begin(), words.begin() + 2);
  }
  if (words.empty()) return gcv::emulator_test::run_all();
  return gcv::emulator_test::run_named(words[0], words.size() > 1 ? words[1] : "");
}

#include "emulator_builtins_check.h"

#include "emulator_builtins.h"
#include "emulator_check.h"

namespace gcv::emulator_test {
namespace {

void check_warp() {
  WarpResults r{};
  check_launch(run_warp(&r));
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned in_segment = lane % 8, segment = lane - in_segment;
    check_equal(r.lane[lane], lane, "lane_id", lane);
    check_equal(r.shuffle_from_5[lane], 5u, "shfl", lane);
    check_equal(r.shuffle_from_3_of_8[lane], segment + 3, "shfl of width 8", lane);
    check_equal(r.shuffle_up_2_of_8[lane], in_segment < 2 ? lane : lane - 2, "shfl_up of width 8", lane);
    check_equal(r.shuffle_down_3[lane], lane + 3 < 32 ? lane + 3 : lane, "shfl_down", lane);
    check_equal(r.shuffle_xor_16[lane], lane ^ 16, "shfl_xor", lane);
    check_equal(r.shuffle_xor_8_of_8[lane], (lane & 8) != 0 ? lane - 8 : lane, "shfl_xor of width 8", lane);
    check_equal(r.ballot_thirds[lane], 0x49249249u, "ballot", lane);
    check_equal(r.any_31[lane], 1u, "any", lane);
    check_equal(r.all_31[lane], 0u, "all", lane);
    check_equal(r.half_warp[lane], lane < 16 ? lane ^ 1 : lane ^ 2, "shfl_xor in half a warp", lane);
    check_equal(r.shuffled_double[lane], (lane < 31 ? lane + 1 : lane) + 0.5, "shfl_down of a double", lane);
  }
}

void check_block() {
  BlockResults r{};
  check_launch(run_block(&r));
  check_equal(r.multiples_of_5, 10, "syncthreads_count");
  check_equal(r.any, 1, "syncthreads_or");
  check_equal(r.none, 0, "syncthreads_or of none");
  check_equal(r.all, 1, "syncthreads_and");
  check_equal(r.not_all, 0, "syncthreads_and of all but one");
}

void check_atomics() {
  AtomicResults r{};
  r.first = -1;
  r.last = ~0u;
  check_launch(run_atomics(&r));
  check_equal(r.sum, kAtomicThreads, "atomicAdd");
  check_equal(r.float_sum, kAtomicThreads / 2.0f, "atomicAdd of float");
  check_equal(r.wide_sum, (1ull << 33) * kAtomicThreads, "atomicAdd of 64 bits");
  check_equal(r.most, kAtomicThreads - 1, "atomicMax");
  check_equal(r.least, 1 - kAtomicThreads, "atomicMin");
  check_equal(r.bits, ~0u, "atomicOr");
  check_equal(r.winners, 1, "atomicCAS winners");
  check_equal(r.first >= 0 && r.first < kAtomicThreads, true, "atomicCAS stored a winner");
  check_equal(r.exchange_sum + r.exchanged, unsigned(kAtomicThreads * (kAtomicThreads + 1) / 2),
              "atomicExch");
  check_equal(r.arrived, unsigned(kAtomicThreads), "atomic_add_acq_rel");
  check_equal(r.last < unsigned(kAtomicThreads), true, "store_release");
}

void check_arithmetic() {
  ArithmeticResults r{};
  check_launch(run_arithmetic(&r));
  check_equal(r.min_with_nan, 2.0f, "min with NaN");
  check_equal(r.max_with_nan, 2.0f, "max with NaN");
  check_equal(r.mixed_max, 3u, "max of int and unsigned");
  check_equal(r.negative_min, -4, "min");
  check_equal(r.product_minus_rounded, 0.0f, "mul then sub");
  check_equal(r.fused, 0x1p-24f, "fma");
  check_equal(r.quotient, 1.0f / 3.0f, "fdiv");
  check_equal(r.double_quotient, 2.0 / 3.0, "ddiv");
  check_equal(r.population, 8 + 64, "popc");
  check_equal(r.first_bit, 4 + 41, "ffs");
  check_equal(r.leading_zeros, 31 + 32 + 63, "clz");
  check_equal(r.float_bits, 0x3f800000u, "float_as_uint");
  check_equal(r.double_bits, 0x3ff0000000000000ll, "double_as_longlong");
  check_equal(r.half, 0x1.554p-2f, "half");
  check_equal(r.bfloat, 0x1.56p-2f, "bfloat16");
  check_equal(r.loaded, 0x3f800000u, "ldg");
  check_equal(r.warp_size, 32, "warpSize");
}

}  // namespace

void check_builtins() {
  check_warp();
  check_block();
  check_atomics();
  check_arithmetic();
}

}  // namespace gcv::emulator_test

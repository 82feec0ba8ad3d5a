#include "common/gemm_pairs.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace gcv {
namespace {

#if defined(__x86_64__) && defined(__linux__)

// The system must save tiles between threads, and asks a process to request them, for all of its threads,
// once.
bool may_use_tiles() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kBf16) == 0 || (d & kTile) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool supports(PairUnit unit) {
  if (unit == PairUnit::none) return true;
  if (!isa_usable(Isa::avx512)) return false;
  if (!__builtin_cpu_supports("avx512bf16")) return false;  // AMX's sums are rounded by it
  static const bool tiles = may_use_tiles();
  return unit == PairUnit::avx512_bf16 || tiles;
}

#else

bool supports(PairUnit unit) { return unit == PairUnit::none; }

#endif

// Intel's processors run the dot products of AVX512-BF16 slower than fp32's on widened numbers: 105 to 175
// GFLOP/s were seen on one that has AMX too.
PairUnit best() {
  if (supports(PairUnit::amx)) return PairUnit::amx;
#if defined(__x86_64__)
  if (supports(PairUnit::avx512_bf16) && !__builtin_cpu_is("intel")) return PairUnit::avx512_bf16;
#endif
  return PairUnit::none;
}

PairUnit initial() {
  if (const char* wanted = std::getenv("GENCV_FAST_BF16")) {
    for (PairUnit unit : {PairUnit::none, PairUnit::avx512_bf16, PairUnit::amx}) {
      if (std::strcmp(wanted, pair_unit_name(unit)) == 0 && supports(unit)) return unit;
    }
  }
  return best();
}

std::atomic<PairUnit>& active() {
  static std::atomic<PairUnit> unit{initial()};
  return unit;
}

}  // namespace

PairUnit active_pair_unit() {
  return active_isa() == Isa::avx512 ? active().load(std::memory_order_relaxed) : PairUnit::none;
}

bool set_pair_unit(PairUnit unit) {
  if (!supports(unit)) return false;
  active().store(unit, std::memory_order_relaxed);
  return true;
}

const char* pair_unit_name(PairUnit unit) {
  switch (unit) {
    case PairUnit::amx:
      return "amx";
    case PairUnit::avx512_bf16:
      return "avx512_bf16";
    default:
      return "widen";
  }
}

bool has_gemm_pairs() { return active_pair_unit() != PairUnit::none; }

#if defined(__x86_64__) && defined(__linux__)

GemmPairs::GemmPairs() : multiply_(nullptr) {
  const PairUnit unit = active_pair_unit();
  if (unit == PairUnit::amx) multiply_ = amx::gemm_pair_tile;
  if (unit == PairUnit::avx512_bf16) multiply_ = avx512_bf16::gemm_pair_tile;
}

GemmPairs::~GemmPairs() {
  if (multiply_ == amx::gemm_pair_tile) amx::release_tiles();
}

void GemmPairs::narrow(const float* sums, int64_t count, BFloat16* to) const {
  avx512_bf16::narrow_sums(sums, count, to);
}

#else

GemmPairs::GemmPairs() : multiply_(nullptr) {}
GemmPairs::~GemmPairs() = default;
void GemmPairs::narrow(const float*, int64_t, BFloat16*) const {}

#endif

}  // namespace gcv

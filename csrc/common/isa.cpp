#include "common/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace gcv {
namespace {

bool supports(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && supports(Isa::avx2);
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    default:
      return true;
  }
#else
  return isa == Isa::baseline;
#endif
}

Isa best() {
  for (Isa isa : {Isa::avx512, Isa::avx2}) {
    if (supports(isa)) return isa;
  }
  return Isa::baseline;
}

// An unknown or unusable name is reported by the Python package, which reads the same variable.
Isa initial() {
  if (const char* wanted = std::getenv("GENCV_FAST_ISA")) {
    for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
      if (std::strcmp(wanted, isa_name(isa)) == 0 && supports(isa)) return isa;
    }
  }
  return best();
}

std::atomic<Isa>& active() {
  static std::atomic<Isa> isa{initial()};
  return isa;
}

}  // namespace

Isa active_isa() { return active().load(std::memory_order_relaxed); }

bool isa_usable(Isa isa) { return supports(isa); }

bool set_isa(Isa isa) {
  if (!supports(isa)) return false;
  active().store(isa, std::memory_order_relaxed);
  return true;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace gcv

// Each CPU kernel file is compiled once per instruction set (-DGCV_ISA=<name>) and chosen at run time.
#pragma once

namespace gcv {

enum class Isa { baseline, avx2, avx512 };

// The best instruction set of this processor, or the one that set_isa or GENCV_FAST_ISA asked for.
Isa active_isa();
bool isa_usable(Isa isa);
// False, and nothing changes, where the processor or the build lacks it.
bool set_isa(Isa isa);
const char* isa_name(Isa isa);

}  // namespace gcv

// Declares a kernel that every per-ISA object defines in its own namespace, and the function that picks among
// them.
#if defined(__x86_64__)
#define GCV_PER_ISA(result, name, parameters, arguments) \
  namespace baseline {                                   \
  result name parameters;                                \
  }                                                      \
  namespace avx2 {                                       \
  result name parameters;                                \
  }                                                      \
  namespace avx512 {                                     \
  result name parameters;                                \
  }                                                      \
  static inline result name parameters {                 \
    switch (active_isa()) {                              \
      case Isa::avx512:                                  \
        return avx512::name arguments;                   \
      case Isa::avx2:                                    \
        return avx2::name arguments;                     \
      default:                                           \
        return baseline::name arguments;                 \
    }                                                    \
  }
#else
#define GCV_PER_ISA(result, name, parameters, arguments) \
  namespace baseline {                                   \
  result name parameters;                                \
  }                                                      \
  static inline result name parameters { return baseline::name arguments; }
#endif

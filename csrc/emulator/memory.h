// Filling and copying behind the sanitizers' backs: they intercept memset and memcpy even from code that is
// not instrumented. The engine is compiled so that g++ does not turn these loops into those calls.
#pragma once

#include <cstddef>

namespace gcv::emulator {

// Reads as NaN in fp16, bf16, fp32 and fp64, and as -1 in integers.
constexpr unsigned char kPoison = 0xff;

inline void unseen_fill(void* destination, unsigned char value, size_t bytes) {
  auto* to = static_cast<unsigned char*>(destination);
  for (size_t i = 0; i < bytes; ++i) to[i] = value;
}

inline void unseen_copy(void* destination, const void* source, size_t bytes) {
  auto* to = static_cast<unsigned char*>(destination);
  const auto* from = static_cast<const unsigned char*>(source);
  for (size_t i = 0; i < bytes; ++i) to[i] = from[i];
}

}  // namespace gcv::emulator

// CUDA's atomic functions. Relaxed, as on a GPU: they order no other memory, and ThreadSanitizer knows it.
#pragma once

#include <type_traits>

namespace gcv::emulator {

template <class T>
struct Identity {
  using type = T;
};

// Keeps a parameter out of deduction, so that atomicAdd(unsigned*, 1) converts as in CUDA.
template <class T>
using Operand = typename Identity<T>::type;

template <class T, class Update>
inline T atomic_update(T* address, Update update) {
  T old;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  T updated = update(old);
  while (!__atomic_compare_exchange(address, &old, &updated, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    updated = update(old);
  }
  return old;
}

}  // namespace gcv::emulator

template <class T>
inline T atomicAdd(T* address, ::gcv::emulator::Operand<T> value) {
  return ::gcv::emulator::atomic_update(address, [=](T old) { return static_cast<T>(old + value); });
}

template <class T>
inline T atomicMax(T* address, ::gcv::emulator::Operand<T> value) {
  static_assert(std::is_integral_v<T>, "CUDA has atomicMax for integers only");
  return ::gcv::emulator::atomic_update(address, [=](T old) { return old < value ? value : old; });
}

template <class T>
inline T atomicMin(T* address, ::gcv::emulator::Operand<T> value) {
  static_assert(std::is_integral_v<T>, "CUDA has atomicMin for integers only");
  return ::gcv::emulator::atomic_update(address, [=](T old) { return value < old ? value : old; });
}

template <class T>
inline T atomicOr(T* address, ::gcv::emulator::Operand<T> value) {
  return __atomic_fetch_or(address, value, __ATOMIC_RELAXED);
}

template <class T>
inline T atomicExch(T* address, ::gcv::emulator::Operand<T> value) {
  return ::gcv::emulator::atomic_update(address, [=](T) { return value; });
}

// Returns what was there: equal to `expected` where the exchange took place.
template <class T>
inline T atomicCAS(T* address, ::gcv::emulator::Operand<T> expected, ::gcv::emulator::Operand<T> value) {
  static_assert(std::is_integral_v<T>, "CUDA has atomicCAS for integers only");
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

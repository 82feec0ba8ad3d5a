// Squares of vectors, rows turned into columns. Only *_cpu.cpp files include this.
#pragma once

#include <utility>

#include "common/simd.h"

namespace gcv::GCV_ISA {
namespace {

template <class T, int... kLane>
GCV_HD Simd<T> zip_low(Simd<T> a, Simd<T> b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, (kLane / 2 + kLane % 2 * kLanes<T>)...);
}

template <class T, int... kLane>
GCV_HD Simd<T> zip_high(Simd<T> a, Simd<T> b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, (kLanes<T> / 2 + kLane / 2 + kLane % 2 * kLanes<T>)...);
}

// Zipping the halves as often as lanes can be halved turns rows into columns.
template <class T>
GCV_HD void transpose(Simd<T> (&rows)[kLanes<T>]) {
  constexpr std::make_integer_sequence<int, kLanes<T>> lanes{};
  constexpr int half = kLanes<T> / 2;
  for (int zipped = 1; zipped < kLanes<T>; zipped *= 2) {
    Simd<T> next[kLanes<T>];
    for (int i = 0; i < half; ++i) {
      next[2 * i] = zip_low<T>(rows[i], rows[i + half], lanes);
      next[2 * i + 1] = zip_high<T>(rows[i], rows[i + half], lanes);
    }
    for (int i = 0; i < kLanes<T>; ++i) rows[i] = next[i];
  }
}

}  // namespace
}  // namespace gcv::GCV_ISA

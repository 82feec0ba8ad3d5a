// Arithmetic that no compiler may contract into a fused multiply-add: decisions must fall alike on every
// backend.
#pragma once

#include "common/hd.h"

namespace gcv::exact {

#if defined(__CUDA_ARCH__)
GCV_HD float add(float a, float b) { return __fadd_rn(a, b); }
GCV_HD float sub(float a, float b) { return __fsub_rn(a, b); }
GCV_HD float mul(float a, float b) { return __fmul_rn(a, b); }
GCV_HD float div(float a, float b) { return __fdiv_rn(a, b); }
GCV_HD double add(double a, double b) { return __dadd_rn(a, b); }
GCV_HD double sub(double a, double b) { return __dsub_rn(a, b); }
GCV_HD double mul(double a, double b) { return __dmul_rn(a, b); }
GCV_HD double div(double a, double b) { return __ddiv_rn(a, b); }
#else
// Host files that include this are compiled with -ffp-contract=off. V may be a SIMD vector.
template <class V>
GCV_HD V add(V a, V b) {
  return a + b;
}
template <class V>
GCV_HD V sub(V a, V b) {
  return a - b;
}
template <class V>
GCV_HD V mul(V a, V b) {
  return a * b;
}
template <class V>
GCV_HD V div(V a, V b) {
  return a / b;
}
#endif

}  // namespace gcv::exact

// Products of tiles of 64 x 64 by the 128 threads of a block: on tensor cores where the element has 16 bits,
// else by multiply-adds in the element's own precision.
#pragma once

#include "common/cuda.h"
#include "common/dtype.h"

namespace gcv {
namespace {

constexpr int kTile = 64;
constexpr int kTileThreads = 128;
constexpr int kOwnSums = kTile * kTile / kTileThreads;

template <class Element>
struct OnTensorCores {
  static constexpr bool value = false;
};
template <>
struct OnTensorCores<Half> {
  static constexpr bool value = true;
};
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <>
struct OnTensorCores<BFloat16> {
  static constexpr bool value = true;
};
#endif

__device__ __forceinline__ void mma_of(Half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_m16n8k16(d, a, b);
}

__device__ __forceinline__ void mma_of(BFloat16, float (&d)[4], const uint32_t (&a)[4],
                                       const uint32_t (&b)[2]) {
  mma_m16n8k16_bf16(d, a, b);
}

// Asked for by name: the CUDA library is compiled without contraction.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }

// kDepth products are summed at a time. A thread owns kOwnSums sums, at rows row_of(i) and columns
// column_of(i).
template <class Element, bool kTensor = OnTensorCores<Element>::value>
struct TileProduct {
  using T = typename Compute<Element>::type;
  using Stored = T;
  static constexpr int kDepth = 16;
  static constexpr int kPitch = kTile + 4;
  static constexpr int kStored = kDepth * kPitch;

  static __device__ int place(int side, int depth) { return depth * kPitch + side; }
  static __device__ Stored stored(Element x) { return widen(x); }
  static __device__ int row_of(int i) { return int(threadIdx.x) / 8 * 4 + i / 8; }
  static __device__ int column_of(int i) { return int(threadIdx.x) % 8 * 8 + i % 8; }

  static __device__ void multiply(const Stored* a, const Stored* b, T (&sums)[kOwnSums]) {
    for (int depth = 0; depth < kDepth; ++depth) {
      T left[4], right[8];
#pragma unroll
      for (int i = 0; i < 4; ++i) left[i] = a[place(row_of(8 * i), depth)];
#pragma unroll
      for (int j = 0; j < 8; ++j) right[j] = b[place(column_of(j), depth)];
#pragma unroll
      for (int i = 0; i < kOwnSums; ++i) sums[i] = multiply_add(left[i / 8], right[i % 8], sums[i]);
    }
  }
};

// Warp w sums rows 16 w to 16 w + 15, by eight products of eight columns each.
template <class Element>
struct TileProduct<Element, true> {
  using T = float;
  using Stored = Element;
  static constexpr int kDepth = 32;
  static constexpr int kPitch = kDepth + 8;  // rows of 16-byte pieces, no two of eight in the same banks
  static constexpr int kStored = kTile * kPitch;

  static __device__ int place(int side, int depth) { return side * kPitch + depth; }
  static __device__ Stored stored(Element x) { return x; }
  static __device__ int row_of(int i) {
    return int(threadIdx.x) / 32 * 16 + int(threadIdx.x) % 32 / 4 + i % 4 / 2 * 8;
  }
  static __device__ int column_of(int i) { return i / 4 * 8 + int(threadIdx.x) % 4 * 2 + i % 2; }

  static __device__ void multiply(const Stored* a, const Stored* b, T (&sums)[kOwnSums]) {
    const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
#pragma unroll
    for (int depth = 0; depth < kDepth; depth += 16) {
      uint32_t left[4];
      ldmatrix_x4(left, a + place(warp * 16 + lane % 16, depth + lane / 16 * 8));
#pragma unroll
      for (int column = 0; column < kTile / 8; ++column) {
        const Stored* own = b + place(column * 8 + lane / 4, depth + lane % 4 * 2);
        const uint32_t right[2] = {*reinterpret_cast<const uint32_t*>(own),
                                   *reinterpret_cast<const uint32_t*>(own + 8)};
        float d[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) d[i] = sums[column * 4 + i];
        mma_of(Element{}, d, left, right);
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[column * 4 + i] = d[i];
      }
    }
  }
};

// Fills a tile with element(side, depth); neighbouring threads take neighbouring sides or depths, as memory
// lies.
template <class Product, class ElementAt>
__device__ __forceinline__ void fill_tile(typename Product::Stored* tile, bool sides_first,
                                          ElementAt element) {
  for (int i = int(threadIdx.x); i < kTile * Product::kDepth; i += kTileThreads) {
    const int side = sides_first ? i % kTile : i / Product::kDepth;
    const int depth = sides_first ? i / kTile : i % Product::kDepth;
    tile[Product::place(side, depth)] = Product::stored(element(side, depth));
  }
}

}  // namespace
}  // namespace gcv

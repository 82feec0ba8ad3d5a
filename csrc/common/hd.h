// Marks the maths that CPU and CUDA kernels share.
#pragma once

// `static`: every object file keeps its own copy. A weak symbol shared between the files of two ISAs would
// let the linker give AVX-512 code to an older processor.
#if defined(__CUDACC__)
#define GCV_HD static __host__ __device__ __forceinline__
#else
#define GCV_HD static inline __attribute__((always_inline))
#endif

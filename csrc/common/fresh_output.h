// Memory for large results. Writing to fresh pages costs more than most kernels compute, and a huge page is
// cleared in one go where 512 small ones fault one by one.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gcv {

// Asks for huge pages where a large buffer that has just been allocated covers some. Before the first write.
inline void prefer_huge_pages(void* data, size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t huge = uintptr_t(2) << 20, page = uintptr_t(4) << 10;
  if (bytes < 2 * huge) return;  // may lie so that it covers none
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  // Only advice: where the kernel has no huge pages, small ones do.
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace gcv

// Memory in huge pages: one is cleared in one go where 512 small ones fault one by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gcv {

constexpr size_t kHugePage = size_t(2) << 20;

// Asks for huge pages where a large buffer that has just been allocated covers some. Before the first write.
inline void prefer_huge_pages(void* data, size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t page = uintptr_t(4) << 10;
  if (bytes < 2 * kHugePage) return;  // may lie so that it covers none
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  // Only advice: where the kernel has no huge pages, small ones do.
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

#if defined(__linux__)

inline void unmap_pages(void* data, size_t bytes) {
  if (bytes > 0) munmap(data, bytes);
}

// `bytes`, a multiple of a huge page, from the boundary of one on; nullptr where the system has none.
inline void* map_huge_pages(size_t bytes) {
  const size_t mapped = bytes + kHugePage;
  void* pages = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(pages);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  unmap_pages(begin, before);
  unmap_pages(begin + before + bytes, kHugePage - before);
  madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

// What the pages hold may be lost until they are written again.
inline void let_system_take(void* data, size_t bytes) {
  // Only advice: a kernel that does not know it leaves the pages where they are.
  madvise(data, bytes, MADV_FREE);
}

#else

inline void* map_huge_pages(size_t bytes) { return std::aligned_alloc(64, bytes); }

inline void unmap_pages(void* data, size_t) { std::free(data); }

inline void let_system_take(void*, size_t) {}

#endif

}  // namespace gcv

// What the sanitizers must be told about fibers and shared memory; nothing in a plain build.
#pragma once

#include <cstddef>

#ifdef GCV_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef GCV_EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace gcv::emulator {

#ifdef GCV_EMULATOR_TSAN
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

namespace asan {

#ifdef GCV_EMULATOR_ASAN
inline void poison(const void* address, size_t bytes) { __asan_poison_memory_region(address, bytes); }
inline void unpoison(const void* address, size_t bytes) { __asan_unpoison_memory_region(address, bytes); }
inline void start_switch(void** saved, const void* stack, size_t bytes) {
  __sanitizer_start_switch_fiber(saved, stack, bytes);
}
inline void finish_switch(void* saved, const void** stack_left, size_t* bytes_left) {
  __sanitizer_finish_switch_fiber(saved, stack_left, bytes_left);
}
#else
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}
inline void start_switch(void**, const void*, size_t) {}
inline void finish_switch(void*, const void**, size_t*) {}
#endif

}  // namespace asan

namespace tsan {

// libtsan knows at most 8128 threads, alive or not yet forgotten; the margin is for the process's own.
constexpr unsigned kMaxFibers = 8000;

#ifdef GCV_EMULATOR_TSAN
inline void* current_fiber() { return __tsan_get_current_fiber(); }
inline void* create_fiber() { return __tsan_create_fiber(0); }
inline void destroy_fiber(void* fiber) { __tsan_destroy_fiber(fiber); }
// Without synchronisation: that two threads run on one processor must not hide a race between them.
inline void switch_to(void* fiber) { __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync); }
inline void release(void* address) { __tsan_release(address); }
inline void acquire(void* address) { __tsan_acquire(address); }
#else
inline void* current_fiber() { return nullptr; }
inline void* create_fiber() { return nullptr; }
inline void destroy_fiber(void*) {}
inline void switch_to(void*) {}
inline void release(void*) {}
inline void acquire(void*) {}
#endif

}  // namespace tsan

}  // namespace gcv::emulator

// Switches between stacks: by hand on x86-64 (a few nanoseconds), by ucontext elsewhere or with
// GCV_EMULATOR_UCONTEXT.
#pragma once

#include <cstddef>

#if defined(__x86_64__) && !defined(GCV_EMULATOR_UCONTEXT)
#define GCV_EMULATOR_FAST_SWITCH 1
#else
#include <ucontext.h>
#endif

namespace gcv::emulator {

struct Context {
#ifdef GCV_EMULATOR_FAST_SWITCH
  void* stack_pointer = nullptr;
#else
  ucontext_t registers;
#endif
};

// The first switch to `context` calls `entry`, which must not return.
void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)());

void switch_context(Context& from, Context& to);

}  // namespace gcv::emulator

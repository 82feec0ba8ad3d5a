// One stack of execution per CUDA thread.
#pragma once

#include <cstddef>

#include "emulator/context.h"

namespace gcv::emulator {

// Memory with an inaccessible page below it, so that an overflow stops at once.
class Stack {
 public:
  explicit Stack(size_t bytes);
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  char* begin() const { return memory_ + guard_bytes_; }
  size_t size() const { return bytes_; }

 private:
  size_t guard_bytes_;
  size_t bytes_;
  char* memory_;
};

class Fiber {
 public:
  // `entry` must not return. `number` staggers the stack tops of neighbours over the cache's sets.
  Fiber(void (*entry)(), unsigned number);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // From the scheduler: runs the fiber until it suspends.
  void resume();

  // From the fiber: back to the scheduler until the next resume().
  void suspend();

  // The first thing that `entry` does.
  static void started();

 private:
  Stack stack_;
  Context context_;
  void* asan_stack_ = nullptr;
  void* tsan_fiber_;
};

// What ThreadSanitizer may take as ordered with the host: what the host did before fibers_start(), and what
// the fibers did before fibers_end(). Blocks are not ordered with each other by either.
void fibers_start();
void fibers_end();

}  // namespace gcv::emulator

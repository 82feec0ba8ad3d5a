#include "emulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "emulator/sanitizers.h"

namespace gcv::emulator {
namespace {

constexpr size_t kStackBytes = 64 * 1024;
constexpr size_t kCacheLine = 64;
constexpr unsigned kStaggeredLines = 61;

// The stack that called resume(); one at a time, as one emulation runs at a time.
struct Scheduler {
  Context context;
  void* asan_stack = nullptr;
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void* tsan_fiber = nullptr;
};
Scheduler scheduler;

char started_address;
char ended_address;

}  // namespace

Stack::Stack(size_t bytes) : guard_bytes_(sysconf(_SC_PAGESIZE)), bytes_(bytes) {
  void* memory =
      mmap(nullptr, guard_bytes_ + bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  mprotect(memory_, guard_bytes_, PROT_NONE);
}

Stack::~Stack() {
  // An abandoned thread leaves its frames' red zones behind, where the next mapping would find them.
  asan::unpoison(begin(), bytes_);
  munmap(memory_, guard_bytes_ + bytes_);
}

Fiber::Fiber(void (*entry)(), unsigned number) : stack_(kStackBytes), tsan_fiber_(tsan::create_fiber()) {
  prepare_context(context_, stack_.begin(), kStackBytes - number % kStaggeredLines * kCacheLine, entry);
}

Fiber::~Fiber() { tsan::destroy_fiber(tsan_fiber_); }

void Fiber::resume() {
  scheduler.tsan_fiber = tsan::current_fiber();
  asan::start_switch(&scheduler.asan_stack, stack_.begin(), stack_.size());
  tsan::switch_to(tsan_fiber_);
  switch_context(scheduler.context, context_);
  asan::finish_switch(scheduler.asan_stack, nullptr, nullptr);
}

void Fiber::suspend() {
  tsan::release(&ended_address);
  asan::start_switch(&asan_stack_, scheduler.stack, scheduler.stack_bytes);
  tsan::switch_to(scheduler.tsan_fiber);
  switch_context(context_, scheduler.context);
  asan::finish_switch(asan_stack_, &scheduler.stack, &scheduler.stack_bytes);
}

void Fiber::started() {
  asan::finish_switch(nullptr, &scheduler.stack, &scheduler.stack_bytes);
  tsan::acquire(&started_address);
}

void fibers_start() { tsan::release(&started_address); }

void fibers_end() { tsan::acquire(&ended_address); }

}  // namespace gcv::emulator

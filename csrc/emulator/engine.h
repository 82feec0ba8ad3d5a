// What emulated kernels ask of the engine. Included by kernel files, which may be built with sanitizers; the
// engine itself (*.cpp in this folder) never is.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace gcv::emulator {

// Where a thread stands in the kernel's source, for reports and for telling one barrier from another.
struct Site {
  const char* operation = "";
  const char* file = "";
  int line = 0;
  const char* function = "";

  static constexpr Site here(const char* operation, const char* file = __builtin_FILE(),
                             int line = __builtin_LINE(), const char* function = __builtin_FUNCTION()) {
    return {operation, file, line, function};
  }
};

struct Coordinates {
  uint3 thread{};
  uint3 block{};
  unsigned lane = 0;
};

extern const Coordinates* here;  // of the thread that runs now
extern dim3 block_dim;
extern dim3 grid_dim;

// Ends the launch with this report; does not return to the kernel.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Waits for all threads of the block; returns in how many of them `predicate` held.
unsigned sync_block(bool predicate, const Site& site);

constexpr size_t kMaxLaneBytes = 32;

// What each lane brought to a warp-wide operation.
struct LaneValues {
  unsigned char bytes[32][kMaxLaneBytes];
};

// Waits for all lanes in `mask`; valid until the calling thread's next warp-wide operation.
const LaneValues& sync_warp(unsigned mask, const void* value, size_t bytes, const Site& site);

// Uninstrumented: other lanes' values reach a thread through the warp, not through memory that could race.
void read_lane(const LaneValues& values, unsigned lane, void* value, size_t bytes);

// Waits likewise; returns the lanes in `mask` whose predicate held.
unsigned ballot(unsigned mask, bool predicate, const Site& site);

// Lets other threads run after a failed poll. `attempt` counts the polls of one wait, from zero.
void yield_after_poll(unsigned attempt, const Site& site);

// Orders memory for ThreadSanitizer as __threadfence does, and more: every fence after every earlier one.
void thread_fence();

// Its address identifies one GCV_SHARED variable.
struct SharedSlot {};
void* shared_variable(const SharedSlot& slot, size_t bytes, size_t alignment);
void* dynamic_shared();

void async_copy16(void* shared, const void* global, bool in_range);
void async_copy_commit();
void async_copy_wait(unsigned groups_left);

struct Launch {
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
  bool cooperative;
};
constexpr int kMaxCooperativeBlocks = 8;

// Runs thread_body(arguments) in every thread of the grid. Never throws.
cudaError_t run(const Launch& launch, void (*thread_body)(const void*), const void* arguments);

}  // namespace gcv::emulator

extern "C" {

// "forward", "reverse", "random" or "random:<seed>": the order in which threads and blocks run, from the next
// launch on. Returns 0, or 1 for anything else. Until it is called, GENCV_FAST_EMULATOR_ORDER decides.
__attribute__((visibility("default"))) int gcv_emulator_set_order(const char* order);

// The report of the most recent failed launch; empty if none has failed.
__attribute__((visibility("default"))) const char* gcv_emulator_last_error();
}

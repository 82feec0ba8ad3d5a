// A launch: from its configuration to the last thread.
#include "emulator/engine.h"

#include <cstdlib>
#include <mutex>
#include <numeric>
#include <string>

#include "emulator/report.h"
#include "emulator/runtime_api.h"
#include "emulator/sanitizers.h"
#include "emulator/scheduler.h"

namespace gcv::emulator {

dim3 block_dim;
dim3 grid_dim;

namespace {

std::mutex one_at_a_time;
std::optional<Order> chosen_order;
std::string last_error;

// Blocks are kept from launch to launch, for their stacks.
std::vector<std::unique_ptr<Block>> resident;
// Under ThreadSanitizer every block gets new fibers and memory, and the old ones stay until the grid ends:
// with reused ones it would see an order between blocks, or races that are none.
std::vector<std::unique_ptr<Block>> retired;

Order& thread_order() {
  if (chosen_order) return *chosen_order;
  const char* const text = std::getenv("GENCV_FAST_EMULATOR_ORDER");
  chosen_order = Order::parse(text == nullptr ? "forward" : text);
  if (!chosen_order) {
    throw LaunchError(std::string("GENCV_FAST_EMULATOR_ORDER=") + text +
                      ": expected forward, reverse, random or random:<seed>");
  }
  return *chosen_order;
}

uint64_t count(dim3 size) { return uint64_t{size.x} * size.y * size.z; }

// As the CUDA runtime judges it for a GPU of today.
cudaError_t check(const Launch& launch) {
  const uint64_t threads = count(launch.block);
  const dim3 grid = launch.grid;
  if (threads == 0 || threads > 1024 || launch.block.z > 64) return cudaErrorInvalidConfiguration;
  if (count(grid) == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  if (launch.shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  if (launch.cooperative && count(grid) > kMaxCooperativeBlocks) return cudaErrorCooperativeLaunchTooLarge;
  return cudaSuccess;
}

void check_fiber_count(const Launch& launch) {
  const uint64_t threads = count(launch.block) * count(launch.grid);
  if (!kThreadSanitizer || threads <= tsan::kMaxFibers) return;
  throw LaunchError("the grid has " + std::to_string(threads) + " threads, ThreadSanitizer can tell apart " +
                    std::to_string(tsan::kMaxFibers) + ": use a smaller input");
}

uint3 block_index(uint64_t number, dim3 grid) {
  return {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
          static_cast<unsigned>(number / grid.x / grid.y)};
}

Block& block_in_slot(size_t slot) {
  if (resident.size() <= slot) resident.resize(slot + 1);
  if (kThreadSanitizer && resident[slot] != nullptr) retired.push_back(std::move(resident[slot]));
  if (resident[slot] == nullptr) resident[slot] = std::make_unique<Block>();
  return *resident[slot];
}

void run_together(const std::vector<uint64_t>& numbers, const Launch& launch, const ThreadBody& body,
                  Order& order) {
  std::vector<Block*> blocks;
  unsigned rank = 0;
  for (const uint64_t number : numbers) {
    Block& block = block_in_slot(blocks.size());
    block.prepare(block_index(number, launch.grid), launch, rank, thread_main);
    rank += static_cast<unsigned>(block.threads.size());
    blocks.push_back(&block);
  }
  run_resident(blocks, body, order);
}

void run_grid(const Launch& launch, const ThreadBody& body) {
  check_fiber_count(launch);
  grid_dim = launch.grid;
  block_dim = launch.block;
  Order& order = thread_order();
  std::vector<uint64_t> numbers(count(launch.grid));
  std::iota(numbers.begin(), numbers.end(), uint64_t{0});
  if (launch.cooperative) return run_together(numbers, launch, body, order);
  order.arrange(numbers, [](uint64_t number) { return number; });
  for (const uint64_t number : numbers) run_together({number}, launch, body, order);
}

// After a failure the threads stand in the middle of their bodies and cannot be used again.
void forget_blocks(bool failed) {
  fibers_end();
  if (!failed && !kThreadSanitizer) return;
  resident.clear();
  retired.clear();
}

}  // namespace

cudaError_t run(const Launch& launch, void (*thread_body)(const void*), const void* arguments) {
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  if (const cudaError_t error = check(launch)) return record_error(error);
  try {
    run_grid(launch, {thread_body, arguments});
    forget_blocks(false);
    return cudaSuccess;
  } catch (const std::exception& error) {
    last_error = error.what();
  }
  forget_blocks(true);
  return record_error(cudaErrorLaunchFailure);
}

}  // namespace gcv::emulator

extern "C" int gcv_emulator_set_order(const char* text) {
  using namespace gcv::emulator;
  const auto order = Order::parse(text);
  if (!order) return 1;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  chosen_order = order;
  return 0;
}

extern "C" const char* gcv_emulator_last_error() { return gcv::emulator::last_error.c_str(); }

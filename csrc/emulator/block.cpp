#include "emulator/block.h"

#include <algorithm>

namespace gcv::emulator {
namespace {

uint3 thread_index(unsigned number, dim3 block) {
  return {number % block.x, number / block.x % block.y, number / block.x / block.y};
}

unsigned lanes_below(unsigned count) { return count == kWarpSize ? ~0u : (1u << count) - 1; }

}  // namespace

void Block::prepare(uint3 index, const Launch& launch, unsigned first_rank, void (*thread_main)()) {
  const unsigned count = launch.block.x * launch.block.y * launch.block.z;
  while (fibers.size() < count) {
    fibers.push_back(std::make_unique<Fiber>(thread_main, static_cast<unsigned>(fibers.size())));
  }
  threads.resize(count);
  warps.resize((count + kWarpSize - 1) / kWarpSize);
  for (unsigned i = 0; i < warps.size(); ++i) {
    warps[i].alive = lanes_below(std::min(kWarpSize, count - i * kWarpSize));
  }
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = threads[i];
    thread.coordinates = {thread_index(i, launch.block), index, i % kWarpSize};
    thread.rank = first_rank + i;
    thread.state = State::ready;
    thread.block = this;
    thread.warp = &warps[i / kWarpSize];
    thread.fiber = fibers[i].get();
    thread.copy_group = 0;
  }
  barrier = {};
  shared.reset(launch.shared_bytes);
}

}  // namespace gcv::emulator

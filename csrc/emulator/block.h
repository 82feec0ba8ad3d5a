// The state of a resident block: its threads, warps, barrier and shared memory.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "emulator/engine.h"
#include "emulator/fiber.h"
#include "emulator/shared_memory.h"

namespace gcv::emulator {

constexpr unsigned kWarpSize = 32;

struct Block;

// Lanes on their way through one warp-wide operation. Reused once every lane has read what the others had.
struct Meeting {
  unsigned mask = 0;     // the lanes that meet
  unsigned arrived = 0;  // empty again when all have come
  unsigned reading = 0;
  const Site* site = nullptr;  // of the first to arrive, while it waits
  LaneValues values;

  bool in_use() const { return arrived != 0 || reading != 0; }
};

struct Warp {
  // At most one meeting gathers and one is read per lane.
  static constexpr unsigned kMaxMeetings = 2 * kWarpSize;

  unsigned alive = 0;
  std::array<std::unique_ptr<Meeting>, kMaxMeetings> meetings;
};

struct AsyncCopy {
  void* shared;
  const void* global;
  bool in_range;
  unsigned group;
};

enum class State : uint8_t { ready, polling, at_barrier, at_warp_operation, finished };

struct Thread {
  Coordinates coordinates;
  unsigned rank = 0;  // among all resident threads
  State state = State::ready;
  bool polled_in_vain = false;  // at least twice in the same wait
  const Site* site = nullptr;   // where it waits
  Block* block = nullptr;
  Warp* warp = nullptr;
  Fiber* fiber = nullptr;
  Meeting* meeting = nullptr;  // the one whose values it may still read
  unsigned copy_group = 0;     // of the next async copy
  std::vector<AsyncCopy> copies;

  unsigned lane_bit() const { return 1u << coordinates.lane; }
};

struct Barrier {
  const Site* site = nullptr;  // of the first to arrive, while it waits
  unsigned arrived = 0;
  unsigned votes = 0;
  unsigned result = 0;
  unsigned generation = 0;
  // By the parity of the generation, so that ThreadSanitizer does not take a fast thread's work after this
  // barrier for work before it.
  char orders[2];
};

struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept from block to block
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barrier;
  SharedMemory shared;

  // Makes this the block `index` of the launch; `first_rank` is the rank of its first thread.
  void prepare(uint3 index, const Launch& launch, unsigned first_rank, void (*thread_main)());
};

}  // namespace gcv::emulator

// Waiting for the block and for the warp.
#include "emulator/memory.h"
#include "emulator/report.h"
#include "emulator/sanitizers.h"
#include "emulator/scheduler.h"

namespace gcv::emulator {
namespace {

void release_barrier(Block& block) {
  block.barrier.result = block.barrier.votes;
  block.barrier.votes = 0;
  block.barrier.arrived = 0;
  ++block.barrier.generation;
  for (Thread& thread : block.threads) make_ready(thread);
}

void release_meeting(Meeting& meeting, Thread& some_lane) {
  meeting.reading = meeting.mask;
  meeting.arrived = 0;
  Thread* const lanes = &some_lane - some_lane.coordinates.lane;
  for (unsigned left = meeting.mask; left != 0; left &= left - 1) make_ready(lanes[__builtin_ctz(left)]);
}

Meeting& new_meeting(Warp& warp, unsigned mask, const Site& site) {
  for (auto& meeting : warp.meetings) {
    if (meeting == nullptr) meeting = std::make_unique<Meeting>();
    if (meeting->in_use()) continue;
    meeting->mask = mask;
    meeting->site = &site;
    return *meeting;
  }
  fail("too many warp operations at once (%s:%d)", site.file, site.line);
}

Meeting& join_meeting(Warp& warp, unsigned mask, const Site& site) {
  for (auto& meeting : warp.meetings) {
    if (meeting == nullptr) break;
    if (meeting->arrived == 0 || meeting->mask != mask) continue;
    if (!same_place(*meeting->site, site)) {
      fail("divergent warp: %s at %s:%d, but other lanes of the mask 0x%08x wait in %s at %s:%d",
           site.operation, site.file, site.line, mask, meeting->site->operation, meeting->site->file,
           meeting->site->line);
    }
    return *meeting;
  }
  return new_meeting(warp, mask, site);
}

void check_mask(const Thread& thread, unsigned mask, const Site& site) {
  if ((mask & thread.lane_bit()) == 0) {
    fail("%s is called by lane %u, which is not in its mask 0x%08x (%s:%d)", site.operation,
         thread.coordinates.lane, mask, site.file, site.line);
  }
  if ((mask & ~thread.warp->alive) != 0) {
    fail("the mask 0x%08x of %s names lanes that returned or never existed: 0x%08x (%s:%d)", mask,
         site.operation, mask & ~thread.warp->alive, site.file, site.line);
  }
}

}  // namespace

// Even the last thread to arrive gives way, so that it does not always run on first.
unsigned sync_block(bool predicate, const Site& site) {
  Block& block = *current->block;
  Barrier& barrier = block.barrier;
  if (barrier.arrived == 0) {
    barrier.site = &site;
  } else if (!same_place(*barrier.site, site)) {
    fail("divergent barrier: %s at %s:%d (%s), but other threads of the block wait in %s at %s:%d",
         site.operation, site.file, site.line, site.function, barrier.site->operation, barrier.site->file,
         barrier.site->line);
  }
  char* const order = &barrier.orders[barrier.generation % 2];
  tsan::release(order);
  announce_wait(State::at_barrier, site);
  barrier.votes += predicate;
  if (++barrier.arrived == block.threads.size()) release_barrier(block);
  give_way();
  tsan::acquire(order);
  return barrier.result;
}

const LaneValues& sync_warp(unsigned mask, const void* value, size_t bytes, const Site& site) {
  Thread& thread = *current;
  check_mask(thread, mask, site);
  if (thread.meeting != nullptr) thread.meeting->reading &= ~thread.lane_bit();
  Meeting& meeting = join_meeting(*thread.warp, mask, site);
  thread.meeting = &meeting;
  unseen_copy(meeting.values.bytes[thread.coordinates.lane], value, bytes);
  tsan::release(&meeting);
  announce_wait(State::at_warp_operation, site);
  meeting.arrived |= thread.lane_bit();
  if (meeting.arrived == mask) release_meeting(meeting, thread);
  give_way();
  tsan::acquire(&meeting);
  return meeting.values;
}

void read_lane(const LaneValues& values, unsigned lane, void* value, size_t bytes) {
  unseen_copy(value, values.bytes[lane], bytes);
}

unsigned ballot(unsigned mask, bool predicate, const Site& site) {
  const LaneValues& values = sync_warp(mask, &predicate, sizeof predicate, site);
  unsigned result = 0;
  for (unsigned left = mask; left != 0; left &= left - 1) {
    const int lane = __builtin_ctz(left);
    if (values.bytes[lane][0] != 0) result |= 1u << lane;
  }
  return result;
}

void thread_fence() {
  static char order;
  tsan::acquire(&order);
  tsan::release(&order);
}

void* shared_variable(const SharedSlot& slot, size_t bytes, size_t alignment) {
  return current->block->shared.variable(slot, bytes, alignment);
}

void* dynamic_shared() {
  void* const memory = current->block->shared.dynamic();
  if (memory == nullptr) fail("dyn_shared() in a launch without dynamic shared memory");
  return memory;
}

}  // namespace gcv::emulator

#include "emulator/scheduler.h"

#include <cstdarg>
#include <cstdio>

#include "emulator/report.h"
#include "emulator/sanitizers.h"

namespace gcv::emulator {

const Coordinates* here = nullptr;
Thread* current = nullptr;

namespace {

ThreadBody body;
std::vector<Thread*> ready;  // for the next pass
unsigned unfinished = 0;

// A fixed buffer: the stack of a thread that failed is abandoned, and nothing on it would free its memory.
struct Failure {
  bool happened = false;
  char text[1024];
};
Failure failure;

void finish_current() {
  if (!current->copies.empty()) fail("the thread returned with cp.async copies that it never waited for");
  if (current->meeting != nullptr) current->meeting->reading &= ~current->lane_bit();
  current->meeting = nullptr;
  current->warp->alive &= ~current->lane_bit();
  current->state = State::finished;
  --unfinished;
}

void resume(Thread& thread) {
  current = &thread;
  here = &thread.coordinates;
  thread.fiber->resume();
  if (!failure.happened) return;
  tsan::acquire(&failure);
  throw LaunchError(failure.text);
}

// Returns whether any thread did more than poll once more in vain: if none did, the next pass would find all
// as it was.
bool run_pass(const std::vector<Thread*>& threads) {
  bool progress = false;
  for (Thread* thread : threads) {
    resume(*thread);
    progress |= !(thread->state == State::polling && thread->polled_in_vain);
  }
  return progress;
}

void start(const std::vector<Block*>& blocks) {
  failure.happened = false;
  ready.clear();
  for (Block* block : blocks) {
    for (Thread& thread : block->threads) ready.push_back(&thread);
  }
  unfinished = static_cast<unsigned>(ready.size());
  fibers_start();
}

}  // namespace

void thread_main() {
  Fiber::started();
  for (;;) {
    bool threw = false;
    try {
      body.function(body.arguments);
    } catch (...) {
      threw = true;
    }
    if (threw) fail("the kernel threw an exception");
    finish_current();
    give_way();
  }
}

void run_resident(const std::vector<Block*>& blocks, const ThreadBody& thread_body, Order& order) {
  body = thread_body;
  start(blocks);
  std::vector<Thread*> pass;
  pass.reserve(ready.size());
  while (unfinished > 0) {
    pass.swap(ready);
    ready.clear();
    order.arrange(pass, [](const Thread* thread) { return thread->rank; });
    if (!run_pass(pass)) throw LaunchError(stuck_report(blocks));
  }
}

void announce_wait(State state, const Site& site) {
  current->state = state;
  current->site = &site;
}

void give_way() { current->fiber->suspend(); }

void make_ready(Thread& thread) {
  thread.state = State::ready;
  ready.push_back(&thread);
}

void yield_after_poll(unsigned attempt, const Site& site) {
  announce_wait(State::polling, site);
  current->polled_in_vain = attempt > 0;
  ready.push_back(current);
  give_way();
}

void fail(const char* format, ...) {
  const uint3 block = current->coordinates.block;
  const uint3 thread = current->coordinates.thread;
  const int prefix =
      std::snprintf(failure.text, sizeof failure.text, "block (%u,%u,%u) thread (%u,%u,%u): ", block.x,
                    block.y, block.z, thread.x, thread.y, thread.z);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(failure.text + prefix, sizeof failure.text - prefix, format, arguments);
  va_end(arguments);
  failure.happened = true;
  tsan::release(&failure);
  for (;;) give_way();
}

}  // namespace gcv::emulator

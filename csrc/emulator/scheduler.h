// Runs the threads of the resident blocks, each until it must wait.
#pragma once

#include <vector>

#include "emulator/block.h"
#include "emulator/order.h"

namespace gcv::emulator {

extern Thread* current;  // the thread that runs now

struct ThreadBody {
  void (*function)(const void*) = nullptr;
  const void* arguments = nullptr;
};

// What every fiber runs; goes from block to block.
void thread_main();

// Runs prepared blocks to their end. Throws LaunchError when a thread fails or none can go on.
void run_resident(const std::vector<Block*>& blocks, const ThreadBody& body, Order& order);

// For the current thread: say what it is about to wait for and where (the site must outlive the wait), and
// give way to others.
void announce_wait(State state, const Site& site);
void give_way();

// Ends the wait of a thread.
void make_ready(Thread& thread);

}  // namespace gcv::emulator

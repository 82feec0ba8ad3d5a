#include "emulator/report.h"

#include <cstring>

namespace gcv::emulator {
namespace {

struct Waiters {
  const Thread* first;
  unsigned count;
};

std::string index_text(uint3 index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

std::string waiters_text(const Waiters& waiters) {
  const Site& site = *waiters.first->site;
  const Coordinates& where = waiters.first->coordinates;
  return "\n  " + std::to_string(waiters.count) + " wait in " + site.operation + " at " + site.file + ":" +
         std::to_string(site.line) + " (" + site.function + "), first block " + index_text(where.block) +
         " thread " + index_text(where.thread);
}

void add_waiter(std::vector<Waiters>& groups, const Thread& thread) {
  for (Waiters& group : groups) {
    if (!same_place(*group.first->site, *thread.site)) continue;
    ++group.count;
    return;
  }
  groups.push_back({&thread, 1});
}

// Mostly the very same literal.
bool same_text(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }

const char* headline(bool polling, bool at_barrier, unsigned finished) {
  if (polling) {
    return "deadlock: spin_wait polls for a value that no resident thread can still write "
           "(blocks run one after another unless gcv::launch_cooperative starts them)";
  }
  if (at_barrier && finished > 0) return "early exit: threads returned before a barrier that others wait at";
  return "deadlock: no thread can go on";
}

}  // namespace

bool same_place(const Site& a, const Site& b) {
  return a.line == b.line && same_text(a.operation, b.operation) && same_text(a.file, b.file);
}

std::string stuck_report(const std::vector<Block*>& blocks) {
  std::vector<Waiters> groups;
  unsigned finished = 0;
  bool polling = false;
  bool at_barrier = false;
  for (const Block* block : blocks) {
    for (const Thread& thread : block->threads) {
      finished += thread.state == State::finished;
      polling |= thread.state == State::polling;
      at_barrier |= thread.state == State::at_barrier;
      if (thread.state != State::finished) add_waiter(groups, thread);
    }
  }
  std::string report = headline(polling, at_barrier, finished);
  for (const Waiters& group : groups) report += waiters_text(group);
  return report + "\n  " + std::to_string(finished) + " returned";
}

}  // namespace gcv::emulator

// The shared memory of one block.
#pragma once

#include <array>
#include <cstddef>

#include "emulator/engine.h"

namespace gcv::emulator {

constexpr size_t kMaxSharedBytes = 227 * 1024;  // the most that a block has on any GPU this project targets

// Every variable is placed at its first use in a block, filled with NaN, with a poisoned gap around it for
// ASan.
class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // For a new block: forgets all variables and places the dynamic part.
  void reset(size_t dynamic_bytes);

  void* dynamic() const { return dynamic_; }
  void* variable(const SharedSlot& slot, size_t bytes, size_t alignment);

 private:
  // A fixed table: all threads use it, and ThreadSanitizer would take a vector's reallocation for a race.
  static constexpr unsigned kMaxVariables = 64;
  struct Variable {
    const SharedSlot* slot;
    char* data;
  };

  char* place(size_t bytes, size_t alignment);

  char* memory_;
  size_t end_ = 0;   // of the last variable, as an offset into memory_
  size_t used_ = 0;  // without the gaps
  char* dynamic_ = nullptr;
  unsigned variable_count_ = 0;
  std::array<Variable, kMaxVariables> variables_;
};

}  // namespace gcv::emulator

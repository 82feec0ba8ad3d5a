#include "emulator/shared_memory.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "emulator/memory.h"
#include "emulator/sanitizers.h"

namespace gcv::emulator {
namespace {

constexpr size_t kGapBytes = 64;
constexpr size_t kCapacity = kMaxSharedBytes + 64 * 1024;  // room for the gaps
constexpr size_t kMinAlignment = 16;
constexpr size_t kDynamicAlignment = 128;
constexpr size_t kMemoryAlignment = 1024;

size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

SharedMemory::SharedMemory() : memory_(static_cast<char*>(std::aligned_alloc(kMemoryAlignment, kCapacity))) {
  if (memory_ == nullptr) throw std::bad_alloc();
}

SharedMemory::~SharedMemory() {
  asan::unpoison(memory_, kCapacity);
  std::free(memory_);
}

void SharedMemory::reset(size_t dynamic_bytes) {
  asan::poison(memory_, kCapacity);
  variable_count_ = 0;
  end_ = 0;
  used_ = 0;
  dynamic_ = dynamic_bytes == 0 ? nullptr : place(dynamic_bytes, kDynamicAlignment);
}

void* SharedMemory::variable(const SharedSlot& slot, size_t bytes, size_t alignment) {
  for (unsigned i = 0; i < variable_count_; ++i) {
    if (variables_[i].slot == &slot) return variables_[i].data;
  }
  if (variable_count_ == kMaxVariables) fail("the block has more than %u shared variables", kMaxVariables);
  char* data = place(bytes, std::max(alignment, kMinAlignment));
  variables_[variable_count_++] = {&slot, data};
  return data;
}

char* SharedMemory::place(size_t bytes, size_t alignment) {
  const size_t begin = round_up(end_ + kGapBytes, alignment);
  used_ += bytes;
  if (used_ > kMaxSharedBytes || begin + bytes > kCapacity) {
    fail("the block's shared memory exceeds %zu bytes", kMaxSharedBytes);
  }
  end_ = begin + bytes;
  asan::unpoison(memory_ + begin, bytes);
  unseen_fill(memory_ + begin, kPoison, bytes);
  return memory_ + begin;
}

}  // namespace gcv::emulator

// cp.async, done as late as the program allows: a copy lands when a wait covers its group, and until then its
// destination reads as NaN.
#include <cstdint>
#include <cstring>

#include "emulator/memory.h"
#include "emulator/scheduler.h"

namespace gcv::emulator {
namespace {

constexpr size_t kCopyBytes = 16;

bool aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % kCopyBytes == 0; }

// memcpy and memset, which the sanitizers intercept, so that they check both sides on behalf of the thread.
void land(const AsyncCopy& copy) {
  if (copy.in_range) {
    std::memcpy(copy.shared, copy.global, kCopyBytes);
  } else {
    std::memset(copy.shared, 0, kCopyBytes);
  }
}

}  // namespace

void async_copy16(void* shared, const void* global, bool in_range) {
  if (!aligned(shared) || (in_range && !aligned(global)))
    fail("cp_async16: an address is not 16-byte aligned");
  std::memset(shared, kPoison, kCopyBytes);
  current->copies.push_back({shared, global, in_range, current->copy_group});
}

void async_copy_commit() { ++current->copy_group; }

void async_copy_wait(unsigned groups_left) {
  std::vector<AsyncCopy>& copies = current->copies;
  size_t landed = 0;
  // A copy that was never committed belongs to no group and is waited for by none.
  while (landed < copies.size() && copies[landed].group + groups_left < current->copy_group)
    land(copies[landed++]);
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(landed));
}

}  // namespace gcv::emulator

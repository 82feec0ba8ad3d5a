// Memory that a CPU operator needs only while it runs.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "common/huge_pages.h"

namespace gcv {

// Fresh pages cost more than most kernels: each thread keeps its last two blocks, each up to kKept, for the
// next call. Two, since one call may hold what all threads read and what each works in.
class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    Kept& kept = kept_blocks();
    Block& best = fits_better(kept.first, kept.second, bytes) ? kept.first : kept.second;
    block_ = best.bytes >= bytes ? std::move(best) : Block(bytes);
    // 0.747 and indices far outside: a kernel that reads what it has not written gives itself away. NaN would
    // not do: kernels treat it as absent.
    static const bool poison = std::getenv("GENCV_FAST_POISON_SCRATCH") != nullptr;
    if (poison) std::memset(block_.memory.get(), 0x3f, block_.bytes);
  }

  ~Scratch() {
    if (block_.bytes > kKept) return;
    Kept& kept = kept_blocks();
    Block& smaller = kept.first.bytes <= kept.second.bytes ? kept.first : kept.second;
    if (block_.bytes >= smaller.bytes) smaller = std::move(block_);
  }

  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const { return block_.memory.get(); }

 private:
  static constexpr size_t kKept = size_t(64) << 20;
  static constexpr size_t kAlignment = 64;

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };

  struct Block {
    Block() = default;
    explicit Block(size_t wanted)
        : memory(std::aligned_alloc(kAlignment, (wanted + kAlignment) / kAlignment * kAlignment)),
          bytes(wanted) {
      if (!memory) throw std::bad_alloc();
      prefer_huge_pages(memory.get(), bytes);
    }
    Block(Block&& other) noexcept : memory(std::move(other.memory)), bytes(other.bytes) { other.bytes = 0; }
    Block& operator=(Block&& other) noexcept {
      memory = std::move(other.memory);
      bytes = other.bytes;
      other.bytes = 0;
      return *this;
    }
    std::unique_ptr<void, Free> memory;
    size_t bytes = 0;
  };

  struct Kept {
    Block first, second;
  };

  // The smaller one of those that are large enough.
  static bool fits_better(const Block& a, const Block& b, size_t bytes) {
    return a.bytes >= bytes && (b.bytes < bytes || a.bytes <= b.bytes);
  }

  static Kept& kept_blocks() {
    thread_local Kept kept;
    return kept;
  }

  Block block_;
};

}  // namespace gcv

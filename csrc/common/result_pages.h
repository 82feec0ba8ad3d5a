// Where large results of CPU operators lie. Taking pages from the system costs more than most kernels
// compute, on a virtual machine that has handed idle memory back to its host many times more. So a result
// that nobody holds any longer leaves its pages to the next one of about its size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "common/huge_pages.h"

#if defined(__linux__)
#include <pthread.h>
#endif

namespace gcv {

struct ResultBlock {
  void* data = nullptr;
  size_t bytes = 0;
  bool is_fresh = false;    // none of its pages has been touched
  bool is_offered = false;  // to the system, which may take its pages while it is kept
};

// Blocks of whole huge pages. What has been kept for a while, the system may take when memory runs short.
class ResultPages {
 public:
  static constexpr size_t kSmallest = 2 * kHugePage;

  // Never destroyed: tensors may be the last to go.
  static ResultPages& of_process() {
    static auto* pages = new ResultPages;
    return *pages;
  }

  // No data where the system has none to give.
  ResultBlock take(size_t bytes) {
    bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    ResultBlock block = take_kept(bytes);
    if (block.data == nullptr) block = {map_huge_pages(bytes), bytes, true};
    if (block.data == nullptr) {
      clear();
      block.data = map_huge_pages(bytes);
    }
    // As Scratch does, for the same reason.
    static const bool poison = std::getenv("GENCV_FAST_POISON_SCRATCH") != nullptr;
    if (poison && block.data != nullptr) std::memset(block.data, 0x3f, bytes);
    return block;
  }

  void give_back(const ResultBlock& block) {
    std::vector<ResultBlock> dropped;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      kept_.push_back({block.data, block.bytes, false});
      kept_bytes_ += block.bytes;
      while (kept_bytes_ > kMostKept) dropped.push_back(remove(0));
      offer_all_but_recent();
    }
    for (const ResultBlock& old : dropped) unmap_pages(old.data, old.bytes);
  }

  void clear() {
    std::vector<ResultBlock> dropped;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      dropped.swap(kept_);
      kept_bytes_ = 0;
    }
    for (const ResultBlock& old : dropped) unmap_pages(old.data, old.bytes);
  }

 private:
  static constexpr size_t kMostKept = size_t(1) << 30;
  // To offer pages interrupts all processors that run a thread of the process: too much for what the next
  // call takes again.
  static constexpr size_t kRecent = size_t(64) << 20;

  ResultPages() {
#if defined(__linux__)
    // A child of fork() must not inherit a lock that a thread held which it does not have.
    pthread_atfork([] { of_process().mutex_.lock(); }, [] { of_process().mutex_.unlock(); },
                   [] { of_process().mutex_.unlock(); });
#endif
  }

  // The smallest that is large enough without wasting more than a quarter.
  ResultBlock take_kept(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    size_t best = kept_.size();
    for (size_t i = 0; i < kept_.size(); ++i) {
      const bool fits = kept_[i].bytes >= bytes && kept_[i].bytes - bytes <= bytes / 4;
      if (fits && (best == kept_.size() || kept_[i].bytes <= kept_[best].bytes)) best = i;
    }
    return best < kept_.size() ? remove(best) : ResultBlock{};
  }

  // Under the lock: pages that somebody has taken again would lose what was written to them.
  void offer_all_but_recent() {
    size_t recent = 0;
    for (size_t i = kept_.size(); i-- > 0;) {
      recent += kept_[i].bytes;
      if (recent <= kRecent || kept_[i].is_offered) continue;
      let_system_take(kept_[i].data, kept_[i].bytes);
      kept_[i].is_offered = true;
    }
  }

  ResultBlock remove(size_t i) {
    const ResultBlock block = kept_[i];
    kept_.erase(kept_.begin() + std::ptrdiff_t(i));
    kept_bytes_ -= block.bytes;
    return block;
  }

  std::mutex mutex_;
  std::vector<ResultBlock> kept_;  // the oldest first
  size_t kept_bytes_ = 0;
};

}  // namespace gcv

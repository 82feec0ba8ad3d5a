// Hands out aligned arrays from one block of memory. With no block it only counts, so that the function which
// lays out a workspace also tells its size.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gcv {
namespace {

class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* take(int64_t count) {
    T* array = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (size_t(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return array;
  }

  size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 64;
  char* base_;
  size_t used_ = 0;
};

}  // namespace
}  // namespace gcv

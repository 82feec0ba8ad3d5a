// The order in which threads and blocks run. A correct kernel gives the same results in every one.
#pragma once

#include <algorithm>
#include <optional>
#include <random>
#include <vector>

namespace gcv::emulator {

class Order {
 public:
  // "forward", "reverse", "random" or "random:<seed>"; nothing for any other text.
  static std::optional<Order> parse(const char* text);

  // The generator goes on from launch to launch: a run of a program repeats, its launches differ.
  template <class T, class Rank>
  void arrange(std::vector<T>& items, Rank rank) {
    const auto before = [&](const T& a, const T& b) {
      return kind_ == Kind::reverse ? rank(b) < rank(a) : rank(a) < rank(b);
    };
    if (kind_ == Kind::random) {
      std::shuffle(items.begin(), items.end(), generator_);
    } else if (!std::is_sorted(items.begin(), items.end(), before)) {
      std::sort(items.begin(), items.end(), before);
    }
  }

 private:
  enum class Kind { forward, reverse, random };
  Order(Kind kind, unsigned seed) : kind_(kind), generator_(seed) {}

  Kind kind_;
  std::mt19937 generator_;
};

}  // namespace gcv::emulator

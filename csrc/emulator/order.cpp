#include "emulator/order.h"

#include <charconv>
#include <string_view>

namespace gcv::emulator {

std::optional<Order> Order::parse(const char* text) {
  constexpr std::string_view seed_prefix = "random:";
  constexpr unsigned default_seed = 1;
  const std::string_view view(text);
  if (view == "forward") return Order(Kind::forward, default_seed);
  if (view == "reverse") return Order(Kind::reverse, default_seed);
  if (view == "random") return Order(Kind::random, default_seed);
  if (view.substr(0, seed_prefix.size()) != seed_prefix) return std::nullopt;

  const std::string_view digits = view.substr(seed_prefix.size());
  const char* const end = digits.data() + digits.size();
  unsigned seed = 0;
  const auto [stopped, error] = std::from_chars(digits.data(), end, seed);
  if (error != std::errc() || stopped != end) return std::nullopt;
  return Order(Kind::random, seed);
}

}  // namespace gcv::emulator

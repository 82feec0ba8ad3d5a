// Why a launch failed, in words.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "emulator/block.h"

namespace gcv::emulator {

struct LaunchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

bool same_place(const Site& a, const Site& b);

// For blocks in which no thread can go on: who waits where.
std::string stuck_report(const std::vector<Block*>& blocks);

}  // namespace gcv::emulator

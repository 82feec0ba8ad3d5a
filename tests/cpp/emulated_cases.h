// The main function of the programs that drive CUDA launchers in the emulator:
// PROGRAM [--order ORDER] [CASE] runs all cases or one, with the threads of a block in that order. Exit
// status: 0 all right, 1 wrong result or failed launch, 3 bad usage.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulator/engine.h"

namespace gcv {

using EmulatedCases = std::map<std::string, std::function<void()>>;

// Throws, as a case must whose result is wrong.
inline void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

inline void check_launch(cudaError_t error) {
  require(error == cudaSuccess, "launch failed: " + std::to_string(error) + " " + gcv_emulator_last_error());
}

inline int run_case(const std::string& name, const std::function<void()>& check) {
  try {
    check();
    std::printf("%s: passed\n", name.c_str());
    return 0;
  } catch (const std::exception& error) {
    std::printf("%s: failed: %s\n", name.c_str(), error.what());
    return 1;
  }
}

inline int run_cases(const EmulatedCases& cases, int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 2 && words[0] == "--order") {
    if (gcv_emulator_set_order(words[1].c_str()) != 0) return 3;
    words.erase(words.begin(), words.begin() + 2);
  }
  if (words.size() > 1 || (words.size() == 1 && cases.count(words[0]) == 0)) return 3;
  int worst = 0;
  for (const auto& [name, check] : cases) {
    if (words.empty() || words[0] == name) worst = std::max(worst, run_case(name, check));
  }
  return worst;
}

}  // namespace gcv

#pragma once

namespace gcv::emulator_test {

// Throws WrongResult or LaunchFailed.
void check_builtins();

}  // namespace gcv::emulator_test

#include "emulator/context.h"

#include <cstdint>

#ifdef GCV_EMULATOR_FAST_SWITCH

// Saves the registers that a callee must keep, exchanges stacks, restores. It leaves by a jump because a
// `ret` whose target the processor did not see called is mispredicted every time.
extern "C" void gcv_emulator_switch(void** save, void* load);
asm(R"(
.pushsection .text
.globl gcv_emulator_switch
.hidden gcv_emulator_switch
.type gcv_emulator_switch, @function
gcv_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size gcv_emulator_switch, .-gcv_emulator_switch
.popsection
)");

namespace gcv::emulator {

void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  constexpr int saved_registers = 6;
  const uintptr_t top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15};
  void** pointer = reinterpret_cast<void**>(top);
  *--pointer =
      nullptr;  // the return address that `entry` expects, at which the stack is 8 past a multiple of 16
  *--pointer = reinterpret_cast<void*>(entry);
  for (int i = 0; i < saved_registers; ++i) *--pointer = nullptr;
  context.stack_pointer = pointer;
}

void switch_context(Context& from, Context& to) {
  gcv_emulator_switch(&from.stack_pointer, to.stack_pointer);
}

}  // namespace gcv::emulator

#else

namespace gcv::emulator {

void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = bytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
}

void switch_context(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }

}  // namespace gcv::emulator

#endif

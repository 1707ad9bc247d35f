// Fibers: stacks that one OS thread switches between. By hand on x86-64 (about 10 ns), by ucontext elsewhere.
#pragma once
#include <pthread.h>
#include <sys/mman.h>

#include <cstddef>
#include <new>

#include "sanitizer.h"
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__x86_64__)
// Saves the callee-saved registers on the old stack and takes them from the new one.
extern "C" void poc_emulator_switch(void** old_stack_pointer, void* new_stack_pointer);
asm(R"(
.section .text.poc_emulator_switch,"axG",@progbits,poc_emulator_switch,comdat
.weak poc_emulator_switch
.type poc_emulator_switch,@function
poc_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size poc_emulator_switch,.-poc_emulator_switch
.text
)");
#endif

namespace poc::emulator {

inline constexpr size_t kPage = 4096;

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  ~Fiber() {
    if (!mapping_) return;
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(race_context_);
#endif
    munmap(mapping_, kPage + stack_bytes_);
  }

  // The fiber of the OS thread itself.
  void adopt_thread() {
#if defined(__SANITIZE_THREAD__)
    race_context_ = __tsan_get_current_fiber();
#endif
#if defined(__SANITIZE_ADDRESS__)
    pthread_attr_t attributes;
    void* stack = nullptr;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &stack_bytes_);
    pthread_attr_destroy(&attributes);
    stack_ = static_cast<char*>(stack);
#endif
  }

  // A new stack on which the first switch calls entry(), which never returns. `color` staggers the stacks, so
  // that their hot ends do not all fall into the same cache sets.
  void create(void (*entry)(), size_t stack_bytes, size_t color) {
    stack_bytes_ = (stack_bytes + kPage - 1) / kPage * kPage;
    void* mapping =
        mmap(nullptr, kPage + stack_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    mapping_ = static_cast<char*>(mapping);
    mprotect(mapping_, kPage, PROT_NONE);
    stack_ = mapping_ + kPage;
    unpoison(stack_, stack_bytes_);  // marks of a stack that once stood here outlive it
#if defined(__SANITIZE_THREAD__)
    race_context_ = __tsan_create_fiber(0);
#endif
    const size_t usable = stack_bytes_ - 64 - color % 12 * 320;
#if defined(__x86_64__)
    auto** top = reinterpret_cast<void**>(stack_ + usable);
    *--top = nullptr;  // where entry() would return to
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack_pointer_ = top;
#else
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_;
    context_.uc_stack.ss_size = usable;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
#endif
  }

  // Goes on in `to`; returns when something switches back. No switch for ThreadSanitizer means no order.
  POC_NO_TSAN void switch_to(Fiber& to) {
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(to.race_context_, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake_stack_, to.stack_, to.stack_bytes_);
#endif
#if defined(__x86_64__)
    poc_emulator_switch(&stack_pointer_, to.stack_pointer_);
#else
    swapcontext(&context_, &to.context_);
#endif
    arrived(fake_stack_);
  }

  // The first thing that the entry of a fiber does.
  static void arrived([[maybe_unused]] void* fake_stack = nullptr) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  }

 private:
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  char* mapping_ = nullptr;  // a guard page and the stack
  char* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  [[maybe_unused]] void* fake_stack_ = nullptr;    // AddressSanitizer's
  [[maybe_unused]] void* race_context_ = nullptr;  // ThreadSanitizer's
};

}  // namespace poc::emulator

// How long a model's ops take: a backend around another one, whose ops it times.
#pragma once
#include <array>
#include <memory>
#include <mutex>
#include <vector>

#include "backend.h"

namespace poc {

struct OpTime {
  const char* op;  // as in backend.h
  size_t calls = 0;
  double seconds = 0;
};

// Times of all ops of a model's runs, whatever thread they are on.
class OpTimes {
 public:
  enum Op { embed, gather, rope_table, rmsnorm, matmul, rope_kv, attention, swiglu, add, extract, kNumOps };

  OpTimes();
  void count(Op op, double seconds);
  std::vector<OpTime> list() const;  // every op, called or not

 private:
  mutable std::mutex mutex_;
  std::array<OpTime, kNumOps> times_;
};

// `inner` as it is, but for its ops, which add what they take to `times`. Only for a backend whose ops
// are done when they return (layers_ahead() is 0): elsewhere it would time the queueing.
std::unique_ptr<Backend> timed(std::unique_ptr<Backend> inner, std::shared_ptr<OpTimes> times);

}  // namespace poc

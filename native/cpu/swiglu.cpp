// gate = silu(gate) * up, the residual addition and exp; see docs/NUMERICS.md, sections 3 and 8.
#include "ops.h"
#include "simd.h"

namespace poc::cpu::POC_SIMD {
namespace {

// Applies f to whole vectors and, through a copy, to the rest.
template <class F>
void map(float* x, const float* y, size_t count, F f) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, f(load(x + i), load(y + i)));
  if (i == count) return;
  float a[kLanes] = {}, b[kLanes] = {};
  for (size_t j = i; j < count; ++j) a[j - i] = x[j], b[j - i] = y[j];
  store(a, f(load(a), load(b)));
  for (size_t j = i; j < count; ++j) x[j] = a[j - i];
}

}  // namespace

void swiglu(float* gate, const float* up, size_t count) {
  map(gate, up, count, [](Vec g, Vec u) {
    const Vec silu = div(g, add(Vec(1.0f), exp32(sub(Vec(0.0f), g))));
    return mul(silu, u);
  });
}

void add(float* x, const float* y, size_t count) {
  map(x, y, count, [](Vec a, Vec b) { return add(a, b); });
}

void exp(float* x, size_t count) {
  map(x, x, count, [](Vec a, Vec) { return exp32(a); });
}

}  // namespace poc::cpu::POC_SIMD

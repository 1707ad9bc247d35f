// The functions behind a Kernels table, in the namespace of one instruction set.
#pragma once
#include "kernels.h"

namespace poc::cpu::POC_SIMD {

void pack_rows(Rows x, size_t first_row, size_t rows, float* out);
void matmul(const MatmulBlock& block, size_t first_panel, size_t last_panel, float* scratch);
size_t matmul_scratch(const MatmulBlock& block);
float inverse_rms(const float* x, size_t size, float eps);
void rmsnorm(Rows x, const float* weight, float eps, Rows out);
void rope_kv(const RopeKvArgs& args, size_t first_row, size_t rows);
void attention(const AttentionBlock& block);
size_t attention_scratch(const AttentionBlock& block);
void swiglu(float* gate, const float* up, size_t count);
void add(float* x, const float* y, size_t count);
void exp(float* x, size_t count);

}  // namespace poc::cpu::POC_SIMD

#pragma once
#include <cstdint>
#include <span>

#include "core/tensor.h"
#include "kernels/kernels.h"

namespace hadal {

GemmOperand operand(WeightView w);

// Error{kShape} unless x is [rows, cols]; unless w is FP32 or BF16; unless it is one of these,
// FP16, or E4M3 with scales.
void check_size(const char* op, const char* name, WeightView x, int64_t rows, int64_t cols);
void check_weight(const char* op, const char* name, WeightView w);
void check_stored_weight(const char* op, const char* name, const WeightView& w);

// C (+)= op(A) op(B), then `bias` (n numbers, or null) added to every row of C.
struct Product {
  Gemm gemm;
  const float* bias = nullptr;
};

// Computes all of them: cut into blocks of C that the threads take one after another. They may
// differ in everything, size above all; their Cs must not overlap. Every number is the same
// whatever the cut and the number of threads, for a block of C does not know its neighbours.
void run_products(std::span<const Product> products);

// Memory that one product's block is packed into: kept by each thread until it ends, grown to the
// largest asked for. Bytes held by all threads now.
int64_t packing_bytes();

}  // namespace hadal

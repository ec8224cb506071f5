// Arguments of the attention kernels (attention.inl): what one task of ops/attention.cpp computes.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hadal {

// Rows of keys or values, FP32 or BF16: row i is the numbers
//   pages[i / page_rows] + (i % page_rows) * row_stride + first ...        (strides in elements)
struct AttentionRows {
  const std::byte* const* pages = nullptr;
  int64_t page_rows = 0;
  int64_t row_stride = 0;
  int64_t first = 0;
  bool bf16 = false;
};

// The columns [begin, end) of the transposed scores: column c is head c % group, of those that
// share the keys, of query row c / group. Row r sees the keys [0, visible + r).
struct AttentionColumns {
  int64_t begin = 0, end = 0;
  int64_t group = 1;
  int64_t visible = 0;
};

// Numbers of a query or output row that belong to the head group: head h of row r is
// data + r * row_stride + h * (numbers of a head).
template <class T>
struct AttentionHeads {
  T* data = nullptr;
  int64_t row_stride = 0;
};

// The most columns of an AttentionPart, and how many beyond its own it may fill with rubbish.
constexpr int64_t kAttentionColumns = 192;
constexpr int64_t kAttentionSlack = 16;
// attention_few_part takes a query row's columns of one or more key heads, at most so many to a key
// head and so many together. They see all the keys of the part; nothing is written beyond them.
constexpr int64_t kAttentionFew = 8;
constexpr int64_t kAttentionFewColumns = 64;
// A part's keys are cut into blocks of this many from key_begin on.
constexpr int64_t kAttentionKeys = 96;

struct AttentionDims {
  int64_t qk = 0, v = 0;
  float scale = 0;
};

// Columns against the keys [key_begin, key_end). Writes a part, to be joined with those of other
// key ranges: for each column max, its largest score times log2 e, sum = sum_j p_j and the row
// o = sum_j p_j v_j of o_stride >= v numbers, a multiple of 16 (the rest is rubbish), where
// p_j = 2^(score_j log2 e - max).
struct AttentionPart {
  AttentionDims dims;
  AttentionRows keys, values;
  int64_t key_begin = 0, key_end = 0;
  AttentionColumns columns;
  int64_t key_step = 0, value_step = 0;  // attention_few_part: numbers from key head to key head
  AttentionHeads<const float> q;
  bool bf16_arithmetic = false;  // operands may be rounded to BF16; sums are FP32
  float* o = nullptr;
  int64_t o_stride = 0;
  float* max = nullptr;
  float* sum = nullptr;
};

// Adds to dq of the columns and to dk, dv of the keys [key_begin, key_end) what these columns and
// these keys have with each other. FP32 keys and values. lse: one number a head.
struct AttentionGradient {
  AttentionDims dims;
  AttentionRows keys, values;
  int64_t key_begin = 0, key_end = 0;
  AttentionColumns columns;
  AttentionHeads<const float> q, d_o, o, lse;
  AttentionHeads<float> dq;
  bool bf16_arithmetic = false;
  float* dk = nullptr;  // of key 0
  float* dv = nullptr;
  int64_t dk_stride = 0, dv_stride = 0;
};

}  // namespace hadal

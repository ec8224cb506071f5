#pragma once
#include <cstdint>
#include <span>

#include "core/arena.h"
#include "core/tensor.h"
#include "ops/cached_row.h"

namespace hadal {

// Causal attention over explicit keys and values ("expanded"), for training and for prompts.
//   o[t,h] = sum_s softmax_s(scale * q[t,h] . k[s,g]) v[s,g],   s <= position of t,  g = h * G / H
struct AttentionShape {
  int64_t heads = 0;     // H
  int64_t kv_heads = 0;  // G divides H: G = H multi-head, 1 multi-query, between grouped
  int64_t qk_dim = 0;    // numbers of a query or key head
  int64_t v_dim = 0;     // numbers of a value head
  float scale = 0;
  // Where the CPU has BF16 dot products, operands of all products (softmax weights too) are rounded
  // to BF16; sums and the softmax stay FP32.
  bool bf16_arithmetic = false;
};
// One sequence: query rows [q_begin, q_end) against key rows [k_begin, k_end). The last query row
// sees all the keys, the one before all but the last, and so on: when prompts go in pieces,
// k_end - k_begin = tokens seen before + q_end - q_begin.
struct AttentionSpan {
  int64_t q_begin = 0, q_end = 0, k_begin = 0, k_end = 0;
};

// Shapes    q [Tq, H*qk]; k [Tk, G*qk]; v [Tk, G*v]; o [Tq, H*v]; lse [Tq, H] or {}. Rows may be
//           strided. Query rows outside every span are left alone.
// Numbers   FP32, or as shape.bf16_arithmetic says, with online softmax; never holds T x T. Key
// blocks begin at k_begin and have a fixed
//           size, so a row's bits depend on its own sequence alone, not on how the prompt was cut.
// Saves     lse = log of the sum of exponentials, for the backward.
// Threads   query blocks and heads; the same bits for any number of threads.
void attention(In2 q, In2 k, In2 v, std::span<const AttentionSpan> spans,
               const AttentionShape& shape, Out2 o, Out2 lse, Arena& scratch);

// Adds dL/dq, dL/dk, dL/dv. o and lse are the forward's. Never holds T x T; fixed order of sums.
void attention_backward(In2 d_o, In2 q, In2 k, In2 v, In2 o, In2 lse,
                        std::span<const AttentionSpan> spans, const AttentionShape& shape, Out2 dq,
                        Out2 dk, Out2 dv, Arena& scratch);

// Attention of generated tokens over a paged cache. A cached token is one row of numbers; key head
// g is its columns [key_first + g*key_stride, + qk_dim), value head g [value_first +
// g*value_stride,
// + v_dim). MLA in its absorbed form is the case kv_heads = 1 whose value is the first kv_lora_rank
// numbers of the key (DeepSeek-V2 paper, sec. 2.1; V3 report, sec. 2.1.1).
struct PagedLayout {
  CachedRow row{};
  int64_t page_tokens = 0;
  int64_t key_first = 0, key_stride = 0;
  int64_t value_first = 0, value_stride = 0;
};
// One query row's cache: token i is row i % page_tokens of pages[i / page_tokens]; sees `length`
// tokens.
struct PagedSequence {
  std::span<const std::byte* const> pages;
  int64_t length = 0;
};
// Shapes    q [R, H*qk]; o [R, H*v]; sequences R entries.
// Numbers   FP32, or BF16 operands as shape.bf16_arithmetic says where more than 8 heads share a
// key
//           head; the tokens are cut at fixed places (a pure function of length) and the parts
// joined
//           in order, so that a row's bits never depend on the other rows or on the threads.
void paged_attention(In2 q, std::span<const PagedSequence> sequences, const PagedLayout& layout,
                     const AttentionShape& shape, Out2 o, Arena& scratch);

}  // namespace hadal

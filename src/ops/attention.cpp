#include "ops/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/parallel.h"
#include "core/step_clock.h"
#include "kernels/kernels.h"
#include "ops/attention_tasks.h"

namespace hadal {
namespace {

constexpr int64_t kWholeMatrix = std::numeric_limits<int64_t>::max();

// ---- checks

void check_inputs(const char* op, In2 q, In2 k, In2 v, In2 o, const AttentionShape& shape) {
  check_dims(op, shape);
  check_shape(op, "q", q, q.dim(0), shape.heads * shape.qk_dim);
  check_shape(op, "k", k, k.dim(0), shape.kv_heads * shape.qk_dim);
  check_shape(op, "v", v, k.dim(0), shape.kv_heads * shape.v_dim);
  check_shape(op, "o", o, q.dim(0), shape.heads * shape.v_dim);
}

// Each span lies in the matrices and has a key for every query; no two share a row of queries, nor
// of keys when these are written to.
void check_spans(const char* op, std::span<const AttentionSpan> spans, int64_t queries,
                 int64_t keys, bool keys_apart, Arena& scratch) {
  const auto n = static_cast<int64_t>(spans.size());
  const Arena::Scope scope(scratch);
  const View<std::array<int64_t, 2>, 1> rows = scratch.make<std::array<int64_t, 2>>(n);
  for (int64_t i = 0; i < n; ++i) {
    const AttentionSpan& s = spans[static_cast<size_t>(i)];
    HADAL_CHECK(0 <= s.q_begin && s.q_begin <= s.q_end && s.q_end <= queries, kShape, op, ": span ",
                i, " has query rows [", s.q_begin, ", ", s.q_end, ") of ", queries);
    HADAL_CHECK(0 <= s.k_begin && s.k_begin <= s.k_end && s.k_end <= keys, kShape, op, ": span ", i,
                " has key rows [", s.k_begin, ", ", s.k_end, ") of ", keys);
    HADAL_CHECK(s.k_end - s.k_begin >= s.q_end - s.q_begin, kShape, op, ": span ", i, " has ",
                s.q_end - s.q_begin, " queries but only ", s.k_end - s.k_begin, " keys");
  }
  const auto check_apart = [&](const char* what, auto range_of) {
    for (int64_t i = 0; i < n; ++i) rows.data()[i] = range_of(spans[static_cast<size_t>(i)]);
    std::sort(rows.data(), rows.data() + n);
    for (int64_t i = 1, end = 0; i < n; ++i) {
      end = std::max(end, rows.data()[i - 1][1]);
      const auto& row = rows.data()[i];
      HADAL_CHECK(row[0] == row[1] || end <= row[0], kShape, op, ": two spans share ", what,
                  " row ", row[0]);
    }
  };
  check_apart("query", [](const AttentionSpan& s) {
    return std::array<int64_t, 2>{s.q_begin, s.q_end};
  });
  if (!keys_apart) return;
  check_apart("key", [](const AttentionSpan& s) {
    return std::array<int64_t, 2>{s.k_begin, s.k_end};
  });
}

// Scores and weighted sums of what the causal mask leaves.
double flops_of(std::span<const AttentionSpan> spans, const AttentionShape& shape) {
  double pairs = 0;
  for (const AttentionSpan& s : spans) {
    const auto queries = static_cast<double>(s.q_end - s.q_begin);
    pairs += queries * (static_cast<double>(s.k_end - s.k_begin) - (queries - 1) / 2);
  }
  return 2 * pairs * static_cast<double>(shape.heads * (shape.qk_dim + shape.v_dim));
}

// ---- what kernels see

const std::byte* bytes_of(In2 x) {
  return reinterpret_cast<const std::byte*>(x.data());
}

// The matrix as one page, `base` its data, from row `begin` on.
AttentionRows rows_of(const std::byte* const* base, In2 x, int64_t begin, int64_t first) {
  return {base, kWholeMatrix, x.row_stride(), begin * x.row_stride() + first, false};
}

AttentionColumns columns_of(const AttentionSpan& span, int64_t group) {
  const int64_t queries = span.q_end - span.q_begin;
  return {0, queries * group, group, span.k_end - span.k_begin - queries + 1};
}

// ---- forward

struct QueryBlock {  // columns of one span and key head
  const AttentionSpan* span;
  int64_t kv_head, begin, end;
};

// The blocks of all spans and key heads, those with most keys first.
View<QueryBlock, 1> query_blocks(std::span<const AttentionSpan> spans, const AttentionShape& shape,
                                 Arena& scratch) {
  const int64_t group = shape.heads / shape.kv_heads;
  int64_t columns = 0;
  for (const AttentionSpan& s : spans) columns += (s.q_end - s.q_begin) * shape.heads;
  const int64_t size = block_columns(columns);
  int64_t n = 0;
  for (const AttentionSpan& s : spans) {
    n += shape.kv_heads * ((s.q_end - s.q_begin) * group + size - 1) / size;
    n += shape.kv_heads;
  }
  View<QueryBlock, 1> blocks = scratch.make<QueryBlock>(n);
  QueryBlock* next = blocks.data();
  for (const AttentionSpan& s : spans) {
    const int64_t all = (s.q_end - s.q_begin) * group;
    for (int64_t g = 0; g < shape.kv_heads; ++g) {
      for (int64_t c = 0; c < all; c += size) *next++ = {&s, g, c, std::min(all, c + size)};
    }
  }
  const auto keys = [&](const QueryBlock& b) {
    return columns_of(*b.span, group).visible + b.end / group;
  };
  std::sort(blocks.data(), next,
            [&](const QueryBlock& a, const QueryBlock& b) { return keys(a) > keys(b); });
  return {blocks.data(), {next - blocks.data()}};
}

// o and lse of the part's columns, from all their keys.
void write_columns(const AttentionPart& part, const QueryBlock& block, const AttentionShape& shape,
                   Out2 o, Out2 lse) {
  const int64_t group = shape.heads / shape.kv_heads;
  for (int64_t c = block.begin; c < block.end; ++c) {
    const int64_t i = c - block.begin, row = block.span->q_begin + c / group;
    const int64_t head = block.kv_head * group + c % group;
    const float* from = part.o + i * part.o_stride;
    const float inverse = 1 / part.sum[i];
    float* to = o.row(row) + head * shape.v_dim;
    for (int64_t d = 0; d < shape.v_dim; ++d) to[d] = from[d] * inverse;
    if (!lse.empty())
      lse.row(row)[head] = std::numbers::ln2_v<float> * (part.max[i] + std::log2(part.sum[i]));
  }
}

}  // namespace

void attention(In2 q, In2 k, In2 v, std::span<const AttentionSpan> spans,
               const AttentionShape& shape, Out2 o, Out2 lse, Arena& scratch) {
  constexpr const char* kOp = "attention";
  check_inputs(kOp, q, k, v, o, shape);
  if (!lse.empty()) check_shape(kOp, "lse", lse, q.dim(0), shape.heads);
  check_spans(kOp, spans, q.dim(0), k.dim(0), false, scratch);

  const TimedPart timed(StepPart::kAttention);
  count_flops(flops_of(spans, shape));
  const Arena::Scope scope(scratch);
  const Kernels& kernel = kernels();
  const int64_t group = shape.heads / shape.kv_heads;
  const View<QueryBlock, 1> blocks = query_blocks(spans, shape, scratch);
  const int64_t o_stride = round_up(shape.v_dim, 16);
  const int64_t work = round_up(kernel.attention_workspace(shape.qk_dim, shape.v_dim), 16);
  const Workspaces workspaces(scratch,
                              work + (kAttentionColumns + kAttentionSlack) * (o_stride + 2));
  const std::byte *k_base = bytes_of(k), *v_base = bytes_of(v);
  parallel_tasks(blocks.dim(0), [&](int64_t i) {
    const QueryBlock& block = blocks.data()[i];
    const AttentionSpan& span = *block.span;
    float* mine = workspaces.mine();
    AttentionPart part;
    part.dims = dims_of(shape);
    part.keys = rows_of(&k_base, k, span.k_begin, block.kv_head * shape.qk_dim);
    part.values = rows_of(&v_base, v, span.k_begin, block.kv_head * shape.v_dim);
    part.key_end = span.k_end - span.k_begin;
    part.columns = columns_of(span, group);
    part.columns.begin = block.begin;
    part.columns.end = block.end;
    part.q = heads_of(q, span.q_begin, block.kv_head * group, shape.qk_dim);
    part.bf16_arithmetic = shape.bf16_arithmetic;
    part.o = mine + work;
    part.o_stride = o_stride;
    part.max = part.o + (kAttentionColumns + kAttentionSlack) * o_stride;
    part.sum = part.max + kAttentionColumns + kAttentionSlack;
    kernel.attention_part(part, mine);
    write_columns(part, block, shape, o, lse);
  });
}

// ---- backward

namespace {

// Long sequences are cut into four ranges of keys, of like work (early keys have more queries), so
// that a few heads keep many threads busy; the rest of a range's dq is added afterwards, in order.
constexpr int64_t kCutFrom = 1024;
constexpr int64_t kCutUnit = 2 * kAttentionKeys;
constexpr std::array<int64_t, 5> kCuts{0, 2, 5, 8, 16};  // sixteenths of the keys

struct KeyCut {  // keys [begin, end) of a span and key head
  const AttentionSpan* span;
  int64_t kv_head, begin, end;
  int64_t first_row;  // the first query row of the span that sees any of them
  Out2 dq;            // [rows from first_row on, group * qk], or empty: they go to dq itself
};

int64_t cut_at(int64_t keys, int64_t i) {
  if (i + 1 == static_cast<int64_t>(kCuts.size())) return keys;
  return round_up(keys * kCuts[static_cast<size_t>(i)] / 16, kCutUnit);
}

View<KeyCut, 1> key_cuts(std::span<const AttentionSpan> spans, const AttentionShape& shape,
                         Arena& scratch) {
  constexpr auto kMost = static_cast<int64_t>(kCuts.size()) - 1;
  const int64_t group = shape.heads / shape.kv_heads;
  View<KeyCut, 1> cuts =
      scratch.make<KeyCut>(static_cast<int64_t>(spans.size()) * shape.kv_heads * kMost);
  KeyCut* next = cuts.data();
  for (const AttentionSpan& s : spans) {
    const int64_t queries = s.q_end - s.q_begin, keys = s.k_end - s.k_begin;
    if (queries == 0) continue;
    for (int64_t g = 0; g < shape.kv_heads; ++g) {
      if (keys < kCutFrom) {
        *next++ = {&s, g, 0, keys, 0, {}};
        continue;
      }
      for (int64_t i = 0; i < kMost; ++i) {
        KeyCut cut{&s, g, cut_at(keys, i), cut_at(keys, i + 1), 0, {}};
        cut.first_row = std::max<int64_t>(0, cut.begin - (keys - queries));
        if (i > 0) cut.dq = scratch.floats(queries - cut.first_row, group * shape.qk_dim);
        *next++ = cut;
      }
    }
  }
  return {cuts.data(), {next - cuts.data()}};
}

struct BackwardCall {
  In2 d_o, q, k, v, o, lse;
  const AttentionShape& shape;
  Out2 dq, dk, dv;
  const std::byte *k_base, *v_base;

  int64_t group() const { return shape.heads / shape.kv_heads; }
};

AttentionGradient task_of(const BackwardCall& call, const KeyCut& cut) {
  const AttentionSpan& span = *cut.span;
  const AttentionShape& s = call.shape;
  const int64_t row = span.q_begin + cut.first_row, head = cut.kv_head * call.group();
  AttentionGradient task;
  task.dims = dims_of(s);
  task.keys = rows_of(&call.k_base, call.k, span.k_begin, cut.kv_head * s.qk_dim);
  task.values = rows_of(&call.v_base, call.v, span.k_begin, cut.kv_head * s.v_dim);
  task.key_begin = cut.begin;
  task.key_end = cut.end;
  task.columns = columns_of(span, call.group());
  task.columns.visible += cut.first_row;
  task.columns.end -= cut.first_row * call.group();
  task.q = heads_of(call.q, row, head, s.qk_dim);
  task.d_o = heads_of(call.d_o, row, head, s.v_dim);
  task.o = heads_of(call.o, row, head, s.v_dim);
  task.lse = heads_of(call.lse, row, head, 1);
  task.dq = heads_of(call.dq, row, head, s.qk_dim);
  task.bf16_arithmetic = s.bf16_arithmetic;
  if (!cut.dq.empty()) task.dq = {cut.dq.data(), cut.dq.row_stride()};
  task.dk = call.dk.row(span.k_begin) + cut.kv_head * s.qk_dim;
  task.dk_stride = call.dk.row_stride();
  task.dv = call.dv.row(span.k_begin) + cut.kv_head * s.v_dim;
  task.dv_stride = call.dv.row_stride();
  return task;
}

// Adds the cut's own dq to dq.
void add_cut(const Kernels& kernel, const BackwardCall& call, const KeyCut& cut) {
  const Out2 to = call.dq.rows(cut.span->q_begin + cut.first_row, cut.span->q_end);
  const int64_t width = cut.dq.dim(1);
  parallel_for(to.dim(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      kernel.add_row(cut.dq.row(r), to.row(r) + cut.kv_head * width, width);
    }
  });
}

}  // namespace

// NOLINTNEXTLINE(readability-function-size): the tensors of its contract
void attention_backward(In2 d_o, In2 q, In2 k, In2 v, In2 o, In2 lse,
                        std::span<const AttentionSpan> spans, const AttentionShape& shape, Out2 dq,
                        Out2 dk, Out2 dv, Arena& scratch) {
  constexpr const char* kOp = "attention_backward";
  check_inputs(kOp, q, k, v, o, shape);
  check_shape(kOp, "d_o", d_o, o.dim(0), o.dim(1));
  check_shape(kOp, "lse", lse, q.dim(0), shape.heads);
  check_shape(kOp, "dq", dq, q.dim(0), q.dim(1));
  check_shape(kOp, "dk", dk, k.dim(0), k.dim(1));
  check_shape(kOp, "dv", dv, v.dim(0), v.dim(1));
  check_spans(kOp, spans, q.dim(0), k.dim(0), true, scratch);

  const TimedPart timed(StepPart::kAttention);
  count_flops(2 * flops_of(spans, shape));  // the scores, computed again, apart
  const Arena::Scope scope(scratch);
  const Kernels& kernel = kernels();
  const BackwardCall call{d_o, q, k, v, o, lse, shape, dq, dk, dv, bytes_of(k), bytes_of(v)};
  const View<KeyCut, 1> cuts = key_cuts(spans, shape, scratch);
  const Workspaces workspaces(scratch, kernel.attention_workspace(shape.qk_dim, shape.v_dim));
  parallel_tasks(cuts.dim(0), [&](int64_t i) {
    const KeyCut& cut = cuts.data()[i];
    if (!cut.dq.empty()) std::fill_n(cut.dq.data(), cut.dq.size(), 0.0f);
    kernel.attention_gradient(task_of(call, cut), workspaces.mine());
  });
  for (int64_t i = 0; i < cuts.dim(0); ++i) {
    const KeyCut& cut = cuts.data()[i];
    if (!cut.dq.empty()) add_cut(kernel, call, cut);
  }
}

}  // namespace hadal

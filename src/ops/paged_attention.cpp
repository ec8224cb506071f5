#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "kernels/kernels.h"
#include "ops/attention.h"
#include "ops/attention_tasks.h"

namespace hadal {
namespace {

constexpr int64_t kSplitTokens = 2 * kAttentionKeys;
constexpr int64_t kMostSplits = 64;  // then they grow, so that parts stay few in a long context
constexpr int64_t kPartFloats = int64_t{4} << 20;  // parts of some rows that are held at a time

int64_t split_tokens(int64_t length) {
  const int64_t most = kSplitTokens * kMostSplits;
  return kSplitTokens * ((length + most - 1) / most);
}
int64_t splits_of(const PagedSequence& s) {
  const int64_t tokens = split_tokens(s.length);
  return (s.length + tokens - 1) / tokens;
}

void check_layout(const PagedLayout& l, const AttentionShape& s) {
  constexpr const char* kOp = "paged_attention";
  const DType dtype = l.row.dtype;
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF8E4M3, kShape, kOp,
              ": the cache holds ", dtype_name(dtype), ", expected F32, BF16 or F8_E4M3");
  HADAL_CHECK(l.page_tokens > 0, kShape, kOp, ": pages of ", l.page_tokens, " tokens");
  const auto check_columns = [&](const char* name, int64_t first, int64_t stride, int64_t width) {
    const int64_t last = first + (s.kv_heads - 1) * stride;
    HADAL_CHECK(first >= 0 && stride >= 0 && last + width <= l.row.elements, kShape, kOp, ": ",
                name, " heads reach column ", last + width, " of a cached row of ", l.row.elements);
  };
  check_columns("key", l.key_first, l.key_stride, s.qk_dim);
  check_columns("value", l.value_first, l.value_stride, s.v_dim);
}

void check_sequences(std::span<const PagedSequence> sequences, int64_t rows, int64_t page_tokens) {
  constexpr const char* kOp = "paged_attention";
  HADAL_CHECK(static_cast<int64_t>(sequences.size()) == rows, kShape, kOp, ": ", sequences.size(),
              " sequences for ", rows, " rows of q");
  for (size_t i = 0; i < sequences.size(); ++i) {
    const PagedSequence& s = sequences[i];
    HADAL_CHECK(s.length > 0, kShape, kOp, ": sequence ", i, " has length ", s.length,
                ", expected at least 1");
    const auto room = static_cast<int64_t>(s.pages.size()) * page_tokens;
    HADAL_CHECK(s.length <= room, kShape, kOp, ": sequence ", i, " has length ", s.length,
                " but its pages hold ", room, " tokens");
  }
}

struct PagedCall {
  In2 q;
  std::span<const PagedSequence> sequences;
  const PagedLayout& layout;
  const AttentionShape& shape;
  Out2 o;

  int64_t group() const { return shape.heads / shape.kv_heads; }
  // Few heads to a key head: a task takes several key heads and reads their keys and values in the
  // order in which they lie. Else it takes heads of one key head.
  bool few() const { return group() <= kAttentionFew; }
  // Where the part of a head lies among those of a split, and how many such places there are.
  int64_t slot(int64_t head) const {
    return few() ? head : head + head / group() * kAttentionSlack;
  }
  int64_t slots() const { return slot(shape.heads - 1) + 1 + (few() ? 0 : kAttentionSlack); }
  int64_t o_stride() const { return round_up(shape.v_dim, 16); }
  const PagedSequence& sequence(int64_t row) const { return sequences[static_cast<size_t>(row)]; }
};

// A query row and the parts of its output, split by split.
struct PagedRow {
  int64_t row, splits;
  float *o, *max, *sum;
};
struct PagedTask {
  const PagedRow* row;
  int64_t split, begin, end;  // heads
};

View<PagedRow, 1> make_rows(const PagedCall& call, int64_t begin, int64_t end, Arena& scratch) {
  View<PagedRow, 1> rows = scratch.make<PagedRow>(end - begin);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t splits = splits_of(call.sequence(i)), slots = splits * call.slots();
    rows.data()[i - begin] = {i, splits, scratch.floats(slots * call.o_stride()).data(),
                              scratch.floats(slots).data(), scratch.floats(slots).data()};
  }
  return rows;
}

View<PagedTask, 1> make_tasks(const PagedCall& call, View<PagedRow, 1> rows, Arena& scratch) {
  int64_t splits = 0;
  for (int64_t i = 0; i < rows.dim(0); ++i) splits += rows.data()[i].splits;
  const int64_t heads = call.shape.heads, all = splits * heads;
  const int64_t group = std::max<int64_t>(1, call.group());
  const int64_t few = std::min(all / (4 * num_threads()), kAttentionFewColumns);
  const int64_t size = call.few() ? std::max(few / group, int64_t{1}) * group : block_columns(all);
  View<PagedTask, 1> tasks = scratch.make<PagedTask>(splits * (heads / size + call.shape.kv_heads));
  PagedTask* next = tasks.data();
  for (int64_t i = 0; i < rows.dim(0); ++i) {
    const PagedRow& row = rows.data()[i];
    for (int64_t split = 0; split < row.splits; ++split) {
      for (int64_t h = 0, end = 0; h < heads; h = end) {
        end = std::min(h + size, call.few() ? heads : (h / group + 1) * group);
        *next++ = {&row, split, h, end};
      }
    }
  }
  return {tasks.data(), {next - tasks.data()}};
}

AttentionPart part_of(const PagedCall& call, const PagedTask& task) {
  const PagedSequence& sequence = call.sequence(task.row->row);
  const PagedLayout& l = call.layout;
  const int64_t tokens = split_tokens(sequence.length), kv_head = task.begin / call.group();
  AttentionPart part;
  part.dims = dims_of(call.shape);
  part.keys = {sequence.pages.data(), l.page_tokens, l.row.elements,
               l.key_first + kv_head * l.key_stride, l.row.dtype == DType::kBF16};
  part.values = part.keys;
  part.values.first = l.value_first + kv_head * l.value_stride;
  part.key_begin = task.split * tokens;
  part.key_end = std::min(sequence.length, part.key_begin + tokens);
  const int64_t first = kv_head * call.group();
  part.columns = {task.begin - first, task.end - first, call.group(), sequence.length};
  part.key_step = l.key_stride;
  part.value_step = l.value_stride;
  part.q = heads_of(call.q, task.row->row, first, call.shape.qk_dim);
  part.bf16_arithmetic = call.shape.bf16_arithmetic;
  const int64_t slot = task.split * call.slots() + call.slot(task.begin);
  part.o = task.row->o + slot * call.o_stride();
  part.o_stride = call.o_stride();
  part.max = task.row->max + slot;
  part.sum = task.row->sum + slot;
  return part;
}

// Keys and values of a part as FP32 in memory of the thread's own, in one page.
void widen(const PagedCall& call, int64_t row, float* memory, const std::byte** page,
           AttentionPart& part) {
  const PagedLayout& l = call.layout;
  const auto pages = call.sequence(row).pages;
  const int64_t count = part.key_end - part.key_begin;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t token = part.key_begin + i;
    const std::byte* from = pages[static_cast<size_t>(token / l.page_tokens)];
    l.row.read(from + token % l.page_tokens * l.row.bytes(), memory + i * l.row.elements);
  }
  *page = reinterpret_cast<const std::byte*>(memory);
  part.keys.pages = part.values.pages = page;
  part.keys.page_rows = part.values.page_rows = count;
  part.columns.visible -= part.key_begin;
  part.key_begin = 0;
  part.key_end = count;
}

// The output of a head, from its parts in order.
void join_parts(const Kernels& kernel, const PagedCall& call, const PagedRow& row, int64_t head) {
  const int64_t width = call.shape.v_dim, first = call.slot(head), step = call.slots();
  float* o = call.o.row(row.row) + head * width;
  float max = row.max[first], sum = 0;
  for (int64_t s = 1; s < row.splits; ++s) max = std::max(max, row.max[first + s * step]);
  std::fill_n(o, width, 0.0f);
  for (int64_t s = 0; s < row.splits; ++s) {
    const int64_t i = first + s * step;
    const float factor = std::exp2(row.max[i] - max);
    sum += factor * row.sum[i];
    kernel.add_scaled_row(factor, row.o + i * call.o_stride(), o, width);
  }
  kernel.scale_row(1 / sum, o, width);
}

int64_t longest_split(const PagedCall& call, int64_t begin, int64_t end) {
  int64_t most = 0;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t length = call.sequence(i).length;
    most = std::max(most, std::min(length, split_tokens(length)));
  }
  return most;
}

// Rows [begin, end).
void attend(const PagedCall& call, int64_t begin, int64_t end, Arena& scratch) {
  const Arena::Scope scope(scratch);
  const Kernels& kernel = kernels();
  const View<PagedRow, 1> rows = make_rows(call, begin, end, scratch);
  const View<PagedTask, 1> tasks = make_tasks(call, rows, scratch);
  const Workspaces workspaces(scratch,
                              kernel.attention_workspace(call.shape.qk_dim, call.shape.v_dim));
  const bool fp8 = call.layout.row.dtype == DType::kF8E4M3;
  const Workspaces wide(scratch,
                        fp8 ? longest_split(call, begin, end) * call.layout.row.elements : 0);
  const auto kernel_part = call.few() ? kernel.attention_few_part : kernel.attention_part;
  parallel_tasks(tasks.dim(0), [&](int64_t i) {
    const PagedTask& task = tasks.data()[i];
    AttentionPart part = part_of(call, task);
    const std::byte* page = nullptr;
    if (fp8) widen(call, task.row->row, wide.mine(), &page, part);
    kernel_part(part, workspaces.mine());
  });
  const int64_t heads = call.shape.heads;
  parallel_for(rows.dim(0) * heads, 16, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      join_parts(kernel, call, rows.data()[i / heads], i % heads);
    }
  });
}

}  // namespace

void paged_attention(In2 q, std::span<const PagedSequence> sequences, const PagedLayout& layout,
                     const AttentionShape& shape, Out2 o, Arena& scratch) {
  check_dims("paged_attention", shape);
  check_shape("paged_attention", "q", q, q.dim(0), shape.heads * shape.qk_dim);
  check_shape("paged_attention", "o", o, q.dim(0), shape.heads * shape.v_dim);
  check_layout(layout, shape);
  check_sequences(sequences, q.dim(0), layout.page_tokens);
  const PagedCall call{q, sequences, layout, shape, o};
  for (int64_t begin = 0, end = 0; begin < q.dim(0); begin = end) {
    for (int64_t floats = 0; end < q.dim(0) && floats < kPartFloats; ++end) {
      floats += splits_of(call.sequence(end)) * call.slots() * (call.o_stride() + 2);
    }
    attend(call, begin, end, scratch);
  }
}

}  // namespace hadal

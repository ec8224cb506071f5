#include <algorithm>
#include <limits>

#include "core/dtype.h"
#include "ops/attention.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using Doubles = std::vector<double>;

struct Kind {
  const char* name;
  AttentionShape shape;
  PagedLayout layout;
};

Kind kind(const char* name, AttentionShape shape, int64_t page_tokens, int64_t key_first,
          int64_t key_stride, int64_t value_first, int64_t value_stride, int64_t row_elements) {
  shape.scale = static_cast<float>(1 / std::sqrt(double(shape.qk_dim)));
  return {
      name,
      shape,
      {{DType::kF32, row_elements}, page_tokens, key_first, key_stride, value_first, value_stride}};
}

// Heads that share keys: none, few, some, more than a block of 48 and than a task of 192.
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all{
      kind("multi-head", {4, 4, 24, 16, 0}, 16, 0, 24, 96, 16, 160),
      kind("grouped, keys and values of a head together", {12, 3, 33, 7, 0}, 5, 1, 41, 34, 41, 125),
      kind("multi-query", {20, 1, 64, 64, 0}, 64, 0, 0, 64, 0, 128),
      kind("latent", {8, 1, 40, 32, 0}, 7, 0, 0, 0, 0, 40),
      kind("latent inside the key", {70, 1, 20, 13, 0}, 32, 2, 0, 5, 0, 30),
      kind("latent of V3, half of its heads more", {200, 1, 576, 512, 0}, 64, 0, 0, 0, 0, 576),
  };
  return all;
}

// One sequence: `length` cached tokens of normal numbers; what the last page has room for beyond
// them is NaN.
class Cache {
 public:
  Cache(const PagedLayout& layout, int64_t length, uint64_t stream) {
    const int64_t pages = (length + layout.page_tokens - 1) / layout.page_tokens;
    const int64_t width = layout.row.elements;
    const Matrix numbers = random_matrix(length, width, stream);
    const Matrix nan = filled(1, width, std::numeric_limits<float>::quiet_NaN());
    for (int64_t p = 0; p < pages; ++p) {
      buffers_.emplace_back(layout.page_tokens * layout.row.bytes());
      for (int64_t t = 0; t < layout.page_tokens; ++t) {
        const int64_t token = p * layout.page_tokens + t;
        layout.row.write(token < length ? numbers.row(token) : nan.data(),
                         buffers_.back().data() + t * layout.row.bytes());
      }
      pages_.push_back(buffers_.back().data());
      for (int64_t t = 0; t < layout.page_tokens; ++t) {
        rows_.emplace_back(static_cast<size_t>(width));
        layout.row.read(pages_.back() + t * layout.row.bytes(), rows_.back().data());
      }
    }
    length_ = length;
  }
  PagedSequence sequence(int64_t length = 0) const {
    return {pages_, length > 0 ? length : length_};
  }
  double at(int64_t token, int64_t d) const {
    return double(rows_[static_cast<size_t>(token)][static_cast<size_t>(d)]);
  }

 private:
  std::vector<std::vector<float>> rows_;  // as they are read
  std::vector<Buffer> buffers_;
  std::vector<const std::byte*> pages_;
  int64_t length_ = 0;
};

// Row 0 of o, for one query row, in double.
Doubles reference(const Kind& k, const Cache& cache, int64_t length, const float* q) {
  const AttentionShape& s = k.shape;
  Doubles o;
  for (int64_t h = 0; h < s.heads; ++h) {
    const int64_t g = h / (s.heads / s.kv_heads);
    Doubles p(static_cast<size_t>(length));
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t d = 0; d < s.qk_dim; ++d) {
        p[static_cast<size_t>(t)] += s.scale * double(q[h * s.qk_dim + d]) *
                                     cache.at(t, k.layout.key_first + g * k.layout.key_stride + d);
      }
    }
    const double top = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x - top);
    for (int64_t d = 0; d < s.v_dim; ++d) {
      double out = 0;
      for (int64_t t = 0; t < length; ++t) {
        out += p[static_cast<size_t>(t)] *
               cache.at(t, k.layout.value_first + g * k.layout.value_stride + d);
      }
      o.push_back(out / sum);
    }
  }
  return o;
}

Matrix run(const Kind& k, In2 q, const std::vector<PagedSequence>& sequences) {
  Matrix o = filled(q.dim(0), k.shape.heads * k.shape.v_dim, 7);
  Arena scratch;
  paged_attention(q, sequences, k.layout, k.shape, o, scratch);
  EXPECT_EQ(scratch.used(), 0);
  return o;
}

TEST(PagedAttention, MatchesTheFormulaOnEveryFamily) {
  for (Kind k : kinds()) {
    const bool large = k.shape.heads > 100;
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
      SCOPED_TRACE(std::string(k.name) + ", " + std::string(dtype_name(dtype)));
      k.layout.row.dtype = dtype;
      k.layout.row.exact = 8;
      const Matrix q = random_matrix(1, k.shape.heads * k.shape.qk_dim, 9, 2);
      for (int64_t length : {1, 7, 96, 192, 193, 700}) {
        if (large && length > 7 && length != 193) continue;
        const Cache cache(k.layout, length, 5);
        const Doubles want = reference(k, cache, length, q.data());
        for_each_family([&] {
          EXPECT_TRUE(close(run(k, q, {cache.sequence()}), want, 2e-6)) << length << " tokens";
          Kind rounds = k;
          rounds.shape.bf16_arithmetic = true;  // 9.7e-3 at most
          EXPECT_TRUE(close(run(rounds, q, {cache.sequence()}), want, 2e-2)) << length << " tokens";
        });
      }
    }
  }
}

TEST(PagedAttention, LongContextsAreCutIntoFewerParts) {
  const Kind k = kind("", {2, 1, 4, 3, 0}, 128, 0, 0, 0, 0, 4);
  const Cache cache(k.layout, 30'000, 5);
  const Matrix q = random_matrix(1, 8, 9, 2);
  for_each_family([&] {
    EXPECT_TRUE(close(run(k, q, {cache.sequence()}), reference(k, cache, 30'000, q.data()), 2e-6));
  });
  const auto peak = [&](int64_t length) {
    Arena scratch;
    const std::vector<PagedSequence> sequence{cache.sequence(length)};
    Matrix o({1, 6});
    paged_attention(q, sequence, k.layout, k.shape, o, scratch);
    return scratch.peak();
  };
  EXPECT_EQ(peak(24'000), peak(12'000));
}

// In what is cached, and whether products round to BF16.
void expect_rows_apart(DType dtype, bool bf16_arithmetic) {
  for (Kind k : kinds()) {
    SCOPED_TRACE(k.name);
    if (k.shape.heads > 100) continue;
    k.layout.row.dtype = dtype;
    k.shape.bf16_arithmetic = bf16_arithmetic;
    const std::vector<int64_t> lengths{300, 1, 96, 577, 200, 300};
    std::vector<Cache> caches;
    std::vector<PagedSequence> sequences;
    for (size_t i = 0; i < lengths.size(); ++i) caches.emplace_back(k.layout, lengths[i], 20 + i);
    for (const Cache& cache : caches) sequences.push_back(cache.sequence());
    sequences.push_back(caches[3].sequence(576));  // the same cache, a token earlier
    const Matrix q = random_matrix(7, k.shape.heads * k.shape.qk_dim, 9, 2);
    for_each_family([&] {
      const Matrix together = run(k, q, sequences);
      for (int64_t r = 0; r < 7; ++r) {
        const Matrix alone = run(k, q.view().rows(r, r + 1), {sequences[static_cast<size_t>(r)]});
        EXPECT_TRUE(same_bits(alone, together.view().rows(r, r + 1))) << "row " << r;
      }
      for (int64_t threads : {1, 2, 3}) {
        const ScopedThreads scope(threads);
        EXPECT_TRUE(same_bits(run(k, q, sequences), together)) << threads << " threads";
      }
    });
  }
}

TEST(PagedAttention, ARowDoesNotSeeTheOthersNorTheThreads) {
  expect_rows_apart(DType::kF32, false);
  expect_rows_apart(DType::kBF16, true);
  expect_rows_apart(DType::kF8E4M3, true);
}

TEST(PagedAttention, ManyRowsGoInTurns) {
  // More parts than are held at a time.
  const Kind k = kind("", {64, 1, 8, 256, 0}, 256, 0, 0, 8, 0, 264);
  const Cache cache(k.layout, 2000, 5);
  const Matrix q = random_matrix(40, 64 * 8, 9);
  const Matrix o = run(k, q, std::vector<PagedSequence>(40, cache.sequence()));
  for (int64_t r : {0, 17, 39}) {
    EXPECT_TRUE(
        same_bits(run(k, q.view().rows(r, r + 1), {cache.sequence()}), o.view().rows(r, r + 1)));
  }
}

TEST(PagedAttention, EqualsExpandedAttention) {
  for (const Kind& k : kinds()) {
    SCOPED_TRACE(k.name);
    if (k.shape.heads > 100) continue;
    const int64_t length = 110, heads = k.shape.kv_heads;
    const Cache cache(k.layout, length, 5);
    Matrix keys({length, heads * k.shape.qk_dim}), values({length, heads * k.shape.v_dim});
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t g = 0; g < heads; ++g) {
        const int64_t key = k.layout.key_first + g * k.layout.key_stride;
        const int64_t value = k.layout.value_first + g * k.layout.value_stride;
        for (int64_t d = 0; d < k.shape.qk_dim; ++d) {
          keys.row(t)[g * k.shape.qk_dim + d] = static_cast<float>(cache.at(t, key + d));
        }
        for (int64_t d = 0; d < k.shape.v_dim; ++d) {
          values.row(t)[g * k.shape.v_dim + d] = static_cast<float>(cache.at(t, value + d));
        }
      }
    }
    const Matrix q = random_matrix(length, k.shape.heads * k.shape.qk_dim, 9);
    Matrix o({length, k.shape.heads * k.shape.v_dim});
    Arena scratch;
    const std::vector<AttentionSpan> span{{0, length, 0, length}};
    std::vector<PagedSequence> sequences;
    for (int64_t t = 0; t < length; ++t) sequences.push_back(cache.sequence(t + 1));
    for_each_family([&] {
      attention(q, keys, values, span, k.shape, o, {}, scratch);
      EXPECT_TRUE(close(run(k, q, sequences), to_double(o), 2e-6));
    });
  }
}

TEST(PagedAttention, LargeScoresStayFinite) {
  Kind k = kind("", {16, 1, 32, 32, 0}, 64, 0, 0, 0, 0, 32);
  k.shape.scale = 10;
  const Cache cache(k.layout, 600, 5);
  const Matrix q = random_matrix(1, 16 * 32, 9, 50);  // scores of some +-1e4
  for_each_family([&] {
    const Matrix o = run(k, q, {cache.sequence()});
    EXPECT_TRUE(close(o, reference(k, cache, 600, q.data()), 1e-3));
  });
}

TEST(PagedAttention, RefusesWrongShapes) {
  const Kind good = kind("", {4, 2, 8, 6, 0}, 4, 0, 8, 16, 6, 28);
  const Cache cache(good.layout, 10, 5);
  const Matrix q({1, 32}), o({1, 24});
  Arena a;
  const auto call = [&](const Kind& k, In2 qq, Out2 oo, const std::vector<PagedSequence>& s) {
    paged_attention(qq, s, k.layout, k.shape, oo, a);
  };
  const std::vector<PagedSequence> one{cache.sequence()};
  EXPECT_NO_THROW(call(good, q, o, one));
  EXPECT_ERROR(call(good, o, o, one), kShape, "q is [1, 24], expected [1, 32]");
  EXPECT_ERROR(call(good, q, q, one), kShape, "o is [1, 32], expected [1, 24]");
  EXPECT_ERROR(call(good, q, o, {}), kShape, "0 sequences for 1 rows of q");
  EXPECT_ERROR(call(good, q, o, {{one[0].pages, 0}}), kShape,
               "sequence 0 has length 0, expected at least 1");
  EXPECT_ERROR(call(good, q, o, {cache.sequence(13)}), kShape,
               "sequence 0 has length 13 but its pages hold 12 tokens");
  const auto with = [&](auto change) {
    Kind k = good;
    change(k);
    return k;
  };
  EXPECT_ERROR(call(with([](Kind& k) { k.layout.row.dtype = DType::kF16; }), q, o, one), kShape,
               "the cache holds F16, expected F32, BF16 or F8_E4M3");
  EXPECT_ERROR(call(with([](Kind& k) { k.layout.page_tokens = 0; }), q, o, one), kShape,
               "pages of 0 tokens");
  EXPECT_ERROR(call(with([](Kind& k) { k.layout.value_first = 17; }), q, o, one), kShape,
               "value heads reach column 29 of a cached row of 28");
  EXPECT_ERROR(call(with([](Kind& k) { k.layout.key_stride = 21; }), q, o, one), kShape,
               "key heads reach column 29 of a cached row of 28");
  EXPECT_ERROR(call(with([](Kind& k) { k.shape.scale = -1; }), q, o, one), kShape, "scale is -1");
}

}  // namespace
}  // namespace hadal

#include "ops/attention.h"

#include <algorithm>
#include <limits>

#include "tests/support/testing.h"

namespace hadal {
namespace {

using Doubles = std::vector<double>;

// softmax(scale q k^T) v of every span in double; rows outside spans keep `fill`.
struct Reference {
  AttentionShape shape;
  std::vector<AttentionSpan> spans;
  Doubles q, k, v;

  int64_t group() const { return shape.heads / shape.kv_heads; }
  double score(int64_t t, int64_t h, int64_t s) const {
    const double* qt = q.data() + (t * shape.heads + h) * shape.qk_dim;
    const double* ks = k.data() + (s * shape.kv_heads + h / group()) * shape.qk_dim;
    double dot = 0;
    for (int64_t d = 0; d < shape.qk_dim; ++d) dot += qt[d] * ks[d];
    return dot * shape.scale;
  }
  // o of head h of query t against the keys [begin, end); returns lse.
  double head(int64_t t, int64_t h, int64_t begin, int64_t end, double* o) const {
    Doubles p;
    for (int64_t s = begin; s < end; ++s) p.push_back(score(t, h, s));
    const double top = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x - top);
    for (int64_t d = 0; d < shape.v_dim; ++d) {
      o[d] = 0;
      for (int64_t s = begin; s < end; ++s) {
        const double vs =
            v[static_cast<size_t>((s * shape.kv_heads + h / group()) * shape.v_dim + d)];
        o[d] += p[static_cast<size_t>(s - begin)] / sum * vs;
      }
    }
    return top + std::log(sum);
  }
  void run(double fill, Doubles& o, Doubles& lse) const {
    const int64_t rows = static_cast<int64_t>(q.size()) / (shape.heads * shape.qk_dim);
    o.assign(static_cast<size_t>(rows * shape.heads * shape.v_dim), fill);
    lse.assign(static_cast<size_t>(rows * shape.heads), fill);
    for (const AttentionSpan& s : spans) {
      for (int64_t t = s.q_begin; t < s.q_end; ++t) {
        for (int64_t h = 0; h < shape.heads; ++h) {
          const int64_t at = t * shape.heads + h;
          lse[static_cast<size_t>(at)] =
              head(t, h, s.k_begin, s.k_end - (s.q_end - 1 - t), o.data() + at * shape.v_dim);
        }
      }
    }
  }
  double loss(const Doubles& w) const {
    Doubles o, lse;
    run(0, o, lse);
    double sum = 0;
    for (size_t i = 0; i < o.size(); ++i) sum += w[i] * o[i];
    return sum;
  }
};

struct Case {
  AttentionShape shape;
  std::vector<AttentionSpan> spans;
  int64_t tq = 0, tk = 0;
  Matrix q, k, v;

  Case(AttentionShape s, std::vector<AttentionSpan> sp, int64_t queries, int64_t keys,
       double size = 1)
      : shape(s),
        spans(std::move(sp)),
        tq(queries),
        tk(keys),
        q(random_matrix(queries, s.heads * s.qk_dim, 1, size)),
        k(random_matrix(keys, s.kv_heads * s.qk_dim, 2, size)),
        v(random_matrix(keys, s.kv_heads * s.v_dim, 3)) {}
  Reference reference() const { return {shape, spans, to_double(q), to_double(k), to_double(v)}; }
};

struct Result {
  Matrix o, lse;
};
Result run(const Case& c, std::span<const AttentionSpan> spans, float fill = 0) {
  Result r{filled(c.tq, c.shape.heads * c.shape.v_dim, fill), filled(c.tq, c.shape.heads, fill)};
  Arena scratch;
  attention(c.q, c.k, c.v, spans, c.shape, r.o, r.lse, scratch);
  EXPECT_EQ(scratch.used(), 0);
  return r;
}
Result run(const Case& c, float fill = 0) {
  return run(c, c.spans, fill);
}

AttentionShape shape_of(int64_t heads, int64_t kv_heads, int64_t qk, int64_t v) {
  return {heads, kv_heads, qk, v, static_cast<float>(1 / std::sqrt(double(qk)))};
}

AttentionShape rounded(AttentionShape shape) {
  shape.bf16_arithmetic = true;
  return shape;
}
// Of results with operands of 8 bits, beside what FP32 may be off.
double tolerance(const AttentionShape& shape, double fp32) {
  return shape.bf16_arithmetic ? 8e-3 : fp32;
}

const std::vector<AttentionShape>& shapes() {
  static const std::vector<AttentionShape> all{
      shape_of(4, 4, 96, 64),  // multi-head, the heads of MLA in its expanded form
      shape_of(6, 2, 24, 40),  // grouped
      shape_of(5, 1, 7, 3),    // multi-query, below a vector
      shape_of(2, 1, 1, 130), rounded(shape_of(4, 4, 96, 64)), rounded(shape_of(6, 2, 25, 39)),
  };
  return all;
}

// Of different length, one of a single row, one with keys from before, rows left between them.
std::vector<AttentionSpan> some_spans() {
  return {{0, 1, 0, 1}, {3, 64, 2, 63}, {64, 70, 70, 270}, {71, 200, 300, 429}};
}

TEST(Attention, MatchesTheFormulaOnEveryFamily) {
  for (const AttentionShape& shape : shapes()) {
    const Case c(shape, some_spans(), 202, 430);
    Doubles o, lse;
    c.reference().run(7, o, lse);
    for_each_family([&] {
      const Result r = run(c, 7);
      EXPECT_TRUE(close(r.o, o, tolerance(shape, 2e-6)))
          << shape.heads << " heads of " << shape.qk_dim;
      EXPECT_TRUE(close(r.lse, lse, tolerance(shape, 2e-6)))
          << shape.heads << " heads of " << shape.qk_dim;
    });
  }
}

TEST(Attention, LseIsOptional) {
  const Case c(shape_of(2, 2, 8, 8), {{0, 5, 0, 5}}, 5, 5);
  Matrix o({5, 16});
  Arena scratch;
  attention(c.q, c.k, c.v, c.spans, c.shape, o, {}, scratch);
  EXPECT_TRUE(same_bits(o, run(c).o));
}

TEST(Attention, RowsMayBeStrided) {
  const Case c(shape_of(4, 2, 10, 6), {{1, 60, 0, 100}}, 61, 100);
  const auto widened = [](const Matrix& m) {
    Matrix w = filled(m.dim(0), m.dim(1) + 5, 99);
    for (int64_t t = 0; t < m.dim(0); ++t) std::copy_n(m.row(t), m.dim(1), w.row(t) + 3);
    return w;
  };
  const auto inner = [](const Matrix& m) { return m.view().cols(3, m.dim(1) - 2); };
  const Matrix q = widened(c.q), k = widened(c.k), v = widened(c.v);
  const Result want = run(c, 7);
  const Matrix o = filled(61, 29, 7), lse = filled(61, 9, 7);
  Arena scratch;
  attention(inner(q), inner(k), inner(v), c.spans, c.shape, inner(o), inner(lse), scratch);
  EXPECT_TRUE(same_bits(inner(o), want.o));
  EXPECT_TRUE(same_bits(inner(lse), want.lse));
  for (const Matrix* m : {&o, &lse}) {  // nothing beside the rows was touched
    EXPECT_TRUE(same_bits(m->view().cols(0, 3), filled(61, 3, 7)));
    EXPECT_TRUE(same_bits(m->view().cols(m->dim(1) - 2, m->dim(1)), filled(61, 2, 7)));
  }
}

TEST(Attention, PiecesOfAPromptGiveTheSameBitsAsTheWhole) {
  for (const AttentionShape& shape :
       {shape_of(1, 1, 96, 64), shape_of(6, 2, 20, 24), rounded(shape_of(6, 2, 20, 24))}) {
    const Case c(shape, {{0, 300, 0, 300}}, 300, 300);
    for_each_family([&] {
      const Result whole = run(c);
      for (int64_t piece : {1, 7, 64}) {
        Result parts{filled(300, whole.o.dim(1), 0), filled(300, whole.lse.dim(1), 0)};
        Arena scratch;
        for (int64_t t = 0; t < 300; t += piece) {
          const int64_t end = std::min<int64_t>(300, t + piece);
          const std::vector<AttentionSpan> span{{t, end, 0, end}};
          attention(c.q, c.k, c.v, span, shape, parts.o, parts.lse, scratch);
        }
        EXPECT_TRUE(same_bits(parts.o, whole.o)) << "pieces of " << piece;
        EXPECT_TRUE(same_bits(parts.lse, whole.lse)) << "pieces of " << piece;
      }
    });
  }
}

TEST(Attention, ASequenceDoesNotSeeTheOthers) {
  Case c(shape_of(2, 1, 16, 16), {{0, 50, 0, 50}, {50, 120, 50, 120}}, 120, 120);
  const Result before = run(c);
  // The first sequence becomes NaN, and so do all later keys than the last row of the second.
  for (Matrix* m : {&c.q, &c.k, &c.v}) {
    std::fill_n(m->data(), 50 * m->dim(1), std::numeric_limits<float>::quiet_NaN());
  }
  const Result after = run(c);
  EXPECT_TRUE(same_bits(after.o.view().rows(50, 120), before.o.view().rows(50, 120)));
  EXPECT_TRUE(std::isnan(after.o.row(49)[0]));  // never hidden
}

TEST(Attention, LargeScoresAreExact) {
  // Scores up to +-1e4: the softmax is almost one-hot, and nothing overflows.
  Case c(shape_of(2, 2, 64, 32), {{0, 200, 0, 200}}, 200, 200);
  for (Matrix* m : {&c.q, &c.k}) {
    for (int64_t i = 0; i < m->size(); ++i) m->data()[i] = float(int(m->data()[i] * 8)) * 8;
  }
  c.shape.scale = 0.0625f;
  const Reference ref = c.reference();
  double largest = 0;
  for (int64_t s = 0; s < 200; ++s) largest = std::max(largest, std::abs(ref.score(199, 0, s)));
  EXPECT_GT(largest, 4000);
  Doubles o, lse;
  ref.run(0, o, lse);
  for_each_family([&] {
    const Result r = run(c);
    EXPECT_TRUE(close(r.o, o, 1e-5));
    for (int64_t i = 0; i < r.lse.size(); ++i) {
      EXPECT_NEAR(r.lse.data()[i] / lse[static_cast<size_t>(i)], 1, 1e-6);
    }
  });
}

struct Gradients {
  Matrix dq, dk, dv;
};
Gradients run_backward(const Case& c, In2 d_o, float start = 0) {
  const Result r = run(c);
  Gradients g{filled(c.tq, c.q.dim(1), start), filled(c.tk, c.k.dim(1), start),
              filled(c.tk, c.v.dim(1), start)};
  Arena scratch;
  attention_backward(d_o, c.q, c.k, c.v, r.o, r.lse, c.spans, c.shape, g.dq, g.dk, g.dv, scratch);
  EXPECT_EQ(scratch.used(), 0);
  return g;
}

TEST(AttentionBackward, AddsWhatFiniteDifferencesGive) {
  for (const AttentionShape& shape :
       {shape_of(2, 2, 12, 8), shape_of(4, 2, 5, 17), shape_of(3, 1, 20, 3)}) {
    const Case c(shape, {{0, 1, 0, 1}, {2, 60, 2, 60}, {60, 67, 61, 180}}, 68, 181);
    const Matrix w = random_matrix(c.tq, shape.heads * shape.v_dim, 4);
    Reference ref = c.reference();
    const Doubles weights = to_double(w);
    const auto loss = [&] { return ref.loss(weights); };
    for_each_family([&] {
      const Gradients g = run_backward(c, w, 1);
      EXPECT_TRUE(gradient_added(1, g.dq, ref.q, loss, 1e-5, 40));
      EXPECT_TRUE(gradient_added(1, g.dk, ref.k, loss, 1e-5, 40));
      EXPECT_TRUE(gradient_added(1, g.dv, ref.v, loss, 1e-5, 40));
    });
  }
}

// dq, dk, dv in double, the textbook way.
std::array<Doubles, 3> reference_backward(const Reference& f, const Doubles& d_o) {
  const AttentionShape& s = f.shape;
  std::array<Doubles, 3> g{Doubles(f.q.size()), Doubles(f.k.size()), Doubles(f.v.size())};
  Doubles o(static_cast<size_t>(s.v_dim));
  for (const AttentionSpan& span : f.spans) {
    for (int64_t t = span.q_begin; t < span.q_end; ++t) {
      const int64_t end = span.k_end - (span.q_end - 1 - t);
      for (int64_t h = 0; h < s.heads; ++h) {
        const double lse = f.head(t, h, span.k_begin, end, o.data());
        const double* w = d_o.data() + (t * s.heads + h) * s.v_dim;
        double delta = 0;
        for (int64_t d = 0; d < s.v_dim; ++d) delta += w[d] * o[static_cast<size_t>(d)];
        for (int64_t j = span.k_begin; j < end; ++j) {
          const int64_t key = j * s.kv_heads + h / f.group();
          const double p = std::exp(f.score(t, h, j) - lse);
          double dp = 0;
          for (int64_t d = 0; d < s.v_dim; ++d) {
            dp += w[d] * f.v[static_cast<size_t>(key * s.v_dim + d)];
            g[2][static_cast<size_t>(key * s.v_dim + d)] += p * w[d];
          }
          for (int64_t d = 0; d < s.qk_dim; ++d) {
            const auto qi = static_cast<size_t>((t * s.heads + h) * s.qk_dim + d);
            const auto ki = static_cast<size_t>(key * s.qk_dim + d);
            g[0][qi] += s.scale * p * (dp - delta) * f.k[ki];
            g[1][ki] += s.scale * p * (dp - delta) * f.q[qi];
          }
        }
      }
    }
  }
  return g;
}

TEST(AttentionBackward, MatchesTheFormulaWhereKeysAreCut) {
  // 1100 keys: cut into ranges that run at once.
  for (const AttentionShape& shape :
       {shape_of(2, 2, 16, 8), shape_of(2, 1, 8, 24), rounded(shape_of(2, 1, 17, 23))}) {
    const Case c(shape, {{1, 1101, 0, 1100}, {1102, 1172, 1100, 2200}}, 1172, 2201);
    const Matrix w = random_matrix(c.tq, shape.heads * shape.v_dim, 4);
    const auto want = reference_backward(c.reference(), to_double(w));
    for_each_family([&] {
      const Gradients g = run_backward(c, w);
      EXPECT_TRUE(close(g.dq, want[0], tolerance(shape, 4e-6)));
      EXPECT_TRUE(close(g.dk, want[1], tolerance(shape, 4e-6)));
      EXPECT_TRUE(close(g.dv, want[2], tolerance(shape, 4e-6)));
    });
  }
}

TEST(AttentionBackward, LeavesRowsOutsideSpansAlone) {
  const Case c(shape_of(2, 1, 8, 8), {{3, 10, 5, 20}}, 12, 30);
  const Gradients g = run_backward(c, random_matrix(12, 16, 4), 7);
  const auto untouched = [](const Matrix& m, int64_t begin, int64_t end) {
    return same_bits(m.view().rows(begin, end), filled(end - begin, m.dim(1), 7));
  };
  EXPECT_TRUE(untouched(g.dq, 0, 3) && untouched(g.dq, 10, 12));
  EXPECT_TRUE(untouched(g.dk, 0, 5) && untouched(g.dk, 20, 30));
  EXPECT_TRUE(untouched(g.dv, 0, 5) && untouched(g.dv, 20, 30));
}

TEST(AttentionBackward, LargeScoresStayFinite) {
  Case c(shape_of(2, 2, 64, 32), {{0, 150, 0, 150}}, 150, 150, 16);
  c.shape.scale = 1;
  for_each_family([&] {
    for (const bool rounds : {false, true}) {
      c.shape.bf16_arithmetic = rounds;
      const Gradients g = run_backward(c, random_matrix(150, 64, 4));
      for (const Matrix* m : {&g.dq, &g.dk, &g.dv}) {
        EXPECT_TRUE(std::all_of(m->data(), m->data() + m->size(),
                                [](float x) { return std::isfinite(x); }));
      }
    }
  });
}

TEST(Attention, IsTheSameForAnyNumberOfThreads) {
  Case c(shape_of(2, 1, 12, 8), {{0, 1100, 0, 1100}, {1100, 1101, 1100, 1140}}, 1101, 1140);
  const Matrix w = random_matrix(c.tq, 16, 4);
  for_each_family([&] {
    for (const bool rounds : {false, true}) {
      c.shape.bf16_arithmetic = rounds;
      const auto run_with = [&](int64_t threads) {
        const ScopedThreads scope(threads);
        Result r = run(c);
        Gradients g = run_backward(c, w, 1);
        std::vector<Matrix> all;
        for (Matrix* m : {&r.o, &r.lse, &g.dq, &g.dk, &g.dv}) all.push_back(std::move(*m));
        return all;
      };
      const std::vector<Matrix> one = run_with(1);
      for (int64_t threads : {2, 3}) {
        const std::vector<Matrix> many = run_with(threads);
        for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], many[i])) << i;
      }
    }
  });
}

TEST(Attention, MemoryIsLinearInTheSequence) {
  const auto peak = [](int64_t tokens) {
    const Case c(shape_of(1, 1, 8, 8), {{0, tokens, 0, tokens}}, tokens, tokens);
    const Result r = run(c);
    Gradients g{filled(tokens, 8, 0), filled(tokens, 8, 0), filled(tokens, 8, 0)};
    Arena scratch;
    attention_backward(r.o, c.q, c.k, c.v, r.o, r.lse, c.spans, c.shape, g.dq, g.dk, g.dv, scratch);
    return scratch.peak();
  };
  EXPECT_LT(peak(4096) - peak(2048), 2048 * 8 * 4 * 3);  // less than three times dq
}

TEST(Attention, RefusesWrongShapes) {
  const AttentionShape shape = shape_of(4, 2, 8, 6);
  const Matrix q({3, 32}), k({5, 16}), v({5, 12}), o({3, 24}), lse({3, 4});
  Arena a;
  const auto call = [&](AttentionShape s, In2 qq, In2 kk, In2 vv, Out2 oo, Out2 ll,
                        std::vector<AttentionSpan> spans) {
    attention(qq, kk, vv, spans, s, oo, ll, a);
  };
  EXPECT_ERROR(call(shape_of(4, 3, 8, 6), q, k, v, o, lse, {}), kShape, "3 key heads");
  EXPECT_ERROR(call({4, 2, 8, 6, 0}, q, k, v, o, lse, {}), kShape, "scale is 0");
  EXPECT_ERROR(call(shape_of(4, 2, 8, 0), q, k, v, o, lse, {}), kShape, "heads of 8 and 0");
  EXPECT_ERROR(call(shape, k, k, v, o, lse, {}), kShape, "q is [5, 16], expected [5, 32]");
  EXPECT_ERROR(call(shape, q, q, v, o, lse, {}), kShape, "k is [3, 32], expected [3, 16]");
  EXPECT_ERROR(call(shape, q, k, o, o, lse, {}), kShape, "v is [3, 24], expected [5, 12]");
  EXPECT_ERROR(call(shape, q, k, v, v, lse, {}), kShape, "o is [5, 12], expected [3, 24]");
  EXPECT_ERROR(call(shape, q, k, v, o, o, {}), kShape, "lse is [3, 24], expected [3, 4]");
  EXPECT_ERROR(call(shape, q, k, v, o, lse, {{0, 4, 0, 5}}), kShape,
               "span 0 has query rows [0, 4) of 3");
  EXPECT_ERROR(call(shape, q, k, v, o, lse, {{0, 1, 0, 1}, {1, 2, 4, 6}}), kShape,
               "span 1 has key rows [4, 6) of 5");
  EXPECT_ERROR(call(shape, q, k, v, o, lse, {{0, 3, 3, 5}}), kShape, "3 queries but only 2 keys");
  EXPECT_ERROR(call(shape, q, k, v, o, lse, {{2, 3, 0, 5}, {0, 1, 0, 5}, {0, 3, 0, 5}}), kShape,
               "two spans share query row 0");
  Matrix dq({3, 32}), dk({5, 16}), dv({5, 12});
  const std::vector<AttentionSpan> shared{{0, 1, 0, 3}, {1, 2, 2, 5}};
  EXPECT_NO_THROW(call(shape, q, k, v, o, lse, shared));
  EXPECT_ERROR(attention_backward(o, q, k, v, o, lse, shared, shape, dq, dk, dv, a), kShape,
               "two spans share key row 2");
  EXPECT_ERROR(attention_backward(o, q, k, v, o, lse, {}, shape, dq, dv, dv, a), kShape,
               "dk is [5, 12], expected [5, 16]");
}

TEST(Attention, NothingToDoIsFine) {
  const AttentionShape shape = shape_of(4, 2, 8, 6);
  Arena a;
  const Matrix q({0, 32}), k({0, 16}), v({0, 12}), o({0, 24}), lse({0, 4});
  EXPECT_NO_THROW(attention(q, k, v, {}, shape, o, lse, a));
  const std::vector<AttentionSpan> empty{{0, 0, 0, 0}};
  EXPECT_NO_THROW(attention(q, k, v, empty, shape, o, lse, a));
  EXPECT_NO_THROW(attention_backward(o, q, k, v, o, lse, empty, shape, q, k, v, a));
}

}  // namespace
}  // namespace hadal

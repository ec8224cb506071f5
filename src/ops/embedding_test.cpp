#include "ops/embedding.h"

#include <array>

#include "tests/support/testing.h"

namespace hadal {
namespace {

// `count` ids below `vocabulary`, some more than once.
Tensor<int32_t, 1> random_ids(int64_t count, int64_t vocabulary) {
  Tensor<int32_t, 1> ids({count});
  Rng rng(7);
  for (int64_t t = 0; t < count; ++t) ids.data()[t] = static_cast<int32_t>(rng.below(vocabulary));
  return ids;
}

TEST(Embedding, CopiesTheRowsOfEitherDtype) {
  const int64_t T = 50, V = 20, D = 37;
  const Tensor<int32_t, 1> ids = random_ids(T, V);
  const Matrix wide = random_matrix(V, D + 4, 1);
  const In2 w = wide.view().cols(3, D + 3);
  Tensor<bf16, 2> half({V, D + 4});
  for (int64_t i = 0; i < wide.size(); ++i) half.data()[i] = to_bf16(wide.data()[i]);
  WeightView w_half(DType::kBF16, half.data() + 3, V, D);
  w_half.row_stride = D + 4;

  for (int64_t threads : {1, 3}) {
    ScopedThreads scope(threads);
    const Matrix out = filled(T, D + 2, 7), out_half = filled(T, D, 7);
    embedding(ids, w, out.view().cols(1, D + 1));
    embedding(ids, w_half, out_half);
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t d = 0; d < D; ++d) {
        const float want = w.row(ids.data()[t])[d];
        EXPECT_EQ(out.row(t)[d + 1], want);
        EXPECT_EQ(out_half.row(t)[d], to_float(to_bf16(want)));
      }
      EXPECT_EQ(out.row(t)[0], 7);
      EXPECT_EQ(out.row(t)[D + 1], 7);
    }
  }
}

TEST(Embedding, BackwardAddsEveryOccurrenceInTokenOrder) {
  for_each_family([] {
    const int64_t T = 700, V = 5, D = 300;  // wide enough for several threads
    const Tensor<int32_t, 1> ids = random_ids(T, V);
    const Matrix wide = random_matrix(T, D + 3, 1);
    const In2 dy = wide.view().cols(2, D + 2);
    Matrix want = filled(V, D, 0.5f);
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t d = 0; d < D; ++d) want.row(ids.data()[t])[d] += dy.row(t)[d];
    }
    for (int64_t threads : {1, 2, 3}) {
      ScopedThreads scope(threads);
      const Matrix dw = filled(V, D + 2, 0.5f);
      embedding_backward(ids, dy, dw.view().cols(1, D + 1));
      EXPECT_TRUE(same_bits(dw.view().cols(1, D + 1), want)) << threads;
      for (int64_t v = 0; v < V; ++v) EXPECT_EQ(dw.row(v)[0] + dw.row(v)[D + 1], 1);
    }
  });
}

TEST(Embedding, TakesNoTokens) {
  const Matrix w = filled(3, 4, 1), none({0, 4});
  embedding({}, w.view(), none);
  embedding_backward({}, none, w);
  EXPECT_TRUE(same_bits(w, filled(3, 4, 1)));
}

TEST(Embedding, RefusesIdsAndShapesBeforeWriting) {
  const Matrix w = filled(3, 4, 1), y = filled(2, 4, 5), narrow = filled(2, 3, 1);
  Tensor<int32_t, 1> ids({2}), one({1});
  const auto set = [&](int32_t a, int32_t b) { ids.data()[0] = a, ids.data()[1] = b; };
  set(0, 3);
  EXPECT_ERROR(embedding(ids, w.view(), y), kShape,
               "embedding: id 3 of token 1 is outside the vocabulary 0 .. 2");
  EXPECT_ERROR(embedding_backward(ids, y, w), kShape, "embedding_backward: id 3 of token 1");
  set(-1, 0);
  EXPECT_ERROR(embedding(ids, w.view(), y), kShape, "id -1 of token 0");
  EXPECT_ERROR(embedding_backward(ids, y, w), kShape, "id -1 of token 0");
  set(0, 2);
  EXPECT_ERROR(embedding(one, w.view(), y), kShape, "ids has 1 entries, expected 2");
  EXPECT_ERROR(embedding_backward(one, y, w), kShape, "ids has 1 entries, expected 2");
  EXPECT_ERROR(embedding(ids, w.view(), narrow), kShape, "y has 3 columns but w has 4");
  EXPECT_ERROR(embedding_backward(ids, narrow, w), kShape, "dy has 3 columns but dw has 4");
  EXPECT_ERROR(embedding(ids, WeightView(DType::kF8E4M3, w.data(), 3, 4), y), kShape,
               "w is F8_E4M3");
  EXPECT_TRUE(same_bits(y, filled(2, 4, 5)));
  EXPECT_TRUE(same_bits(w, filled(3, 4, 1)));
}

}  // namespace
}  // namespace hadal

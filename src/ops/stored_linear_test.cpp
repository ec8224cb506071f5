// Linears whose weights are held as a checkpoint stores them: FP16, and E4M3 with scales of blocks.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "ops/embedding.h"
#include "ops/linear.h"
#include "quant/formats.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

struct Held {
  std::vector<std::byte> bytes;
  Matrix scales;
  Matrix numbers;  // what is held means
  WeightView view;

  Held(const char* format, int64_t rows, int64_t cols, uint64_t stream) : numbers({rows, cols}) {
    const Format& f = find_format(format);
    const bool scaled = f.block != BlockShape{};
    bytes.resize(size_t(code_bytes(f, rows, cols)));
    if (scaled) scales = Matrix({blocks(rows, f.block.rows), blocks(cols, f.block.cols)});
    f.encode(random_matrix(rows, cols, stream, 0.05), {bytes.data(), scales, f.block});
    f.decode({bytes.data(), scales, f.block}, numbers);
    view = WeightView(f.dtype, bytes.data(), rows, cols);
    if (scaled) view.scales = scales.data();
  }
};

constexpr const char* kStoredNames[] = {"fp16", "fp8"};

// x may be rounded to BF16 once (decoding of FP8 where products of BF16 are).
void expect_near(In2 x, In2 w, In1 bias, In2 y, double share) {
  for (int64_t t = 0; t < x.dim(0); ++t) {
    for (int64_t i = 0; i < w.dim(0); ++i) {
      double want = bias.empty() ? 0 : bias.data()[i], size = 1e-6 + std::abs(want);
      for (int64_t j = 0; j < x.dim(1); ++j) {
        const double product = double(x.row(t)[j]) * double(w.row(i)[j]);
        want += product;
        size += std::abs(product);
      }
      ASSERT_LE(std::abs(y.row(t)[i] - want), share * size) << t << ", " << i;
    }
  }
}

TEST(StoredLinear, prompts_have_the_bits_of_widened_weights) {
  for_each_family([] {
    for (const char* name : kStoredNames) {
      const Held w(name, 300, 200, 1);
      const Matrix x = random_matrix(37, 200, 2), bias = random_matrix(1, 300, 3);
      for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
        Matrix y({37, 300}), want({37, 300});
        linear(x, w.view, vec(bias), y, precision);
        linear(x, w.numbers, vec(bias), want, precision);
        EXPECT_TRUE(same_bits(y, want)) << name;
      }
    }
  });
}

// Few rows are multiplied in another way than many: ends of blocks and of tiles of scales.
TEST(StoredLinear, any_rows_of_a_prompt_have_the_bits_of_all) {
  for_each_family([] {
    for (const char* name : {"fp16", "fp8", "bf16"}) {
      for (const int64_t k : {200, 1101}) {
        const int64_t m = 300, n = 150;
        const Held w(name, n, k, 1);
        const Matrix x = random_matrix(m, k, 2);
        Matrix all({m, n});
        linear(x, w.view, {}, all, Precision::kBf16);
        for (const auto& [t0, t1, i0, i1] : {std::array<int64_t, 4>{0, 48, 0, n},
                                             {7, 8, 0, n},
                                             {3, 40, 13, 147},
                                             {100, 180, 125, 132},
                                             {0, 150, 64, n}}) {
          Matrix y({t1 - t0, i1 - i0});
          linear(In2(x).rows(t0, t1), w.view.row_range(i0, i1), {}, y, Precision::kBf16);
          ASSERT_TRUE(same_bits(y, In2(all).rows(t0, t1).cols(i0, i1))) << name << " " << k;
        }
      }
    }
  });
}

// Products of codes with codes: those of the file, which encoding its numbers gives again.
TEST(StoredLinear, fp8_products_take_codes_as_they_are) {
  const Held w("fp8", 300, 200, 1);
  const Matrix x = random_matrix(37, 200, 2);
  Matrix y({37, 300}), want({37, 300});
  linear(x, w.view, {}, y, Precision::kFp8);
  linear(x, w.numbers, {}, want, Precision::kFp8);
  for (int64_t i = 0; i < y.size(); ++i) {
    ASSERT_NEAR(y.data()[i], want.data()[i], 1e-5) << i;
  }
}

TEST(StoredLinear, decoding_is_near_double_precision) {
  for_each_family([] {
    for (const char* name : kStoredNames) {
      for (const auto& [n, k] :
           {std::pair<int64_t, int64_t>{40, 96}, {17, 33}, {290, 260}, {1, 7}}) {
        const Held w(name, n, k, 1);
        const Matrix bias = random_matrix(1, n, 2);
        for (const int64_t rows : {0, 1, 3, 16, 18}) {
          const Matrix x = random_matrix(rows, k, 3);
          Matrix y({rows, n});
          linear_decode(x, w.view, vec(bias), y);
          expect_near(x, w.numbers, vec(bias), y, name == kStoredNames[0] ? 1e-5 : 0x1p-8);
        }
      }
    }
  });
}

// As the two halves of each head of kv_b_proj are used: any rows of the matrix.
TEST(StoredLinear, rows_from_the_middle_keep_their_scales) {
  for_each_family([] {
    for (const char* name : kStoredNames) {
      const Held w(name, 300, 200, 4);
      const Matrix x = random_matrix(2, 200, 5), z = random_matrix(3, 110, 6);
      Matrix all({2, 300}), part({2, 110}), across({3, 200}), prompt({2, 110}), want({2, 110});
      linear_decode(x, w.view, {}, all);
      const WeightView some = w.view.row_range(70, 180);
      linear_decode(x, some, {}, part);
      EXPECT_TRUE(same_bits(part, In2(all).cols(70, 180)));
      linear(x, some, {}, prompt, Precision::kFp32);
      linear(x, In2(w.numbers).rows(70, 180), {}, want, Precision::kFp32);
      EXPECT_TRUE(same_bits(prompt, want));
      linear_decode_across(z, some, across);
      for (int64_t r = 0; r < 3; ++r) {
        for (int64_t j = 0; j < 200; ++j) {
          double sum = 0, size = 1e-6;
          for (int64_t i = 0; i < 110; ++i) {
            const double product = double(z.row(r)[i]) * double(w.numbers.row(70 + i)[j]);
            sum += product, size += std::abs(product);
          }
          ASSERT_LE(std::abs(across.row(r)[j] - sum), 1e-5 * size) << name << r << ", " << j;
        }
      }
    }
  });
}

TEST(StoredLinear, a_row_knows_neither_its_neighbours_nor_the_threads) {
  for_each_family([] {
    for (const char* name : kStoredNames) {
      const Held w(name, 900, 320, 4);
      const Matrix x = random_matrix(9, 320, 5);
      Matrix want({9, 900});
      for (int64_t t = 0; t < 9; ++t) {
        linear_decode(In2(x).rows(t, t + 1), w.view, {}, Out2(want).rows(t, t + 1));
      }
      for (const int64_t threads : {1, 3}) {
        const ScopedThreads scope(threads);
        Matrix y({9, 900});
        linear_decode(x, w.view, {}, y);
        EXPECT_TRUE(same_bits(y, want)) << name;
      }
    }
  });
}

TEST(StoredLinear, grouped_is_each_expert_by_itself) {
  for_each_family([] {
    for (const char* name : kStoredNames) {
      std::vector<Held> experts;
      std::vector<WeightView> views, wide;
      for (uint64_t e = 0; e < 4; ++e) experts.emplace_back(name, 150, 140, 10 + e);
      for (const Held& e : experts) views.push_back(e.view), wide.emplace_back(e.numbers);
      const Matrix x = random_matrix(6, 140, 6);
      const std::vector<int32_t> tokens{5, 0, 3, 3, 1, 2, 4};
      const std::vector<int64_t> offsets{0, 3, 3, 4, 7};
      const ExpertRows rows{{tokens.data(), {7}}, offsets};
      Matrix y({7, 150}), z({7, 150}), want({7, 150}), one({1, 150});
      grouped_linear(x, rows, views, y, Precision::kBf16);
      grouped_linear(x, rows, wide, want, Precision::kBf16);
      EXPECT_TRUE(same_bits(y, want)) << name;
      grouped_linear_decode(x, rows, views, z);
      for (int64_t s = 0; s < 7; ++s) {
        const size_t e = s < 3 ? 0 : s < 4 ? 2 : 3;
        const int32_t t = tokens[size_t(s)];
        linear_decode(In2(x).rows(t, t + 1), views[e], {}, one);
        EXPECT_TRUE(same_bits(In2(z).rows(s, s + 1), one)) << name << " " << s;
      }
    }
  });
}

TEST(StoredLinear, an_embedding_may_be_fp16) {
  const Held w("fp16", 10, 33, 4);
  const std::vector<int32_t> ids{9, 0, 3};
  Matrix y({3, 33}), want({3, 33});
  embedding({ids.data(), {3}}, w.view, y);
  embedding({ids.data(), {3}}, w.numbers, want);
  EXPECT_TRUE(same_bits(y, want));
}

TEST(StoredLinear, what_cannot_be_is_refused) {
  Held w("fp8", 20, 64, 7);
  const Matrix x = random_matrix(2, 64, 8);
  Matrix y({2, 20}), dx({2, 64}), one({1, 64});
  EXPECT_ERROR(linear_backward(y, x, w.view, dx, {}, {}, Precision::kFp32), kShape, "F8_E4M3");
  const std::vector<int32_t> ids{0};
  EXPECT_ERROR(embedding({ids.data(), {1}}, w.view, one), kShape, "F8_E4M3");
  const Held other("fp16", 20, 64, 7);
  const std::vector<int64_t> offsets{0, 1, 2};
  const std::vector<WeightView> mixed{w.view, other.view};
  Matrix z({2, 20});
  grouped_linear_decode(x, {{}, offsets}, mixed, z);  // each as it is
  expect_near(In2(x).rows(1, 2), other.numbers, {}, In2(z).rows(1, 2), 1e-5);
  w.view.scales = nullptr;
  EXPECT_ERROR(linear_decode(x, w.view, {}, y), kShape, "without scales");
}

}  // namespace
}  // namespace hadal

// Linears with int8 and int4 weights, against the stored numbers in double precision.
#include "ops/panel_linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "quant/formats.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

struct Packed {
  std::vector<std::byte> bytes;
  Matrix numbers;  // what the codes mean
  WeightView view;

  Packed(const char* format, int64_t rows, int64_t cols, uint64_t stream) : numbers({rows, cols}) {
    const Format& f = find_format(format);
    bytes.resize(size_t(code_bytes(f, rows, cols)));
    f.encode(random_matrix(rows, cols, stream, 0.05), {bytes.data(), {}, f.block});
    f.decode({bytes.data(), {}, f.block}, numbers);
    view = WeightView(DType::kU8, bytes.data(), rows, cols);
    view.block_bytes = f.block_bytes;
  }
};

constexpr const char* kPanelNames[] = {"int8", "int4"};

// The contract's bound: half a step of each group of x, times what its weights add up to.
void expect_within_bound(In2 x, const Packed& w, In1 bias, In2 y) {
  for (int64_t t = 0; t < x.dim(0); ++t) {
    for (int64_t i = 0; i < w.numbers.dim(0); ++i) {
      double want = bias.empty() ? 0 : bias.data()[i], bound = 1e-6;
      for (int64_t left = 0; left < x.dim(1); left += 32) {
        double amax = 0, weights = 0;
        for (int64_t j = left; j < std::min(x.dim(1), left + 32); ++j) {
          want += double(x.row(t)[j]) * double(w.numbers.row(i)[j]);
          amax = std::max(amax, std::abs(double(x.row(t)[j])));
          weights += std::abs(double(w.numbers.row(i)[j]));
        }
        bound += (0.5 + 0x1p-8) * amax / 127 * weights;
      }
      ASSERT_LE(std::abs(y.row(t)[i] - want), bound) << t << ", " << i;
    }
  }
}

TEST(PanelLinear, is_within_the_bound_of_rounding_x) {
  for_each_family([] {
    for (const char* name : kPanelNames) {
      for (const auto& [n, k] :
           {std::pair<int64_t, int64_t>{40, 96}, {17, 33}, {90, 200}, {1, 7}}) {
        const Packed w(name, n, k, 1);
        const Matrix bias = random_matrix(1, n, 2);
        for (const int64_t rows : {0, 1, 3, 16, 33}) {
          const Matrix x = random_matrix(rows, k, 3);
          Matrix y({rows, n}), z({rows, n});
          linear(x, w.view, vec(bias), y, Precision::kBf16);
          expect_within_bound(x, w, vec(bias), y);
          linear_decode(x, w.view, vec(bias), z);
          EXPECT_TRUE(same_bits(y, z));
        }
      }
    }
  });
}

// As a forward in BF16 keeps its rows.
TEST(PanelLinear, rows_in_bf16_are_taken_as_the_numbers_they_are) {
  for (const char* name : kPanelNames) {
    const Packed w(name, 40, 70, 1);
    Matrix x = random_matrix(3, 70, 2);
    const Tensor<bf16, 2> kept({3, 70});
    for (int64_t i = 0; i < x.size(); ++i) {
      kept.data()[i] = to_bf16(x.data()[i]);
      x.data()[i] = to_float(kept.data()[i]);
    }
    Matrix y({3, 40}), z({3, 40});
    linear(x, w.view, {}, y, Precision::kBf16);
    linear(WeightView(DType::kBF16, kept.data(), 3, 70), w.view, {}, z, Precision::kBf16);
    EXPECT_TRUE(same_bits(y, z));
  }
}

TEST(PanelLinear, a_row_knows_neither_its_neighbours_nor_the_threads_nor_the_family) {
  for (const char* name : kPanelNames) {
    const Packed w(name, 600, 320, 4);
    const Matrix x = random_matrix(21, 320, 5);
    Matrix want({21, 600});
    {
      const ScopedKernels scalar(*available_kernels().front());
      for (int64_t t = 0; t < 21; ++t) {
        linear_decode(In2(x).rows(t, t + 1), w.view, {}, Out2(want).rows(t, t + 1));
      }
    }
    for_each_family([&] {
      for (const int64_t threads : {1, 3}) {
        const ScopedThreads scope(threads);
        Matrix y({21, 600});
        linear_decode(x, w.view, {}, y);
        EXPECT_TRUE(same_bits(y, want));
      }
    });
  }
}

TEST(PanelLinear, grouped_is_each_expert_by_itself) {
  for (const char* name : kPanelNames) {
    std::vector<Packed> experts;
    std::vector<WeightView> views;
    for (uint64_t e = 0; e < 4; ++e) experts.emplace_back(name, 50, 70, 10 + e);
    for (const Packed& e : experts) views.push_back(e.view);
    const Matrix x = random_matrix(6, 70, 6);
    const std::vector<int32_t> tokens{5, 0, 3, 3, 1, 2, 4};
    const std::vector<int64_t> offsets{0, 3, 3, 4, 7};
    Matrix y({7, 50}), z({7, 50});
    const ExpertRows rows{{tokens.data(), {7}}, offsets};
    grouped_linear(x, rows, views, y, Precision::kFp32);
    grouped_linear_decode(x, rows, views, z);
    EXPECT_TRUE(same_bits(y, z));
    Matrix slots({7, 70}), want({1, 50});
    for (int64_t s = 0; s < 7; ++s) {
      std::copy_n(x.row(tokens[size_t(s)]), 70, slots.row(s));
      const size_t e = s < 3 ? 0 : s < 4 ? 2 : 3;
      linear_decode(In2(slots).rows(s, s + 1), views[e], {}, want);
      EXPECT_TRUE(same_bits(In2(y).rows(s, s + 1), want)) << s;
    }
    grouped_linear_decode(slots, {{}, offsets}, views, z);
    EXPECT_TRUE(same_bits(y, z));
  }
}

TEST(PanelLinear, what_is_not_finite_reaches_the_result) {
  const Packed w("int8", 20, 64, 7);
  Matrix x = random_matrix(2, 64, 8), y({2, 20});
  x.row(1)[40] = INFINITY;
  linear_decode(x, w.view, {}, y);
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(std::isfinite(y.row(0)[i]));
    EXPECT_TRUE(std::isnan(y.row(1)[i]));
  }
}

TEST(PanelLinear, other_weights_and_gradients_are_refused) {
  Packed w("int8", 20, 64, 7);
  const Matrix x = random_matrix(2, 64, 8);
  Matrix y({2, 20}), dx({2, 64});
  EXPECT_ERROR(linear_backward(y, x, w.view, dx, {}, {}, Precision::kFp32), kShape, "U8");
  w.view.block_bytes = 100;
  EXPECT_ERROR(linear_decode(x, w.view, {}, y), kShape, "in blocks of 100 bytes");
  w.view.block_bytes = 0;
  EXPECT_ERROR(linear(x, w.view, {}, y, Precision::kFp32), kShape, "expected F32 or BF16");
}

}  // namespace
}  // namespace hadal

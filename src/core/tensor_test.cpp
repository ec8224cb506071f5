#include "core/tensor.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/testing.h"

namespace hadal {
namespace {

TEST(View, rows_and_columns_are_windows_onto_the_same_memory) {
  std::array<float, 20> memory{};
  std::iota(memory.begin(), memory.end(), 0.f);
  const Out2 whole(memory.data(), {4, 5});
  EXPECT_EQ(whole.size(), 20);
  EXPECT_EQ(whole.row_stride(), 5);
  EXPECT_EQ(whole.row(2)[1], 11.f);

  const Out2 middle = whole.rows(1, 3).cols(2, 4);
  EXPECT_EQ(middle.shape(), (std::array<int64_t, 2>{2, 2}));
  EXPECT_EQ(middle.row_stride(), 5);
  EXPECT_EQ(middle.row(1)[1], 13.f);
  middle.row(0)[0] = -1;
  EXPECT_EQ(memory[7], -1.f);

  const In2 read_only = middle;  // keeps the stride
  EXPECT_EQ(read_only.row_stride(), 5);
  EXPECT_EQ(read_only.row(1)[0], 12.f);
}

TEST(View, a_default_view_is_empty) {
  EXPECT_TRUE(In2().empty());
  EXPECT_EQ(In2().size(), 0);
  float x = 0;
  EXPECT_FALSE(In1(&x, {1}).empty());
}

TEST(View, planes_of_rank_3_are_dense) {
  std::array<int32_t, 24> memory{};
  const View<int32_t, 3> cube(memory.data(), {2, 3, 4});
  EXPECT_EQ(cube.size(), 24);
  EXPECT_EQ(cube.dim(2), 4);
}

TEST(Buffer, is_zeroed_and_aligned_whether_small_or_large) {
  for (int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{4096}, (int64_t{1} << 20) - 1,
                        int64_t{1} << 20, (int64_t{5} << 20) + 3}) {
    const Buffer buffer(bytes);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    for (int64_t i = 0; i < bytes; ++i) ASSERT_EQ(buffer.data()[i], std::byte{0});
    if (bytes > 0) buffer.data()[bytes - 1] = std::byte{1};
  }
}

TEST(Buffer, sizes_that_cannot_be_are_an_error_not_an_overflow) {
  EXPECT_ERROR(Buffer(-1), kResource, "-1 bytes");
  EXPECT_ERROR(Buffer(INT64_MAX), kResource, "9223372036854775807 bytes");
  const int64_t big = int64_t{1} << 31;
  EXPECT_ERROR((Tensor<float, 2>({big, big})), kResource, "larger than 2^60 bytes");
  EXPECT_ERROR((Tensor<float, 3>({big, big, 4})), kResource, "larger than 2^60 bytes");
  EXPECT_ERROR((Tensor<float, 2>({-2, -3})), kResource, "dimension -2");
  EXPECT_NO_THROW((Tensor<float, 2>({0, big})));
}

TEST(Tensor, moves_and_leaves_nothing_behind) {
  Tensor<float, 2> a({2, 3});
  a.row(1)[2] = 5;
  const float* data = a.data();
  Tensor<float, 2> b = std::move(a);
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(b.row(1)[2], 5.f);
  EXPECT_EQ(b.size(), 6);
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
  EXPECT_TRUE((Tensor<float, 1>().empty()));
}

TEST(WeightView, a_row_range_starts_at_its_first_row_in_either_dtype) {
  const Tensor<float, 2> floats({4, 3});
  const WeightView f = In2(floats);
  EXPECT_EQ(f.row_range(1, 3).data, floats.row(1));
  EXPECT_EQ(f.row_range(1, 3).rows, 2);
  EXPECT_EQ(f.row_range(1, 3).cols, 3);

  const std::array<bf16, 12> halves{};
  const WeightView h(DType::kBF16, halves.data(), 4, 3);
  EXPECT_EQ(h.row_range(2, 4).data, &halves[6]);
}

}  // namespace
}  // namespace hadal

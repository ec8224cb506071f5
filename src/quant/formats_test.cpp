#include "quant/formats.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/support/testing.h"

namespace hadal {
namespace {

struct Stored {
  std::vector<std::byte> memory;
  Matrix scales;
  const Format& format;

  // Codes begin at an odd address, as they may in a file.
  Stored(const Format& f, int64_t rows, int64_t cols)
      : memory(static_cast<size_t>(code_bytes(f, rows, cols) + 1)),
        scales({f.block_bytes > 0 ? 0 : blocks(rows, f.block.rows),
                f.block_bytes > 0 ? 0 : blocks(cols, f.block.cols)}),
        format(f) {}
  void encode(In2 x) { format.encode(x, {memory.data() + 1, scales, format.block}); }
  Matrix decode(int64_t rows, int64_t cols) const {
    Matrix out({rows, cols});
    format.decode({memory.data() + 1, scales, format.block}, out);
    return out;
  }
};

TEST(Formats, are_found_by_name_and_by_dtype) {
  std::set<std::string_view> names;
  for (const Format& f : formats()) {
    EXPECT_EQ(&find_format(f.name), &f);
    EXPECT_EQ(format_of(f.dtype, f.block_bytes), &f);
    names.insert(f.name);
  }
  EXPECT_EQ(names, (std::set<std::string_view>{"fp32", "bf16", "fp16", "fp8", "int8", "int4"}));
  EXPECT_ERROR(find_format("int3"), kUsage,
               "format \"int3\" is unknown; expected one of fp32, bf16, fp16, fp8, int8, int4");
  EXPECT_EQ(format_of(DType::kI64), nullptr);
}

TEST(Formats, bits_per_weight_are_codes_and_scales) {
  for (const Format& f : formats()) {
    const int64_t n = 1024;
    const bool apart = f.block_bytes == 0;
    const double scales = apart ? double(blocks(n, f.block.rows) * blocks(n, f.block.cols)) : 0;
    const double bits = (8 * double(code_bytes(f, n, n)) + 32 * scales) / double(n * n);
    EXPECT_DOUBLE_EQ(f.bits_per_weight, bits) << f.name;
  }
}

TEST(Formats, blocks_are_counted_with_the_last_partial_one) {
  EXPECT_EQ(blocks(576, 128), 5);
  EXPECT_EQ(blocks(7168, 128), 56);
  EXPECT_EQ(blocks(1, 128), 1);
  EXPECT_EQ(blocks(128, 128), 1);
  EXPECT_EQ(blocks(0, 128), 0);
  EXPECT_EQ(blocks(5, 0), 0) << "no scales";
}

TEST(Formats, what_was_decoded_once_is_stored_without_loss) {
  for (const Format& f : formats()) {
    SCOPED_TRACE(std::string(f.name));
    const Matrix x = random_matrix(131, 259, 5);
    Stored stored(f, 131, 259);
    stored.encode(x);
    const Matrix once = stored.decode(131, 259);
    Stored again(f, 131, 259);
    again.encode(once);
    EXPECT_TRUE(same_bits(again.decode(131, 259), once));
    // int4 clips the largest number of a group where that leaves less error in all.
    const double bound = f.name == "int4" ? 0.12 : f.dtype == DType::kF32 ? 0 : 0.04;
    EXPECT_TRUE(close(once, to_double(x), bound));
  }
}

TEST(Formats, plain_ones_agree_with_the_conversions_of_core) {
  const Matrix x = random_matrix(3, 7, 6);
  for (int64_t i = 0; i < x.size(); ++i) {
    const float value = x.data()[i];
    const std::vector<std::pair<const char*, float>> expected{
        {"fp32", value}, {"bf16", to_float(to_bf16(value))}, {"fp16", to_float(to_fp16(value))}};
    for (const auto& [name, want] : expected) {
      Stored stored(find_format(name), 3, 7);
      stored.encode(x);
      EXPECT_EQ(stored.decode(3, 7).data()[i], want) << name;
    }
  }
}

TEST(Formats, decode_into_and_encode_from_windows) {
  for (const Format& f : formats()) {
    SCOPED_TRACE(std::string(f.name));
    const Matrix whole = random_matrix(6, 10, 7);
    const In2 window = In2(whole).rows(1, 4).cols(2, 9);
    Stored dense(f, 3, 7), strided(f, 3, 7);
    dense.encode(clone(window));
    strided.encode(window);
    EXPECT_EQ(dense.memory, strided.memory);
    Matrix out = filled(5, 12, -9);
    f.decode({dense.memory.data() + 1, dense.scales, f.block}, Out2(out).rows(1, 4).cols(3, 10));
    EXPECT_TRUE(same_bits(In2(out).rows(1, 4).cols(3, 10), dense.decode(3, 7)));
    EXPECT_EQ(out.row(1)[2], -9);
    EXPECT_EQ(out.row(3)[10], -9);
    EXPECT_EQ(out.row(4)[3], -9);
  }
}

TEST(Formats, any_number_of_threads_gives_the_same_bits) {
  const Matrix x = random_matrix(300, 700, 8);
  for (const Format& f : formats()) {
    std::vector<std::vector<std::byte>> codes;
    std::vector<Matrix> decoded;
    for (int64_t threads : {1, 3}) {
      const ScopedThreads scope(threads);
      Stored stored(f, 300, 700);
      stored.encode(x);
      codes.push_back(stored.memory);
      decoded.push_back(stored.decode(300, 700));
    }
    EXPECT_EQ(codes[0], codes[1]) << f.name;
    EXPECT_TRUE(same_bits(decoded[0], decoded[1])) << f.name;
  }
}

}  // namespace
}  // namespace hadal

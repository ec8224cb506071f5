#include "model/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/testing.h"

namespace hadal {
namespace {

using Shape = std::vector<int64_t>;

// A folder being put together: tensors with their bytes.
struct Model {
  fs::path folder = scratch_dir();
  std::vector<TensorSpec> specs;
  std::vector<std::vector<std::byte>> bytes;

  template <class T>
  void add(const std::string& name, DType dtype, const Shape& shape,
           const std::vector<T>& numbers) {
    specs.push_back({name, dtype, shape});
    const auto raw = std::as_bytes(std::span(numbers));
    bytes.emplace_back(raw.begin(), raw.end());
  }
  Checkpoint open() const {
    CheckpointWriter writer(folder, specs);
    for (size_t i = 0; i < specs.size(); ++i) writer.write(specs[i].name, bytes[i]);
    writer.finish();
    return Checkpoint::open(folder);
  }
  // FP8 codes cycling through all finite ones, and scales 0.5, 1.5, 2.5, ...
  void add_fp8(const std::string& name, int64_t rows, int64_t cols, BlockShape block) {
    std::vector<uint8_t> codes(static_cast<size_t>(rows * cols));
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<uint8_t>(i * 7 % 127 + (i % 3 == 0 ? 128 : 0));
    }
    add(name, DType::kF8E4M3, {rows, cols}, codes);
    const int64_t down = blocks(rows, block.rows), across = blocks(cols, block.cols);
    std::vector<float> scales(static_cast<size_t>(down * across));
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = float(i) + 0.5f;
    add(name + "_scale_inv", DType::kF32, {down, across}, scales);
  }
  template <class T>
  T& number(size_t tensor, size_t index) {
    return reinterpret_cast<T*>(bytes[tensor].data())[index];
  }
};

std::vector<float> read(const Checkpoint& checkpoint, const std::string& name, const Shape& shape,
                        BlockShape block = kFp8Block) {
  std::vector<float> out(static_cast<size_t>(checkpoint.at(name).size()), -77);
  read_weight(checkpoint, name, shape, out, block);
  return out;
}

std::vector<float> random_numbers(int64_t n, uint64_t stream) {
  const Matrix m = random_matrix(1, n, stream);
  return {m.data(), m.data() + n};
}

TEST(ReadWeight, converts_the_plain_dtypes) {
  const std::vector<float> numbers = random_numbers(200'000, 1);  // several pieces
  std::vector<bf16> brain;
  std::vector<fp16> half;
  for (float x : numbers) brain.push_back(to_bf16(x)), half.push_back(to_fp16(x));
  Model model;
  model.add("odd", DType::kBF16, {3}, std::vector<bf16>(3, to_bf16(2)));
  model.add("f32", DType::kF32, {400, 500}, numbers);
  model.add("bf16", DType::kBF16, {400, 500}, brain);
  model.add("f16", DType::kF16, {200'000}, half);
  model.add("scalar", DType::kF32, {}, std::vector<float>{3.5f});
  const Checkpoint checkpoint = model.open();
  EXPECT_EQ(read(checkpoint, "f32", {400, 500}), numbers);
  EXPECT_EQ(read(checkpoint, "scalar", {}), std::vector<float>{3.5f});
  const std::vector<float> b = read(checkpoint, "bf16", {400, 500});
  const std::vector<float> h = read(checkpoint, "f16", {200'000});
  for (size_t i = 0; i < numbers.size(); ++i) {
    ASSERT_EQ(b[i], to_float(brain[i]));
    ASSERT_EQ(h[i], to_float(half[i]));
  }
}

TEST(ReadWeight, rounds_to_bf16_when_asked) {
  const std::vector<float> numbers = random_numbers(70'000, 2);
  Model model;
  model.add("w", DType::kF32, {70'000}, numbers);
  model.add_fp8("q", 130, 140, kFp8Block);
  const Checkpoint checkpoint = model.open();
  std::vector<bf16> out(70'000);
  read_weight(checkpoint, "w", Shape{70'000}, out);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i].bits, to_bf16(numbers[i]).bits);
  std::vector<bf16> q(130 * 140);
  read_weight(checkpoint, "q", Shape{130, 140}, q);
  const std::vector<float> exact = read(checkpoint, "q", {130, 140});
  for (size_t i = 0; i < q.size(); ++i) ASSERT_EQ(q[i].bits, to_bf16(exact[i]).bits);
}

TEST(ReadWeight, decodes_fp8_with_the_scale_of_each_block) {
  const std::vector<std::pair<Shape, BlockShape>> cases{
      {{1, 1}, kFp8Block},     {{128, 128}, kFp8Block}, {{129, 257}, kFp8Block},
      {{700, 300}, kFp8Block}, {{10, 9}, {3, 4}},       {{2000, 150}, {64, 32}},
      {{1000, 200}, {1, 128}}, {{5, 6}, {1000, 1000}},  {{600, 130}, {512, 1}},
  };
  for (const auto& [shape, block] : cases) {
    const int64_t rows = shape[0], cols = shape[1];
    Model model;
    model.add_fp8("w", rows, cols, block);
    const Checkpoint checkpoint = model.open();
    const std::vector<float> got = read(checkpoint, "w", shape, block);
    const int64_t across = blocks(cols, block.cols);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const float code = to_float(model.number<e4m3>(0, size_t(r * cols + c)));
        const float scale = float(r / block.rows * across + c / block.cols) + 0.5f;
        ASSERT_EQ(got[size_t(r * cols + c)], code * scale) << r << ", " << c;
      }
    }
  }
}

TEST(ReadWeight, any_number_of_threads_gives_the_same_bits) {
  Model model;
  model.add_fp8("w", 1000, 333, kFp8Block);
  const Checkpoint checkpoint = model.open();
  const ScopedThreads one(1);
  const std::vector<float> first = read(checkpoint, "w", {1000, 333});
  set_num_threads(3);
  EXPECT_EQ(read(checkpoint, "w", {1000, 333}), first);
}

TEST(ReadWeight, what_is_missing_or_misshapen_is_refused) {
  Model model;
  model.add("w", DType::kF32, {2, 3}, std::vector<float>(6));
  model.add("ids", DType::kI64, {2}, std::vector<int64_t>(2));
  model.add("alone", DType::kF8E4M3, {2, 2}, std::vector<uint8_t>(4));
  model.add("vector", DType::kF8E4M3, {4}, std::vector<uint8_t>(4));
  model.add("b", DType::kBF16, {2}, std::vector<bf16>(2));
  model.add("b_scale_inv", DType::kF32, {1}, std::vector<float>(1, 1));
  const Checkpoint checkpoint = model.open();
  const std::string file = (model.folder / "model.safetensors").string();
  EXPECT_ERROR(read(checkpoint, "w", {3, 2}), kShape,
               file + ": tensor \"w\" has shape [2, 3], expected [3, 2]");
  EXPECT_ERROR(read(checkpoint, "w", {2, 3, 1}), kShape, "has shape [2, 3], expected [2, 3, 1]");
  EXPECT_ERROR(read(checkpoint, "w", {2}), kShape, "has shape [2, 3], expected [2]");
  std::vector<float> out(6);
  EXPECT_ERROR(read_weight(checkpoint, "none", Shape{6}, out), kFormat,
               "tensor \"none\" is missing");
  EXPECT_ERROR(read(checkpoint, "ids", {2}), kFormat,
               "tensor \"ids\" is I64, expected F32, BF16, F16 or F8_E4M3");
  EXPECT_ERROR(read(checkpoint, "alone", {2, 2}), kFormat,
               "tensor \"alone\" is F8_E4M3 but has no \"alone_scale_inv\"");
  EXPECT_ERROR(read(checkpoint, "vector", {4}), kShape,
               "tensor \"vector\" is F8_E4M3 of shape [4], expected a matrix");
  EXPECT_ERROR(read(checkpoint, "b", {2}), kFormat,
               "tensor \"b\" is BF16, which has no scales, but there is \"b_scale_inv\"");
  std::vector<float> small(5);
  EXPECT_ERROR(read_weight(checkpoint, "w", Shape{2, 3}, small), kInternal, "room for 5");
}

TEST(ReadWeight, nan_and_infinity_are_refused_with_their_place) {
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    Model model;
    model.add("w", DType::kF32, {100, 1000}, std::vector<float>(100'000, 1));
    model.number<float>(0, 98'765) = bad;
    model.number<float>(0, 70'007) = bad;  // the first one is named, whoever finds which
    const Checkpoint checkpoint = model.open();
    const std::string words =
        str((model.folder / "model.safetensors").string(), ": tensor \"w\" at [70, 7] is ", bad,
            ", expected finite numbers");
    EXPECT_ERROR(read(checkpoint, "w", {100, 1000}), kFormat, words);
    std::vector<bf16> out(100'000);
    EXPECT_ERROR(read_weight(checkpoint, "w", Shape{100, 1000}, out), kFormat, words);
    EXPECT_ERROR(map_weight(checkpoint, "w", Shape{100, 1000}, DType::kF32), kFormat, words);
  }
  Model model;
  model.add("b", DType::kBF16, {3}, std::vector<uint16_t>{0, 0, 0x7f80});
  model.add("h", DType::kF16, {3}, std::vector<uint16_t>{0, 0xfc01, 0});
  const Checkpoint checkpoint = model.open();
  EXPECT_ERROR(read(checkpoint, "b", {3}), kFormat, "tensor \"b\" at [2] is inf");
  EXPECT_ERROR(read(checkpoint, "h", {3}), kFormat, "tensor \"h\" at [1] is -nan");
  EXPECT_ERROR(map_weight(checkpoint, "b", Shape{3}, DType::kBF16), kFormat, "at [2] is inf");
  EXPECT_ERROR(map_weight(checkpoint, "h", Shape{3}, DType::kF16), kFormat, "at [1] is -nan");
}

TEST(ReadWeight, numbers_that_overflow_bf16_are_refused) {
  Model model;
  model.add("w", DType::kF32, {2}, std::vector<float>{1, 3.4e38f});
  const Checkpoint checkpoint = model.open();
  EXPECT_EQ(read(checkpoint, "w", {2})[1], 3.4e38f);
  std::vector<bf16> out(2);
  EXPECT_ERROR(read_weight(checkpoint, "w", Shape{2}, out), kFormat, "at [1] is inf");
}

TEST(ReadWeight, nan_codes_and_products_that_overflow_are_refused) {
  for (uint8_t code : {0x7f, 0xff}) {
    Model model;
    model.add_fp8("w", 200, 130, kFp8Block);
    model.number<uint8_t>(0, 150 * 130 + 129) = code;
    EXPECT_ERROR(read(model.open(), "w", {200, 130}), kFormat, "tensor \"w\" at [150, 129] is");
  }
  Model model;
  model.add_fp8("w", 2, 2, kFp8Block);
  model.number<uint8_t>(0, 3) = 0x7e;
  model.number<float>(1, 0) = 1e38f;
  EXPECT_ERROR(read(model.open(), "w", {2, 2}), kFormat, "tensor \"w\" at [1, 1] is inf");
}

TEST(ReadWeight, scales_that_cannot_be_are_refused) {
  const std::vector<std::pair<float, std::string>> bad{
      {0.f, " at [1, 0] is 0, expected positive scales"},
      {-0.f, " at [1, 0] is -0, expected positive scales"},
      {-2.f, " at [1, 0] is -2, expected positive scales"},
      {NAN, " at [1, 0] is nan, expected finite numbers"},
      {INFINITY, " at [1, 0] is inf, expected finite numbers"}};
  for (const auto& [scale, words] : bad) {
    Model model;
    model.add_fp8("w", 200, 130, kFp8Block);
    model.number<float>(1, 2) = scale;
    EXPECT_ERROR(read(model.open(), "w", {200, 130}), kFormat, "tensor \"w_scale_inv\"" + words);
  }
  Model model;
  model.add_fp8("w", 200, 130, kFp8Block);
  EXPECT_ERROR(read(model.open(), "w", {200, 130}, {64, 128}), kShape,
               "tensor \"w_scale_inv\" has shape [2, 2], expected [4, 2]");
  EXPECT_ERROR(read(model.open(), "w", {200, 130}, {0, 128}), kConfig,
               "weight_block_size [0, 128], expected numbers from 1");
  EXPECT_ERROR(read(model.open(), "w", {200, 130}, {int64_t{1} << 62, 128}), kConfig,
               "expected numbers from 1");
  Model odd;
  odd.add("w", DType::kF8E4M3, {1, 1}, std::vector<uint8_t>{1});
  odd.add("w_scale_inv", DType::kF8E4M3, {1, 1}, std::vector<uint8_t>{1});
  odd.add("w_scale_inv_scale_inv", DType::kF8E4M3, {1, 1}, std::vector<uint8_t>{1});
  EXPECT_ERROR(read(odd.open(), "w", {1, 1}), kFormat,
               "tensor \"w_scale_inv\" is F8_E4M3, expected F32, BF16 or F8_E8M0");
}

TEST(ReadWeight, a_file_cut_short_meanwhile_is_an_error) {
  Model model;
  model.add("w", DType::kF32, {100'000}, std::vector<float>(100'000, 1));
  const Checkpoint checkpoint = model.open();
  fs::resize_file(model.folder / "model.safetensors", 4096);
  EXPECT_ERROR(read(checkpoint, "w", {100'000}), kIo, "ends at byte 4096");
}

TEST(MapWeight, gives_the_bytes_in_place_or_nothing) {
  Model model;
  const std::vector<float> numbers = random_numbers(80'000, 3);
  model.add("f", DType::kF32, {80'000}, numbers);
  model.add("b", DType::kBF16, {2}, std::vector<bf16>{to_bf16(1), to_bf16(2)});
  const Checkpoint checkpoint = model.open();
  const auto bytes = map_weight(checkpoint, "f", Shape{80'000}, DType::kF32);
  EXPECT_EQ(bytes.data(), checkpoint.view("f").data());
  EXPECT_EQ(std::memcmp(bytes.data(), numbers.data(), bytes.size()), 0);
  EXPECT_EQ(map_weight(checkpoint, "b", Shape{2}, DType::kBF16).size(), 4u);
  EXPECT_TRUE(map_weight(checkpoint, "b", Shape{2}, DType::kF32).empty()) << "stored otherwise";
  EXPECT_ERROR(map_weight(checkpoint, "b", Shape{3}, DType::kBF16), kShape, "expected [3]");
  EXPECT_ERROR(map_weight(checkpoint, "b", Shape{2}, DType::kI8), kInternal, "I8");
}

TEST(MapCodes, gives_codes_in_place_and_scales) {
  Model model;
  model.add_fp8("w", 300, 130, kFp8Block);
  model.add("f", DType::kF32, {1}, std::vector<float>(1));
  const Checkpoint checkpoint = model.open();
  const MappedCodes mapped = map_codes(checkpoint, "w", Shape{300, 130});
  EXPECT_EQ(mapped.codes.data(), checkpoint.view("w").data());
  ASSERT_EQ(mapped.scales.dim(0), 3);
  ASSERT_EQ(mapped.scales.dim(1), 2);
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(mapped.scales.data()[i], float(i) + 0.5f);
  EXPECT_TRUE(map_codes(checkpoint, "f", Shape{1}).codes.empty()) << "stored otherwise";
  EXPECT_ERROR(map_codes(checkpoint, "w", Shape{130, 300}), kShape, "expected [130, 300]");
}

TEST(MapCodes, scales_of_powers_of_two_may_be_bf16) {
  Model model;
  model.add_fp8("w", 130, 1, kFp8Block);
  model.specs[1].dtype = DType::kBF16;
  model.bytes[1].resize(4);
  model.number<bf16>(1, 0) = to_bf16(0x1p-9f);
  model.number<bf16>(1, 1) = to_bf16(4);
  const MappedCodes mapped = map_codes(model.open(), "w", Shape{130, 1});
  EXPECT_EQ(mapped.scales.data()[0], 0x1p-9f);
  EXPECT_EQ(mapped.scales.data()[1], 4);
}

// The same matrix with scales 2^-3, 2^-2, ... as exponents and as floats.
Model with_scales(bool exponents) {
  Model model;
  model.add_fp8("w", 300, 130, kFp8Block);
  if (exponents) {
    model.specs[1].dtype = DType::kF8E8M0;
    model.bytes[1].resize(6);
  }
  for (size_t i = 0; i < 6; ++i) {
    if (exponents) {
      model.number<uint8_t>(1, i) = uint8_t(124 + i);
    } else {
      model.number<float>(1, i) = std::ldexp(1.0f, int(i) - 3);
    }
  }
  return model;
}

TEST(MapCodes, scales_may_be_exponents) {
  const Model exponents = with_scales(true), floats = with_scales(false);
  const Checkpoint a = exponents.open(), b = floats.open();
  EXPECT_EQ(read(a, "w", {300, 130}), read(b, "w", {300, 130}));
  const MappedCodes mapped = map_codes(a, "w", Shape{300, 130});
  ASSERT_EQ(mapped.scales.size(), 6);
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(mapped.scales.data()[i], std::ldexp(1.0f, int(i) - 3));
  Tensor<float, 2> rows({44, 130});
  read_rows(a, "w", Shape{300, 130}, 256, rows);
  EXPECT_EQ(rows.data()[43 * 130 + 129], read(b, "w", {300, 130}).back());
}

TEST(MapCodes, exponents_that_cannot_be_are_refused) {
  Model bad = with_scales(true);
  bad.number<uint8_t>(1, 3) = 0xff;
  const Checkpoint nan = bad.open();
  EXPECT_ERROR(map_codes(nan, "w", Shape{300, 130}), kFormat,
               "tensor \"w_scale_inv\" at [1, 1] is nan, expected finite numbers");
  EXPECT_ERROR(read(nan, "w", {300, 130}), kFormat, "tensor \"w_scale_inv\" at [1, 1] is nan");
  Model misshapen = with_scales(true);
  misshapen.specs[1].shape = {2, 3};
  EXPECT_ERROR(read(misshapen.open(), "w", {300, 130}), kShape,
               "tensor \"w_scale_inv\" has shape [2, 3], expected [3, 2]");
  Model weight;
  weight.add("w", DType::kF8E8M0, {1, 1}, std::vector<uint8_t>{127});
  EXPECT_ERROR(read(weight.open(), "w", {1, 1}), kFormat, "tensor \"w\" is F8_E8M0, expected F32");
}

TEST(MapCodes, what_read_weight_refuses_is_refused) {
  for (uint8_t code : {0x7f, 0xff}) {
    Model model;
    model.add_fp8("w", 200, 130, kFp8Block);
    model.number<uint8_t>(0, 150 * 130 + 129) = code;
    EXPECT_ERROR(map_codes(model.open(), "w", Shape{200, 130}), kFormat,
                 "tensor \"w\" at [150, 129] is nan");
  }
  for (const float scale : {0.0f, -1.0f, NAN}) {
    Model model;
    model.add_fp8("w", 200, 130, kFp8Block);
    model.number<float>(1, 2) = scale;
    EXPECT_ERROR(map_codes(model.open(), "w", Shape{200, 130}), kFormat,
                 "tensor \"w_scale_inv\" at [1, 0] is");
  }
  Model misshapen;
  misshapen.add_fp8("w", 200, 130, {64, 64});
  EXPECT_ERROR(map_codes(misshapen.open(), "w", Shape{200, 130}), kShape,
               "tensor \"w_scale_inv\" has shape [4, 3], expected [2, 2]");
  // Left to those who look at each number.
  Model large;
  large.add_fp8("w", 2, 2, kFp8Block);
  large.number<float>(1, 0) = 1e38f;
  EXPECT_TRUE(map_codes(large.open(), "w", Shape{2, 2}).codes.empty());
}

TEST(MapWeight, bytes_that_are_not_aligned_are_read_instead) {
  const fs::path folder = scratch_dir();
  // Other writers may leave the header unpadded.
  std::string json = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  while (json.size() % 4 != 1) json += ' ';
  std::string file(8, '\0');
  file[0] = static_cast<char>(json.size());
  const std::array<float, 2> numbers{1.5f, -2.f};
  file += json + std::string(reinterpret_cast<const char*>(numbers.data()), 8);
  write_file_atomically(folder / "model.safetensors", file);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_TRUE(map_weight(checkpoint, "w", Shape{2}, DType::kF32).empty());
  EXPECT_EQ(read(checkpoint, "w", {2}), (std::vector<float>{1.5f, -2.f}));
}

TEST(WriteWeight, what_is_written_is_read_back_rounded_to_its_dtype) {
  const std::vector<float> numbers = random_numbers(150'000, 4);
  const fs::path folder = scratch_dir();
  const Shape shape{300, 500};
  CheckpointWriter writer(
      folder, {{"f", DType::kF32, shape}, {"b", DType::kBF16, shape}, {"h", DType::kF16, shape}});
  for (const char* name : {"b", "h", "f"}) write_weight(writer, name, numbers);
  writer.finish();
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_EQ(read(checkpoint, "f", shape), numbers);
  const std::vector<float> b = read(checkpoint, "b", shape), h = read(checkpoint, "h", shape);
  for (size_t i = 0; i < numbers.size(); ++i) {
    ASSERT_EQ(b[i], to_float(to_bf16(numbers[i])));
    ASSERT_EQ(h[i], to_float(to_fp16(numbers[i])));
  }
}

TEST(WriteWeight, refuses_numbers_that_no_reader_would_take) {
  const fs::path folder = scratch_dir();
  CheckpointWriter writer(folder, {{"f", DType::kF32, {1, 2}},
                                   {"h", DType::kF16, {2}},
                                   {"q", DType::kF8E4M3, {2, 1}},
                                   {"i", DType::kI8, {2}}});
  EXPECT_ERROR(write_weight(writer, "f", std::vector<float>{1, NAN}), kFormat,
               "tensor \"f\" at [0, 1] is nan, expected finite numbers");
  EXPECT_ERROR(write_weight(writer, "h", std::vector<float>{70'000, 1}), kFormat,
               "tensor \"h\" at [0] is 70000, which is infinite in F16");
  EXPECT_ERROR(write_weight(writer, "q", std::vector<float>{1, INFINITY}), kFormat,
               "tensor \"q\" at [1, 0] is inf, expected finite numbers");
  EXPECT_ERROR(write_weight(writer, "q", std::vector<float>{1}), kInternal,
               "1 numbers, expected 2");
  EXPECT_ERROR(write_weight(writer, "i", std::vector<float>{1, 1}), kInternal,
               "was declared as I8, expected F32, BF16, F16 or F8_E4M3");
  EXPECT_ERROR(write_weight(writer, "f", std::vector<float>{1}), kInternal,
               "1 numbers, expected 2");
  EXPECT_ERROR(write_weight(writer, "x", std::vector<float>{1}), kInternal, "was not declared");
}

TEST(WriteWeight, fp8_has_codes_and_scales) {
  const fs::path folder = scratch_dir();
  std::vector<float> numbers(200 * 130);
  Rng rng(3);
  for (float& x : numbers) x = float(rng.normal());
  const std::vector<TensorSpec> specs = weight_specs("w", {200, 130}, DType::kF8E4M3);
  ASSERT_EQ(specs.size(), 2u);
  EXPECT_EQ(specs[1].name, "w_scale_inv");
  EXPECT_EQ(specs[1].shape, (Shape{2, 2}));
  CheckpointWriter writer(folder, specs);
  write_weight(writer, "w", numbers);
  writer.finish();
  const std::vector<float> back = read(Checkpoint::open(folder), "w", {200, 130});
  double worst = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    worst = std::max(
        worst, double(std::abs(back[i] - numbers[i])) / (double(std::abs(numbers[i])) + 0.02));
  }
  EXPECT_LT(worst, 0x1p-4);
  EXPECT_GT(worst, 0x1p-6);
}

}  // namespace
}  // namespace hadal

#include "model/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "model/inspect.h"
#include "model/pretrained.h"
#include "model/weights.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

Pretrained load_as(const fs::path& folder, LoadOptions::Values values) {
  ConfigWarnings warnings;
  LoadOptions options;
  options.values = values;
  Pretrained loaded = load_pretrained(folder, options, warnings);
  EXPECT_THAT(warnings.lines, IsEmpty());
  return loaded;
}

Quantized quantize(const fs::path& in, const fs::path& out, std::string_view format,
                   const QuantizeOptions& options = {}) {
  ConfigWarnings warnings;
  return quantize_model(in, out, find_model_format(format), options, warnings);
}

TEST(Quantize, every_format_holds_what_its_encoding_makes_of_the_numbers) {
  for (const char* name : {"v3_mtp", "llama_gqa", "v3_qlora", "v2_groups", "v3_fp8"}) {
    const Pretrained original = load_as(golden_dir(name), LoadOptions::Values::kF32);
    for (const ModelFormat& format : model_formats()) {
      SCOPED_TRACE(str(name, " ", format.name));
      const fs::path out = scratch_dir() / "out";
      const Quantized result = quantize(golden_dir(name), out, format.name);
      EXPECT_FALSE(fs::exists(out.string() + ".partial"));
      const Checkpoint files = Checkpoint::open(out);
      EXPECT_EQ(result.bytes, files.total_bytes());
      const Pretrained loaded = load_as(out, LoadOptions::Values::kF32);
      for (const Param& p : original.model->params().all()) {
        const Checkpoint source = Checkpoint::open(golden_dir(name));
        const Format& f = format_in(format, p, source.at(p.name).dtype);
        const bool scaled = f.block_bytes == 0 && f.block != BlockShape{};
        std::vector<std::byte> codes(size_t(code_bytes(f, p.rows(), p.cols())));
        const Matrix scales({scaled ? blocks(p.rows(), f.block.rows) : 0,
                             scaled ? blocks(p.cols(), f.block.cols) : 0});
        const In2 x(static_cast<const float*>(p.value), {p.rows(), p.cols()});
        f.encode(x, {codes.data(), scales, f.block});
        Matrix want({p.rows(), p.cols()});
        f.decode({codes.data(), scales, f.block}, want);
        const Param& got = *loaded.model->params().find(p.name);
        EXPECT_TRUE(
            same_bits(want, In2(static_cast<const float*>(got.value), {p.rows(), p.cols()})))
            << p.name;
        EXPECT_EQ(packed_format(files, p.name), f.block_bytes > 0 ? &f : nullptr) << p.name;
      }
    }
  }
}

TEST(Quantize, int4_keeps_attention_shared_experts_and_head_at_int8) {
  const Pretrained model = load_as(golden_dir("v3_mtp"), LoadOptions::Values::kF32);
  for (const Param& p : model.model->params().all()) {
    const auto in = [&](const char* format) {
      return std::string(format_in(find_model_format(format), p, DType::kF32).name);
    };
    const bool matrix = p.shape.size() == 2;
    const auto has = [&](const char* part) { return p.name.find(part) != std::string::npos; };
    std::string want = "fp32";
    if (has("kv_b_proj") || has("embed_tokens")) {
      want = "bf16";
    } else if (p.expert || (has(".mlp.") && !has("shared_experts") && !has(".gate."))) {
      want = "int4";
    } else if (matrix && !has(".gate.")) {
      want = "int8";
    }
    EXPECT_EQ(in("int4"), want) << p.name;
    EXPECT_EQ(in("int4-uniform"), want == "int8" ? "int4" : want) << p.name;
    EXPECT_EQ(in("int8"), want == "int4" ? "int8" : want) << p.name;
  }
}

TEST(Quantize, config_says_what_the_folder_is) {
  for (const char* format : {"int8", "int4", "int4-uniform"}) {
    const fs::path out = scratch_dir() / "out";
    quantize(golden_dir("v3_plain"), out, format);
    const Json json = parse_json(read_file(out / "config.json"), "config");
    EXPECT_EQ(json["quantization_config"]["quant_method"], "hadal");
    EXPECT_EQ(json["quantization_config"]["format"], format);
    ConfigWarnings warnings;
    EXPECT_EQ(load_config(out, warnings).hadal_format, format);
    EXPECT_THAT(warnings.lines, IsEmpty());
    const fs::path back = scratch_dir() / "back";
    quantize(out, back, "bf16");
    EXPECT_EQ(load_config(back, warnings).hadal_format, "");
  }
}

TEST(Quantize, leaves_nothing_when_it_stops) {
  const fs::path home = scratch_dir(), out = home / "out";
  int64_t calls = 0;
  QuantizeOptions options;
  options.progress = [&](int64_t, int64_t) { return ++calls < 5; };
  EXPECT_ERROR(quantize(golden_dir("v3_plain"), out, "int8", options), kUsage, "stopped");
  EXPECT_TRUE(fs::is_empty(home));
  // A killed one leaves its unfinished folder, which the next call removes.
  fs::create_directories(home / "out.partial");
  write_file_atomically(home / "out.partial/model.safetensors", "half");
  quantize(golden_dir("v3_plain"), out, "int8");
  load_as(out, LoadOptions::Values::kStored);
  EXPECT_FALSE(fs::exists(home / "out.partial"));
  EXPECT_ERROR(quantize(golden_dir("v3_plain"), out, "int8"), kUsage, "exists already");
  EXPECT_ERROR(find_model_format("int3"), kUsage, "expected one of fp32, bf16, fp16, fp8, int8");
}

TEST(Quantize, progress_grows_to_all_bytes) {
  int64_t last = 0, total = 0;
  QuantizeOptions options;
  options.progress = [&](int64_t done, int64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
    return true;
  };
  const Quantized result = quantize(golden_dir("v3_plain"), scratch_dir() / "out", "int4", options);
  EXPECT_EQ(last, result.bytes);
  EXPECT_EQ(total, result.bytes);
}

TEST(Quantize, inspect_foretells_the_bytes) {
  const Pretrained model = load_as(golden_dir("v3_mtp"), LoadOptions::Values::kF32);
  const Inspection x = inspect_model(model.model->config());
  ASSERT_EQ(x.own_formats.size(), 3u);
  const fs::path plain = scratch_dir() / "plain";
  quantize(golden_dir("v3_mtp"), plain, "bf16");
  for (const Inspection::OwnFormat& f : x.own_formats) {
    const Quantized got = quantize(plain, scratch_dir() / "out", f.name);
    EXPECT_EQ(got.bytes, f.bytes) << f.name;
    EXPECT_DOUBLE_EQ(got.bits_per_weight(), f.bits_per_weight);
  }
}

// Panels of a file that somebody else wrote.
TEST(Quantize, broken_panels_are_refused) {
  const fs::path out = scratch_dir() / "out";
  quantize(golden_dir("v3_plain"), out, "int8");
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const std::vector<int64_t> shape = [&] {
    const Pretrained model = load_as(out, LoadOptions::Values::kF32);
    return model.model->params().find(name)->shape;
  }();
  {
    const Checkpoint files = Checkpoint::open(out);
    std::vector<float> numbers(size_t(2 * shape[0] * shape[1]));
    EXPECT_ERROR(read_weight(files, name, std::vector<int64_t>{2 * shape[0], shape[1]}, numbers),
                 kShape, "for int8 of");
    EXPECT_ERROR(map_panels(files, name, std::vector<int64_t>{shape[0], 2 * shape[1]}), kShape,
                 "for int8 of");
  }
  const Checkpoint files = Checkpoint::open(out);
  std::vector<TensorSpec> specs;
  for (const std::string& n : files.names()) specs.push_back(files.at(n));
  const fs::path broken = scratch_dir();
  CheckpointWriter writer(broken, specs);
  for (const std::string& n : files.names()) {
    std::vector<std::byte> bytes(files.view(n).begin(), files.view(n).end());
    if (n == name) bytes[1] = std::byte{0x7f}, bytes[0] = std::byte{0xc0};  // NaN
    writer.write(n, bytes);
  }
  writer.finish();
  fs::copy(out / "config.json", broken / "config.json");
  EXPECT_ERROR(load_as(broken, LoadOptions::Values::kStored), kFormat, name);
  EXPECT_ERROR(load_as(broken, LoadOptions::Values::kF32), kFormat, name);
}

}  // namespace
}  // namespace hadal

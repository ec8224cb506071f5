#include "model/pretrained.h"

#include <gmock/gmock.h>

#include <cstring>
#include <set>

#include "core/files.h"
#include "model/weights.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Values = LoadOptions::Values;

// A golden folder that can be written to.
fs::path copy_of(const std::string& name) {
  const fs::path folder = scratch_dir();
  for (const auto& entry : fs::directory_iterator(golden_dir(name))) {
    if (entry.path().filename() == "golden.safetensors") continue;
    fs::copy_file(entry.path(), folder / entry.path().filename());
  }
  return folder;
}

Pretrained load(const fs::path& folder, const LoadOptions& options = {},
                std::vector<std::string>* lines = nullptr) {
  ConfigWarnings warnings;
  Pretrained loaded = load_pretrained(folder, options, warnings);
  if (lines != nullptr) *lines = warnings.lines;
  return loaded;
}

std::vector<float> floats(const Param& p) {
  std::vector<float> out(static_cast<size_t>(p.size()));
  EncodedIn held{static_cast<const std::byte*>(p.value), {}, {}};
  if (p.code_scales != nullptr) {
    held.block = kFp8Block;
    held.scales = In2(p.code_scales, {blocks(p.rows(), 128), blocks(p.cols(), 128)});
  }
  format_of(p.dtype)->decode(held, {out.data(), {p.rows(), p.cols()}});
  return out;
}

// Rewrites a folder's weights: edit may change, add or drop tensors.
struct Tensor32 {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
void rewrite(const fs::path& folder,
             const std::function<void(std::map<std::string, Tensor32>&)>& edit) {
  std::map<std::string, Tensor32> tensors;
  {
    const Checkpoint checkpoint = Checkpoint::open(folder);
    for (const std::string& name : checkpoint.names()) {
      const TensorInfo& info = checkpoint.at(name);
      Tensor32& t = tensors[name];
      t.shape = info.shape;
      t.values.resize(static_cast<size_t>(info.size()));
      read_weight(checkpoint, name, t.shape, std::span(t.values));
    }
  }
  edit(tensors);
  std::vector<TensorSpec> specs;
  for (const auto& [name, t] : tensors) specs.push_back({name, DType::kF32, t.shape});
  SafetensorsWriter writer(folder / "model.safetensors", specs);
  for (const auto& [name, t] : tensors) {
    writer.write(name, std::as_bytes(std::span(t.values)));
  }
  writer.finish();
}

bool small_group(const Param& p) {
  return p.group == ParamGroup::kNorm || p.group == ParamGroup::kBias ||
         p.group == ParamGroup::kRouter || p.group == ParamGroup::kRouterBias;
}

// Every golden folder loads in every way, and each number is the file's.
TEST(Pretrained, LoadsEveryGoldenFolder) {
  int folders = 0;
  for (const auto& entry : fs::directory_iterator(source_dir() / "tests/golden")) {
    if (!entry.is_directory()) continue;
    ++folders;
    SCOPED_TRACE(entry.path().filename().string());
    const Checkpoint checkpoint = Checkpoint::open(entry.path());
    for (const LoadOptions& options :
         {LoadOptions{Values::kStored}, LoadOptions{Values::kF32}, LoadOptions{Values::kBF16},
          LoadOptions{Values::kF32, true}}) {
      std::vector<std::string> lines;
      const Pretrained loaded = load(entry.path(), options, &lines);
      const std::string name = entry.path().filename().string();
      if (name == "v3_plain") {
        EXPECT_THAT(lines, ElementsAre(HasSubstr("announces 1 multi-token prediction modules, the "
                                                 "weights hold 0")));
      } else {
        EXPECT_THAT(lines, IsEmpty());
      }
      size_t used = 0;
      for (const Param& p : loaded.model->params().all()) {
        SCOPED_TRACE(p.name);
        std::vector<float> want(static_cast<size_t>(p.size()));
        read_weight(checkpoint, p.name, p.shape, std::span(want));
        const bool narrow = options.values == Values::kBF16 && !small_group(p);
        if (narrow) {
          for (float& x : want) x = to_float(to_bf16(x));
        }
        EXPECT_EQ(floats(p), want);
        const DType stored = checkpoint.at(p.name).dtype;
        const bool keeps = options.values == Values::kStored && !small_group(p);
        EXPECT_EQ(p.dtype, keeps ? stored : narrow ? DType::kBF16 : DType::kF32);
        EXPECT_EQ(p.code_scales != nullptr, p.dtype == DType::kF8E4M3);
        EXPECT_EQ(p.gradient != nullptr, options.training && p.group != ParamGroup::kRouterBias);
        ++used;
      }
      EXPECT_GT(used, 10u);
      EXPECT_TRUE(!options.training || loaded.files == nullptr);
      const auto in_place = [&](const Param& p) {
        return loaded.files != nullptr && p.value == loaded.files->view(p.name).data();
      };
      EXPECT_EQ(std::ranges::any_of(loaded.model->params().all(), in_place),
                loaded.files != nullptr);
      loaded.check_intact();
    }
  }
  EXPECT_GE(folders, 30);
}

TEST(Pretrained, UsesMappedNumbersInPlace) {
  const Pretrained loaded = load(golden_dir("v3_plain"));
  ASSERT_NE(loaded.files, nullptr);
  int mapped = 0;
  for (const Param& p : loaded.model->params().all()) {
    const auto bytes = loaded.files->view(p.name);
    const bool in_file = p.value == bytes.data();
    EXPECT_EQ(in_file, !small_group(p) || p.group == ParamGroup::kRouterBias) << p.name;
    mapped += in_file ? 1 : 0;
  }
  EXPECT_GT(mapped, 20);
  // Nothing is in place when all of it has to be converted.
  EXPECT_EQ(load(golden_dir("v3_dense_only"), {Values::kBF16}).files, nullptr);
  EXPECT_EQ(load(golden_dir("v3_plain"), {Values::kStored, true}).files, nullptr);
}

TEST(Pretrained, TakesNoMemoryForFp8CodesButTheirScales) {
  const Pretrained loaded = load(golden_dir("v3_fp8"));
  int64_t codes = 0;
  for (const Param& p : loaded.model->params().all()) {
    if (!p.fp8_matrix()) continue;
    EXPECT_EQ(p.dtype, DType::kF8E4M3) << p.name;
    EXPECT_EQ(p.value, loaded.files->view(p.name).data()) << p.name;
    EXPECT_EQ(p.value_bytes(), p.size() + 4 * loaded.files->at(p.name + "_scale_inv").size());
    ++codes;
  }
  EXPECT_GT(codes, 10);
  // What is FP32 when it is held: norms, biases, routers.
  int64_t widened = 0;
  for (const Param& p : loaded.model->params().all()) {
    if (!small_group(p)) continue;
    widened += p.value_bytes() - p.size() * dtype_size(loaded.files->at(p.name).dtype);
  }
  EXPECT_EQ(loaded.model->params().value_bytes(), loaded.files->total_bytes() + widened);
}

TEST(Pretrained, WidensFp8InOtherBlocks) {
  const fs::path folder = copy_of("v3_fp8");
  std::string config = read_file(folder / "config.json");
  const size_t at = config.find("128,");
  ASSERT_NE(at, std::string::npos);
  config.replace(at, 3, "256");
  write_file_atomically(folder / "config.json", config);
  // Scales of 128 rows then do not fit, which is said as ever.
  EXPECT_ERROR(load(folder), kShape, "_scale_inv");
}

TEST(Pretrained, KeepsMappedFilesAlive) {
  std::unique_ptr<Transformer> model = load(golden_dir("v3_moe_only")).model;
  const Checkpoint checkpoint = Checkpoint::open(golden_dir("v3_moe_only"));
  const Param& p = model->params().all().front();
  std::vector<float> want(static_cast<size_t>(p.size()));
  read_weight(checkpoint, p.name, p.shape, std::span(want));
  EXPECT_EQ(floats(p), want);
}

TEST(Pretrained, LoadsMultiTokenPredictionWithAndWithoutCopies) {
  EXPECT_EQ(load(golden_dir("v3_mtp")).model->mtp_depth(), 1);
  EXPECT_EQ(load(golden_dir("v3_mtp2")).model->mtp_depth(), 2);
  EXPECT_EQ(load(golden_dir("v3_plain")).model->mtp_depth(), 0);
  // The second of two modules is missing.
  const fs::path folder = copy_of("v3_mtp2");
  rewrite(folder, [](auto& tensors) {
    std::erase_if(tensors, [](const auto& t) { return t.first.starts_with("model.layers.2."); });
  });
  std::vector<std::string> lines;
  EXPECT_EQ(load(folder, {}, &lines).model->mtp_depth(), 1);
  EXPECT_THAT(lines, ElementsAre(HasSubstr("announces 2 multi-token prediction modules, the "
                                           "weights hold 1")));
  // Part of one is an error.
  rewrite(folder, [](auto& tensors) { tensors.erase("model.layers.1.eh_proj.weight"); });
  EXPECT_ERROR(load(folder), kFormat,
               "tensors are missing, the first is \"model.layers.1.eh_proj.weight\"");
}

TEST(Pretrained, SaysWhichCopyDiffers) {
  const fs::path folder = copy_of("v3_mtp");
  rewrite(folder, [](auto& tensors) {
    tensors.at("model.layers.2.embed_tokens.weight").values[3] += 1;
    tensors.at("model.layers.2.shared_head.head.weight").values[5] += 1;
  });
  std::vector<std::string> lines;
  load(folder, {}, &lines);
  EXPECT_THAT(lines,
              ElementsAre(HasSubstr("\"model.layers.2.embed_tokens.weight\" is not the same as "
                                    "\"model.embed_tokens.weight\", which is used instead"),
                          HasSubstr("\"model.layers.2.shared_head.head.weight\" is not the same as "
                                    "\"lm_head.weight\"")));
}

TEST(Pretrained, TiesTheHeadWithOrWithoutACopy) {
  const fs::path folder = copy_of("v3_tied");
  std::vector<std::string> lines;
  const Pretrained loaded = load(folder, {}, &lines);
  EXPECT_EQ(loaded.model->params().find("lm_head.weight"), nullptr);
  rewrite(folder, [](auto& t) { t["lm_head.weight"] = t["model.embed_tokens.weight"]; });
  load(folder, {}, &lines);
  EXPECT_THAT(lines, IsEmpty());
  rewrite(folder, [](auto& t) { t["lm_head.weight"].values[0] += 1; });
  load(folder, {}, &lines);
  EXPECT_THAT(lines, ElementsAre(HasSubstr("\"lm_head.weight\" is not the same as")));
  rewrite(folder, [](auto& t) { t.erase("model.embed_tokens.weight"); });
  EXPECT_ERROR(load(folder), kFormat, "the first is \"model.embed_tokens.weight\"");
  // The other way round: not tied, and no head.
  const fs::path untied = copy_of("v3_plain");
  rewrite(untied, [](auto& t) { t.erase("lm_head.weight"), t.erase("model.norm.weight"); });
  EXPECT_ERROR(load(untied), kFormat, "2 of ");
  rewrite(untied, [](auto& t) { t["model.norm.weight"] = {{28}, std::vector<float>(28, 1)}; });
  EXPECT_ERROR(load(untied), kFormat, "\"lm_head.weight\" (tie_word_embeddings is false)");
}

TEST(Pretrained, NamesStrangersOnce) {
  const fs::path folder = copy_of("llama_gqa");
  rewrite(folder, [](auto& tensors) {
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{2}, {1, 2}};  // old files have it
    tensors["banana"] = {{1}, {1}};
    tensors["model.layers.9.mlp.up_proj.weight"] = {{1}, {1}};
  });
  std::vector<std::string> lines;
  load(folder, {}, &lines);
  EXPECT_THAT(lines, ElementsAre(HasSubstr("2 tensors that the model does not know are ignored: "
                                           "\"banana\", \"model.layers.9.mlp.up_proj.weight\"")));
  rewrite(folder, [](auto& tensors) {
    for (int i = 0; i < 50; ++i) tensors[str("extra.", i)] = {{1}, {1}};
  });
  load(folder, {}, &lines);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("52 tensors"));
  EXPECT_TRUE(lines[0].ends_with(", ..."));
}

TEST(Pretrained, RefusesBrokenWeights) {
  for (const LoadOptions& options :
       {LoadOptions{}, LoadOptions{Values::kBF16}, LoadOptions{Values::kF32, true}}) {
    const fs::path folder = copy_of("llama_gqa");
    rewrite(folder,
            [](auto& t) { t["model.layers.1.mlp.up_proj.weight"].values[7] = std::nanf(""); });
    EXPECT_ERROR(load(folder, options), kFormat, "\"model.layers.1.mlp.up_proj.weight\"");
  }
  const fs::path folder = copy_of("llama_gqa");
  rewrite(folder, [](auto& t) {
    auto& shape = t["model.layers.1.mlp.up_proj.weight"].shape;
    std::swap(shape[0], shape[1]);
  });
  EXPECT_ERROR(load(folder), kShape, "has shape [24, 26], expected [26, 24]");
}

TEST(Pretrained, SavesAndLoadsTheSameBits) {
  for (const char* name : {"v3_mtp", "v3_mtp2", "v3_qlora", "v2_groups", "olmo2_gqa",
                           "llama_biases", "v3_tied", "v3_dense_only"}) {
    SCOPED_TRACE(name);
    ConfigWarnings warnings;
    Transformer model(load_config(golden_dir(name), warnings));
    model.params().allocate_training();
    model.params().initialise(7, 0.02);
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const fs::path folder = scratch_dir();
      save_pretrained(model, folder, {dtype});
      std::vector<std::string> lines;
      const Pretrained loaded = load(folder, {Values::kF32}, &lines);
      EXPECT_THAT(lines, IsEmpty());
      EXPECT_EQ(loaded.model->config().dtype, dtype);
      ModelConfig same = loaded.model->config();
      same.dtype = model.config().dtype;
      EXPECT_EQ(same, model.config());
      for (const Param& p : model.params().all()) {
        std::vector<float> want = floats(p);
        if (p.group != ParamGroup::kRouterBias && dtype != DType::kF32) {
          for (float& x : want) {
            x = dtype == DType::kBF16 ? to_float(to_bf16(x)) : to_float(to_fp16(x));
          }
        }
        EXPECT_EQ(floats(*loaded.model->params().find(p.name)), want) << p.name;
      }
      // What was loaded as it is stored is written back as the same bytes.
      const fs::path again = scratch_dir();
      save_pretrained(*load(folder).model, again, {dtype});
      EXPECT_EQ(read_file(again / "model.safetensors"), read_file(folder / "model.safetensors"));
      EXPECT_EQ(read_file(again / "config.json"), read_file(folder / "config.json"));
    }
  }
}

TEST(Pretrained, WritesTheReleasedLayout) {
  const fs::path folder = scratch_dir();
  save_pretrained(*load(golden_dir("v3_mtp")).model, folder, {DType::kBF16});
  const Checkpoint written = Checkpoint::open(folder),
                   original = Checkpoint::open(golden_dir("v3_mtp"));
  EXPECT_EQ(written.names(), original.names());
  for (const std::string& name : written.names()) {
    EXPECT_EQ(written.at(name).dtype, original.at(name).dtype) << name;
    EXPECT_EQ(written.at(name).shape, original.at(name).shape) << name;
    EXPECT_TRUE(std::ranges::equal(written.view(name), original.view(name))) << name;
  }
  EXPECT_TRUE(fs::exists(folder / "generation_config.json"));
}

TEST(Pretrained, DropsFp8WhenSaving) {
  const fs::path folder = scratch_dir();
  const Pretrained loaded = load(golden_dir("v3_fp8"));
  save_pretrained(*loaded.model, folder);
  const Pretrained again = load(folder);
  EXPECT_THAT(again.model->config().weight_block_size, IsEmpty());
  for (const Param& p : loaded.model->params().all()) {
    EXPECT_EQ(floats(*again.model->params().find(p.name)), floats(p)) << p.name;
  }
}

TEST(Pretrained, WritesShards) {
  const fs::path folder = scratch_dir();
  const Pretrained loaded = load(golden_dir("v3_plain"));
  save_pretrained(*loaded.model, folder, {DType::kF32, 16 << 10});
  EXPECT_TRUE(fs::exists(folder / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
  const Pretrained again = load(folder);
  for (const Param& p : loaded.model->params().all()) {
    EXPECT_EQ(floats(*again.model->params().find(p.name)), floats(p)) << p.name;
  }
}

TEST(Pretrained, CopiesTokenizerFiles) {
  const fs::path source = scratch_dir(), folder = scratch_dir();
  write_file_atomically(source / "tokenizer.json", "{}");
  write_file_atomically(source / "tokenizer_config.json", "{\"a\": 1}");
  write_file_atomically(source / "notes.txt", "no");
  const Pretrained loaded = load(golden_dir("llama_gqa"));
  save_pretrained(*loaded.model, folder, {.tokenizer = source});
  EXPECT_EQ(read_file(folder / "tokenizer.json"), "{}");
  EXPECT_EQ(read_file(folder / "tokenizer_config.json"), "{\"a\": 1}");
  EXPECT_FALSE(fs::exists(folder / "notes.txt"));
  const fs::path other = scratch_dir();
  save_pretrained(*loaded.model, other, {.tokenizer = source / "tokenizer.json"});
  EXPECT_EQ(read_file(other / "tokenizer.json"), "{}");
  // Saved over itself.
  save_pretrained(*loaded.model, other, {.tokenizer = other});
  EXPECT_EQ(read_file(other / "tokenizer.json"), "{}");
  EXPECT_ERROR(save_pretrained(*loaded.model, other, {.tokenizer = source / "none"}), kIo, "none");
}

TEST(Pretrained, LeavesNothingThatLoadsWhenItIsInterrupted) {
  const fs::path folder = scratch_dir();
  Pretrained loaded = load(golden_dir("llama_gqa"), {Values::kF32, true});
  save_pretrained(*loaded.model, folder);
  // A number that F16 cannot hold stops the writing before the old model is touched.
  loaded.model->params().all().back().vec_mut().data()[0] = 1e6f;
  const std::string before = read_file(folder / "model.safetensors");
  EXPECT_ERROR(save_pretrained(*loaded.model, folder, {DType::kF16}), kFormat, "infinite in F16");
  EXPECT_EQ(read_file(folder / "model.safetensors"), before);
  load(folder);
  // Something in the way of the tokenizer: weights are new, config.json is gone.
  EXPECT_ERROR(save_pretrained(*loaded.model, folder, {.tokenizer = folder / "none"}), kIo, "none");
  EXPECT_ERROR(load(folder), kIo, "config.json");
  EXPECT_ERROR(save_pretrained(*loaded.model, folder, {DType::kI8}), kUsage, "not I8");
}

}  // namespace
}  // namespace hadal

#include "model/pretrained.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "core/files.h"
#include "model/weights.h"

namespace hadal {
namespace {

constexpr size_t kNamedTensors = 10;
constexpr int64_t kMaxTokenizerBytes = int64_t{1} << 30;
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

std::string layer_prefix(int64_t layer) {
  return str("model.layers.", layer, ".");
}

// Copies of the embedding and the head that released files hold in each MTP layer.
std::string embedding_copy(int64_t layer) {
  return layer_prefix(layer) + "embed_tokens.weight";
}

std::string head_copy(int64_t layer) {
  return layer_prefix(layer) + "shared_head.head.weight";
}

const char* head_name(const ModelConfig& config) {
  return config.tie_word_embeddings ? kEmbedding : kHead;
}

// ---- loading

DType held_as(const Param& p, const LoadOptions& options, DType stored) {
  using Values = LoadOptions::Values;
  if (p.always_f32() || options.values == Values::kF32) return DType::kF32;
  if (options.values == Values::kBF16) return DType::kBF16;
  return stored == DType::kBF16 || stored == DType::kF16 ? stored : DType::kF32;
}

void read_into(const Param& p, const Checkpoint& checkpoint, BlockShape block) {
  const auto size = static_cast<size_t>(p.size());
  if (p.dtype == DType::kBF16) {
    read_weight(checkpoint, p.name, p.shape, std::span(static_cast<bf16*>(p.value), size), block);
  } else {
    read_weight(checkpoint, p.name, p.shape, std::span(static_cast<float*>(p.value), size), block);
  }
}

void check_complete(const Transformer& model, const Checkpoint& checkpoint) {
  int64_t missing = 0;
  const Param* first = nullptr;
  for (const Param& p : model.params().all()) {
    if (checkpoint.contains(p.name)) continue;
    if (missing++ == 0) first = &p;
  }
  if (missing == 0) return;
  throw Error(ErrorKind::kFormat,
              str(checkpoint.folder().string(), ": ", missing, " of ", model.params().all().size(),
                  " tensors are missing, the first is \"", first->name, "\"",
                  first->name == kHead ? " (tie_word_embeddings is false)" : ""));
}

bool same_tensor(const Checkpoint& checkpoint, const std::string& a, const std::string& b) {
  const TensorInfo *x = checkpoint.find(a), *y = checkpoint.find(b);
  if (y == nullptr || x->dtype != y->dtype || x->shape != y->shape) return false;
  return std::ranges::equal(checkpoint.view(a), checkpoint.view(b));
}

// Names the tensors that nothing in the model uses; copies and caches are known.
void report_strangers(const Transformer& model, const Checkpoint& checkpoint,
                      ConfigWarnings& warnings) {
  const ModelConfig& config = model.config();
  std::map<std::string, std::string> copies;  // to the original
  if (config.tie_word_embeddings) copies[kHead] = kEmbedding;
  for (int64_t d = 0; d < config.num_nextn_predict_layers; ++d) {
    copies[embedding_copy(config.num_hidden_layers + d)] = kEmbedding;
    copies[head_copy(config.num_hidden_layers + d)] = head_name(config);
  }
  std::set<std::string> known;
  for (const Param& p : model.params().all()) {
    known.insert(p.name);
    known.insert(p.name + "_scale_inv");
  }
  std::vector<std::string> strangers;
  for (const std::string& name : checkpoint.names()) {
    if (known.contains(name) || name.ends_with("rotary_emb.inv_freq")) continue;
    const auto copy = copies.find(name);
    if (copy == copies.end()) {
      strangers.push_back(name);
    } else if (!same_tensor(checkpoint, name, copy->second)) {
      warnings.lines.push_back(str(checkpoint.where(name), " is not the same as \"", copy->second,
                                   "\", which is used instead"));
    }
  }
  if (strangers.empty()) return;
  std::string line = str(checkpoint.folder().string(), ": ", strangers.size(),
                         " tensors that the model does not know are ignored: ");
  for (size_t i = 0; i < std::min(strangers.size(), kNamedTensors); ++i) {
    line += (i == 0 ? "" : ", ") + json_brief(Json(strangers[i]));
  }
  warnings.lines.push_back(line + (strangers.size() > kNamedTensors ? ", ..." : ""));
}

// How p's value is to be held.
void choose_form(Param& p, const Checkpoint& checkpoint, const LoadOptions& options,
                 BlockShape block) {
  const bool as_stored = options.values == LoadOptions::Values::kStored;
  const Format* packed = packed_format(checkpoint, p.name);
  const DType stored = checkpoint.at(p.name).dtype;
  const bool panels = as_stored && packed != nullptr && p.packable();
  const bool codes = as_stored && stored == DType::kF8E4M3 && p.holds_codes() && block == kFp8Block;
  p.dtype = panels || codes ? stored : held_as(p, options, stored);
  p.block_bytes = panels ? packed->block_bytes : 0;
  p.code_scales = nullptr;
}

// The mapped bytes of p's value; none where it has to be copied.
std::span<const std::byte> map_value(Param& p, const Checkpoint& checkpoint,
                                     const LoadOptions& options,
                                     std::vector<Tensor<float, 2>>& scales) {
  if (p.block_bytes > 0) return map_panels(checkpoint, p.name, p.shape);
  const Check check = options.allow_paging ? Check::kSome : Check::kAll;
  if (p.dtype == DType::kF8E4M3) {
    MappedCodes mapped = map_codes(checkpoint, p.name, p.shape, check);
    if (!mapped.codes.empty()) {
      p.code_scales = mapped.scales.data();
      scales.push_back(std::move(mapped.scales));
      return mapped.codes;
    }
    p.dtype = DType::kF32;
  }
  return map_weight(checkpoint, p.name, p.shape, p.dtype, check);
}

void check_paged(const Param& p, const Checkpoint& checkpoint) {
  HADAL_CHECK(p.always_f32(), kResource, checkpoint.where(p.name), " is ",
              dtype_name(checkpoint.at(p.name).dtype), " and would be copied as ",
              dtype_name(p.dtype), " into ", p.value_bytes(),
              " bytes of memory; --allow-paging takes only weights that can be used as they are "
              "stored");
}

// For all parameters; Error{kResource} where they and what else serving takes are too much.
void choose_forms(Transformer& model, const Checkpoint& checkpoint, const LoadOptions& options) {
  const BlockShape block = stored_fp8_block(model.config());
  for (Param& p : model.params().all()) choose_form(p, checkpoint, options, block);
  if (!options.serving || options.allow_paging) return;
  using Values = LoadOptions::Values;
  const std::string_view format = options.values == Values::kF32 ? "fp32"
                                  : options.values == Values::kBF16
                                      ? "bf16"
                                      : stored_format(model.config()).name;
  check_memory(plan_memory(model, format, *options.serving),
               options.machine ? *options.machine : machine_memory(), checkpoint.folder().string(),
               "with --allow-paging it runs from its files, at the speed of the disk");
}

// Uses what can be used in place, and copies the rest into one block. Returns whether any is used.
bool map_or_copy(Transformer& model, const std::shared_ptr<const Checkpoint>& checkpoint,
                 const LoadOptions& options) {
  std::vector<Param*> copied;
  const auto scales = std::make_shared<std::vector<Tensor<float, 2>>>();
  const BlockShape fp8_block = stored_fp8_block(model.config());
  choose_forms(model, *checkpoint, options);
  int64_t bytes = 0;
  for (Param& p : model.params().all()) {
    const std::span<const std::byte> mapped = map_value(p, *checkpoint, options, *scales);
    // Mapped pages are read-only; nothing writes values but training, which has its own.
    p.value = const_cast<std::byte*>(mapped.data());
    p.paged = options.allow_paging && !mapped.empty();
    if (!mapped.empty()) continue;
    if (options.allow_paging) check_paged(p, *checkpoint);
    copied.push_back(&p);
    bytes += whole_lines(p.value_bytes());
  }
  model.params().keep(scales);
  const auto block = std::make_shared<Buffer>(bytes);
  std::byte* next = block->data();
  for (Param* p : copied) {
    p->value = next;
    next += whole_lines(p->value_bytes());
    read_into(*p, *checkpoint, fp8_block);
  }
  model.params().keep(block);
  const bool any_mapped = copied.size() < model.params().all().size();
  if (any_mapped) model.params().keep(checkpoint);
  return any_mapped;
}

// ---- saving

DType stored_as(const Param& p, DType dtype) {
  if (dtype == DType::kF8E4M3) return p.fp8_matrix() ? dtype : DType::kF32;
  return p.group == ParamGroup::kRouterBias ? DType::kF32 : dtype;
}

// A tensor of the folder and the parameter it holds: MTP layers hold some twice.
struct Entry {
  std::string name;
  const Param* param;
};

std::vector<Entry> entries_of(const Transformer& model) {
  const ModelConfig& config = model.config();
  std::vector<Entry> entries;
  const Param *embedding = nullptr, *head = nullptr;
  for (const Param& p : model.params().all()) {
    entries.push_back({p.name, &p});
    if (p.name == kEmbedding) embedding = &p;
    if (p.name == head_name(config)) head = &p;
  }
  for (int64_t d = 0; d < config.num_nextn_predict_layers; ++d) {
    entries.push_back({embedding_copy(config.num_hidden_layers + d), embedding});
    entries.push_back({head_copy(config.num_hidden_layers + d), head});
  }
  return entries;
}

void write_entry(CheckpointWriter& writer, const Entry& entry) {
  const Param& p = *entry.param;
  HADAL_CHECK(p.value != nullptr, kInternal, "parameter ", p.name, " has no value to save");
  const auto size = static_cast<size_t>(p.size());
  HADAL_CHECK(p.block_bytes == 0, kUsage, "parameter ", p.name,
              " is held in panels, expected numbers: load the model as FP32");
  if (p.dtype == DType::kF32) {
    return write_weight(writer, entry.name, std::span(static_cast<const float*>(p.value), size));
  }
  std::vector<float> floats(size);
  EncodedIn held{static_cast<const std::byte*>(p.value), {}, {}};
  if (p.code_scales != nullptr) {
    const int64_t across = blocks(p.cols(), kFp8Block.cols);
    held.scales = In2(p.code_scales, {p.scale_count() / across, across});
    held.block = kFp8Block;
  }
  format_of(p.dtype)->decode(held, {floats.data(), {p.rows(), p.cols()}});
  write_weight(writer, entry.name, floats);
}

void write_json(const fs::path& path, const OrderedJson& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

}  // namespace

int64_t stored_modules(const ModelConfig& config, const Checkpoint& checkpoint) {
  const std::vector<std::string> names = checkpoint.names();
  for (int64_t d = 0; d < config.num_nextn_predict_layers; ++d) {
    const std::string prefix = layer_prefix(config.num_hidden_layers + d);
    const auto at = std::ranges::lower_bound(names, prefix);
    if (at == names.end() || !at->starts_with(prefix)) return d;
  }
  return config.num_nextn_predict_layers;
}

BlockShape stored_fp8_block(const ModelConfig& config) {
  if (config.weight_block_size.empty()) return kFp8Block;
  return {config.weight_block_size[0], config.weight_block_size[1]};
}

void check_tensors(const Transformer& model, const Checkpoint& checkpoint,
                   ConfigWarnings& warnings) {
  check_complete(model, checkpoint);
  report_strangers(model, checkpoint, warnings);
}

void write_model_files(const ModelConfig& config, const fs::path& tokenizer,
                       const fs::path& folder) {
  write_json(folder / "generation_config.json", generation_config_json(config));
  std::error_code ignored;
  if (fs::exists(tokenizer / "tokenizer.json", ignored)) copy_tokenizer_files(tokenizer, folder);
  write_json(folder / "config.json", config_json(config));
}

bool load_weights(Transformer& model, const std::shared_ptr<const Checkpoint>& checkpoint,
                  const LoadOptions& options, ConfigWarnings& warnings) {
  check_complete(model, *checkpoint);
  bool mapped = false;
  if (options.training) {
    model.params().allocate_training();
    for (Param& p : model.params().all())
      read_into(p, *checkpoint, stored_fp8_block(model.config()));
  } else {
    mapped = map_or_copy(model, checkpoint, options);
  }
  report_strangers(model, *checkpoint, warnings);
  checkpoint->check_intact();
  return mapped;
}

Pretrained load_pretrained(const fs::path& folder, const LoadOptions& options,
                           ConfigWarnings& warnings) {
  ModelConfig config = load_config(folder, warnings);
  auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(folder));
  const int64_t modules = stored_modules(config, *checkpoint);
  if (modules < config.num_nextn_predict_layers) {
    warnings.lines.push_back(str(folder.string(), ": config.json announces ",
                                 config.num_nextn_predict_layers,
                                 " multi-token prediction modules, the weights hold ", modules));
    config.num_nextn_predict_layers = modules;
  }
  Pretrained loaded{std::make_unique<Transformer>(config), nullptr};
  if (load_weights(*loaded.model, checkpoint, options, warnings)) loaded.files = checkpoint;
  return loaded;
}

void save_pretrained(const Transformer& model, const fs::path& folder, const SaveOptions& options) {
  const bool fp8 = options.dtype == DType::kF8E4M3;
  HADAL_CHECK(fp8 || options.dtype == DType::kF32 || options.dtype == DType::kBF16 ||
                  options.dtype == DType::kF16,
              kUsage, "models are saved as F32, BF16, F16 or F8_E4M3, not ",
              dtype_name(options.dtype));
  ModelConfig config = model.config();
  config.dtype = fp8 ? DType::kF32 : options.dtype;
  config.weight_block_size.clear();
  if (fp8) config.weight_block_size = {kFp8Block.rows, kFp8Block.cols};
  config.scale_fmt.clear();
  config.hadal_format.clear();
  const OrderedJson json = config_json(config);

  const std::vector<Entry> entries = entries_of(model);
  std::vector<TensorSpec> specs;
  specs.reserve(entries.size());
  for (const Entry& e : entries) {
    const DType dtype = stored_as(*e.param, options.dtype);
    for (TensorSpec& s : weight_specs(e.name, e.param->shape, dtype)) specs.push_back(std::move(s));
  }
  CheckpointWriter writer(folder, specs, options.shard_bytes);
  for (const Entry& e : entries) write_entry(writer, e);
  remove_file(folder / "config.json");
  writer.finish();
  write_json(folder / "generation_config.json", generation_config_json(config));
  if (!options.tokenizer.empty()) copy_tokenizer_files(options.tokenizer, folder);
  write_json(folder / "config.json", json);
}

int64_t pretrained_bytes(const Transformer& model, DType dtype) {
  int64_t bytes = 0;
  for (const Entry& e : entries_of(model)) {
    bytes += e.param->size() * dtype_size(stored_as(*e.param, dtype));
  }
  return bytes;
}

void copy_tokenizer_files(const fs::path& tokenizer, const fs::path& folder) {
  std::error_code ignored;  // what cannot be looked at cannot be read either, and says so
  const bool is_folder = fs::is_directory(tokenizer, ignored);
  const fs::path home = is_folder ? tokenizer : tokenizer.parent_path();
  const fs::path main = is_folder ? tokenizer / "tokenizer.json" : tokenizer;
  if (fs::equivalent(main, folder / "tokenizer.json", ignored)) return;
  write_file_atomically(folder / "tokenizer.json", read_file(main, kMaxTokenizerBytes));
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json",
                           "chat_template.jinja", "chat_template.json"}) {
    if (!fs::exists(home / name, ignored)) continue;
    write_file_atomically(folder / name, read_file(home / name, kMaxTokenizerBytes));
  }
}

}  // namespace hadal

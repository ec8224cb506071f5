// Reading config.json, in both spellings.
#include <algorithm>
#include <type_traits>

#include "core/files.h"
#include "io/model_file.h"
#include "model/config_fields.h"
#include "model/quantize.h"

namespace hadal {
namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr size_t kMaxNamedKeys = 20;
constexpr size_t kMaxEndTokens = 1024;

std::string class_names() {
  std::string names;
  for (const ClassInfo& info : config_classes()) {
    names += (names.empty() ? "" : ", ") + std::string(info.name);
  }
  return names;
}

// From "architectures"; from "model_type" where that is all there is.
const ClassInfo& class_of(const Json& json, const std::string& where) {
  const auto architectures = json.find("architectures");
  if (architectures != json.end() && !architectures->is_null()) {
    const std::string at = where + ": architectures";
    const Json& list = json_array(*architectures, at);
    HADAL_CHECK(list.size() == 1, kConfig, at, " is ", json_brief(list),
                ", expected a list of one class");
    const ClassInfo* info = find_class(json_string(list[0], at));
    HADAL_CHECK(info != nullptr, kConfig, at, " is ", json_brief(list),
                ", supported: ", class_names());
    return *info;
  }
  const auto model_type = json.find("model_type");
  HADAL_CHECK(model_type != json.end(), kConfig, where,
              " has neither architectures nor model_type, supported: ", class_names());
  const std::string& type = json_string(*model_type, where + ": model_type");
  for (const ClassInfo& info : config_classes()) {
    if (info.model_type == type) return info;
  }
  throw Error(ErrorKind::kConfig, str(where, ": model_type is ", json_brief(*model_type),
                                      ", supported: ", class_names()));
}

DType dtype_of(const Json& value, const std::string& at) {
  if (value.is_null()) return DType::kF32;
  std::string_view name = json_string(value, at);
  if (name.starts_with("torch.")) name.remove_prefix(6);
  if (name == "float32") return DType::kF32;
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float16") return DType::kF16;
  throw Error(ErrorKind::kConfig,
              str(at, " is ", json_brief(value), ", supported: float32, bfloat16, float16"));
}

std::vector<int64_t> token_ids(const Json& value, const std::string& at) {
  if (value.is_null()) return {};
  if (!value.is_array()) return {json_int(value, at)};
  HADAL_CHECK(value.size() <= kMaxEndTokens, kConfig, at, " lists ", value.size(),
              " tokens, expected at most ", kMaxEndTokens);
  std::vector<int64_t> ids;
  for (const Json& id : value) ids.push_back(json_int(id, at));
  return ids;
}

std::optional<int64_t> token_id(const Json& value, const std::string& at) {
  if (value.is_null()) return std::nullopt;
  const int64_t id = json_int(value, at);
  return id == -1 ? std::nullopt : std::optional(id);
}

// Reads one plain key; rope_scaling has parse_rope.
void read_field(const ConfigField& field, const Json& value, const std::string& at,
                ModelConfig& config) {
  const auto read = [&](auto member) {
    auto& target = config.*member;
    using T = std::remove_reference_t<decltype(target)>;
    if constexpr (std::is_same_v<T, RopeScaling>) {
      return;
    } else if constexpr (std::is_same_v<T, DType>) {
      target = dtype_of(value, at);
    } else if constexpr (std::is_same_v<T, std::optional<int64_t>>) {
      target = token_id(value, at);
    } else if constexpr (std::is_same_v<T, std::vector<int64_t>>) {
      target = token_ids(value, at);
    } else if constexpr (std::is_same_v<T, std::string>) {
      target = json_string(value, at);
    } else if constexpr (std::is_same_v<T, double>) {
      target = json_number(value, at);
    } else if (value.is_null() && field.null_means) {
      target = static_cast<T>(*field.null_means);
    } else if constexpr (std::is_same_v<T, bool>) {
      target = json_bool(value, at);
    } else {
      target = json_int(value, at);
      // Inside, 0 stands for null: a file must not mean that by a number.
      const bool small = static_cast<double>(target) < field.min;
      HADAL_CHECK(!small, kConfig, at, " is ", target, ", expected at least ", field.min,
                  field.null_means ? " or null" : "");
    }
  };
  std::visit(read, field.member);
}

class Parser {
 public:
  Parser(const Json& json, const std::string& where)
      : json_(json_object(json, where)),
        where_(where),
        info_(class_of(json, where)),
        defaults_(class_defaults(info_.bit)),
        config_(defaults_) {}

  ModelConfig run(ConfigWarnings& warnings) {
    for (const ConfigField& field : config_fields()) {
      if (field.name != "rope_scaling") read(field);
    }
    read_rope();
    read_quantization();
    find_unknown();
    derive();
    const std::string misfit = class_misfit(info_, config_);
    HADAL_CHECK(misfit.empty(), kConfig, where_, ": ", misfit);
    check_config(config_, where_);
    report(warnings);
    return config_;
  }

 private:
  std::string at(std::string_view key) const { return str(where_, ": ", key); }
  const Json* find(std::string_view key) const {
    const auto found = key.empty() ? json_.end() : json_.find(key);
    return found == json_.end() ? nullptr : &*found;
  }

  void read(const ConfigField& field) {
    const Json* value = find(field.name);
    const Json* other = find(field.alias);
    HADAL_CHECK(value == nullptr || other == nullptr || *value == *other, kConfig, at(field.name),
                " is ", json_brief(*value), ", but ", field.alias, " is ", json_brief(*other));
    const std::string_view key = value != nullptr ? field.name : field.alias;
    if (value == nullptr) value = other;
    if (value == nullptr || harmless_key(key, info_.bit)) return;
    if ((field.classes & info_.bit) != 0) return read_field(field, *value, at(key), config_);
    // A key of other classes: it must say what this class has anyway.
    if (value->is_null()) return;
    ModelConfig stranger = defaults_;
    read_field(field, *value, at(key), stranger);
    const Json fixed = field_value(field, defaults_);
    HADAL_CHECK(field_value(field, stranger) == fixed, kConfig, at(key), " is ", json_brief(*value),
                ", supported by ", info_.name, ": ", json_brief(fixed));
  }

  void read_rope() {
    std::optional<RopeObject> rope;
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      const Json* value = find(key);
      if (value == nullptr || value->is_null() || (value->is_object() && value->empty())) continue;
      const Json object = with_outer_original(*value);
      const RopeObject read =
          parse_rope(object, config_.max_position_embeddings, at(key), unknown_);
      HADAL_CHECK(!rope || rope->scaling == read.scaling, kConfig, where_,
                  ": rope_scaling and rope_parameters contradict each other: ",
                  json_brief(*find("rope_scaling")), " and ", json_brief(*value));
      if (!rope) rope = read;
    }
    const Json* factor = find("partial_rotary_factor");
    HADAL_CHECK(factor == nullptr || factor->is_null() ||
                    json_number(*factor, at("partial_rotary_factor")) == 1,
                kConfig, at("partial_rotary_factor"), " is ", json_brief(*factor),
                ", supported: 1");
    if (!rope) return;
    config_.rope_scaling = rope->scaling;
    if (rope->theta) config_.rope_theta = *rope->theta;
  }

  // A key beside the object goes before the one inside, as in transformers.
  Json with_outer_original(const Json& object) const {
    const Json* outer = find("original_max_position_embeddings");
    if (outer == nullptr || outer->is_null() || !object.is_object()) return object;
    Json joined = object;
    joined["original_max_position_embeddings"] = *outer;
    return joined;
  }

  void read_quantization() {
    const Json* other = find("compression_config");
    HADAL_CHECK(other == nullptr || other->is_null(), kConfig, at("compression_config"), " is ",
                json_brief(*other),
                ", supported: quantization_config with quant_method fp8, hadal");
    const Json* value = find("quantization_config");
    if (value == nullptr || value->is_null()) return;
    const Json& object = json_object(*value, at("quantization_config"));
    if (supported(object, "quant_method", "fp8, hadal", true) == "hadal") {
      config_.hadal_format = supported(object, "format", own_model_formats(), true);
      return;
    }
    supported(object, "fmt", "e4m3", false);
    supported(object, "activation_scheme", "dynamic", false);
    supported(object, "expert_dtype", "fp8", false);
    const std::string scale = supported(object, "scale_fmt", "float, ue8m0", false);
    config_.scale_fmt = scale == "ue8m0" ? scale : "";
    config_.weight_block_size = {128, 128};
    if (!object.contains("weight_block_size")) return;
    const std::string name = at("quantization_config.weight_block_size");
    const Json& sizes = json_array(object["weight_block_size"], name);
    HADAL_CHECK(sizes.size() == 2, kConfig, name, " is ", json_brief(sizes),
                ", expected two numbers");
    for (size_t i = 0; i < 2; ++i) config_.weight_block_size[i] = json_int(sizes[i], name);
  }

  std::string supported(const Json& object, const char* key, std::string_view values,
                        bool required) const {
    const std::string name = at(str("quantization_config.", key));
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) {
      HADAL_CHECK(!required, kConfig, name, " is missing, supported: ", values);
      return {};
    }
    const std::string& value = json_string(*found, name);
    HADAL_CHECK(in_list(values, value), kConfig, name, " is ", json_brief(*found),
                ", supported: ", values);
    return value;
  }

  void find_unknown() {
    for (const auto& [key, value] : json_.items()) {
      if (harmless_key(key, info_.bit) || key == "quantization_config" ||
          key == "compression_config" || key == "partial_rotary_factor" ||
          key == "original_max_position_embeddings") {
        continue;
      }
      const std::string_view name = key;
      const auto named = [name](const ConfigField& f) { return f.name == name || f.alias == name; };
      if (std::ranges::none_of(config_fields(), named)) unknown_.push_back(key);
    }
  }

  // What the file may leave out because the rest says it.
  void derive() {
    ModelConfig& c = config_;
    if (c.hadal_attention == "mla") {
      if (c.num_key_value_heads != 0 && c.num_key_value_heads != c.num_attention_heads) {
        lines_.push_back(str(at("num_key_value_heads"), " is ", c.num_key_value_heads,
                             " and has no effect: latent attention has no such heads"));
      }
      c.num_key_value_heads = c.num_attention_heads;
    }
    if (c.num_key_value_heads == 0) c.num_key_value_heads = c.num_attention_heads;
    if (c.hadal_attention == "gqa" && c.head_dim == 0 && c.num_attention_heads > 0) {
      HADAL_CHECK(c.hidden_size % c.num_attention_heads == 0, kConfig, at("hidden_size"), " is ",
                  c.hidden_size, ", which num_attention_heads ", c.num_attention_heads,
                  " does not divide, and there is no head_dim");
      c.head_dim = c.hidden_size / c.num_attention_heads;
    }
    drop_unread_experts();
    drop_default_tokens();
  }

  // Where every layer is dense, the keys of experts say nothing (config_json writes them so).
  void drop_unread_experts() {
    ModelConfig& c = config_;
    if (c.first_k_dense_replace < c.num_hidden_layers + c.num_nextn_predict_layers &&
        c.n_routed_experts > 0) {
      return;
    }
    const ModelConfig none = class_defaults(kHadal);
    visit_config([&](const ConfigField& field, auto member) {
      if (field.part == ConfigPart::kMoe) c.*member = none.*member;
    });
  }

  // A class's own token ids say nothing about a vocabulary that lacks them.
  void drop_default_tokens() {
    ModelConfig& c = config_;
    const auto outside = [&](int64_t id) { return id >= c.vocab_size; };
    if (find("bos_token_id") == nullptr && c.bos_token_id && outside(*c.bos_token_id)) {
      c.bos_token_id.reset();
    }
    if (find("pad_token_id") == nullptr && c.pad_token_id && outside(*c.pad_token_id)) {
      c.pad_token_id.reset();
    }
    if (find("eos_token_id") == nullptr) std::erase_if(c.eos_token_ids, outside);
  }

  void report(ConfigWarnings& warnings) {
    std::ranges::move(lines_, std::back_inserter(warnings.lines));
    if (unknown_.empty()) return;
    std::string line = where_ + ": unknown keys, ignored: ";
    for (size_t i = 0; i < std::min(unknown_.size(), kMaxNamedKeys); ++i) {
      line += (i == 0 ? "" : ", ") + json_brief(Json(unknown_[i]));
    }
    if (unknown_.size() > kMaxNamedKeys) {
      line += str(" and ", unknown_.size() - kMaxNamedKeys, " more");
    }
    warnings.lines.push_back(line);
  }

  const Json& json_;
  const std::string& where_;
  const ClassInfo& info_;
  const ModelConfig defaults_;
  ModelConfig config_;
  std::vector<std::string> unknown_, lines_;
};

}  // namespace

ModelConfig parse_config(const Json& json, const std::string& where, ConfigWarnings& warnings) {
  return Parser(json, where).run(warnings);
}

void apply_generation_config(const Json& json, const std::string& where, ModelConfig& config) {
  json_object(json, where);
  for (const ConfigField& field : config_fields()) {
    const auto found = json.find(field.name);
    if (!field.name.ends_with("_token_id") || found == json.end() || found->is_null()) continue;
    read_field(field, *found, str(where, ": ", field.name), config);
  }
  check_config(config, where);
}

ModelConfig load_config(const fs::path& model_or_config, ConfigWarnings& warnings) {
  std::error_code ignored;  // what cannot be looked at cannot be read either, and says so
  const bool folder = fs::is_directory(model_or_config, ignored);
  const fs::path path = folder ? model_or_config / "config.json" : model_or_config;
  const std::string where = path.string();
  // A file that is named outright may be a link; what lies in a folder is as strange as the folder.
  const std::string text =
      folder ? read_model_file(path, kMaxConfigBytes) : read_file(path, kMaxConfigBytes);
  ModelConfig config = parse_config(parse_json(text, where), where, warnings);
  const fs::path generation = model_or_config / "generation_config.json";
  if (folder && fs::exists(generation, ignored)) {
    const std::string name = generation.string();
    apply_generation_config(parse_json(read_model_file(generation, kMaxConfigBytes), name), name,
                            config);
  }
  return config;
}

}  // namespace hadal

#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "model/config.h"

namespace hadal {

// The classes a config.json may name, as bits: a key belongs to some of them.
enum ConfigClass : unsigned {
  kDeepseekV3 = 1,
  kDeepseekV2 = 2,
  kOlmo2 = 4,
  kLlama = 8,
  kHadal = 16,
};
inline constexpr unsigned kDeepseek = kDeepseekV3 | kDeepseekV2;
inline constexpr unsigned kReleased = kDeepseek | kOlmo2 | kLlama;
inline constexpr unsigned kEveryClass = kReleased | kHadal;

struct ClassInfo {
  ConfigClass bit;
  std::string_view name;        // in "architectures"
  std::string_view model_type;  // in "model_type"
};
std::span<const ClassInfo> config_classes();
const ClassInfo* find_class(std::string_view name);  // null when it is not supported

// What a key that the file leaves out means, in transformers 5.23's words: V3's are those of the
// released model. Two deviations: num_nextn_predict_layers is 0 (there: 1, with or without such
// weights), and HadalForCausalLM has no sizes of its own.
ModelConfig class_defaults(ConfigClass bit);

// Which models a key says something about; where it says nothing it is neither checked nor written.
enum class ConfigPart { kAll, kMla, kGqa, kMoe };

using ConfigMember = std::variant<int64_t ModelConfig::*, double ModelConfig::*,
                                  bool ModelConfig::*, std::string ModelConfig::*,
                                  DType ModelConfig::*, std::optional<int64_t> ModelConfig::*,
                                  std::vector<int64_t> ModelConfig::*, RopeScaling ModelConfig::*>;

// One key of config.json.
struct ConfigField {
  std::string_view name;
  ConfigMember member;
  unsigned classes = kEveryClass;
  ConfigPart part = ConfigPart::kAll;
  std::string_view doc;
  // Of numbers: the smallest and largest allowed.
  double min = 0, max = 0;
  // What null means; without it null is an error.
  std::optional<int64_t> null_means = std::nullopt;
  // Of strings: the values there are, of which a class may have fewer (class_values).
  std::string_view values = {};
  // Another name of the key; `name` goes first if a file has both.
  std::string_view alias = {};
};

// The one list of keys, in the order of writing.
std::span<const ConfigField> config_fields();

// Calls fn(field, member pointer) for every key.
template <class Fn>
void visit_config(Fn&& fn) {
  for (const ConfigField& field : config_fields()) {
    std::visit([&](auto member) { fn(field, member); }, field.member);
  }
}

// One key inside rope_scaling / rope_parameters.
struct RopeField {
  std::string_view name;
  std::variant<int64_t RopeScaling::*, double RopeScaling::*, bool RopeScaling::*,
               std::optional<double> RopeScaling::*>
      member;
  std::string_view types;     // rope types that read it
  std::string_view required;  // rope types that must have it
  std::string_view doc;
};
std::span<const RopeField> rope_fields();
inline constexpr std::string_view kRopeTypes = "default, linear, yarn, llama3";

// Whether `word` is one of a list "a, b, c".
bool in_list(std::string_view list, std::string_view word);

// Whether the key says anything about this model.
bool field_used(const ConfigField& field, const ModelConfig& config);
// The value as it would stand in the file.
Json field_value(const ConfigField& field, const ModelConfig& config);
// The values of a key that the class has, "a, b", when it has fewer than there are; else empty.
std::string_view class_values(ConfigClass bit, std::string_view key);
// Why the class cannot say what this config says: "KEY is VALUE, supported by CLASS: VALUES".
// Empty when it can.
std::string class_misfit(const ClassInfo& info, const ModelConfig& config);

// Keys that change nothing Hadal computes; no warning is given for them.
bool harmless_key(std::string_view key, ConfigClass bit);

// The table of all keys for docs/config.md.
std::string config_reference();

// ---- the object rope_scaling / rope_parameters (config_rope.cpp)

struct RopeObject {
  RopeScaling scaling;
  std::optional<double> theta;  // rope_theta inside it
};
// `where` is "config.json: rope_scaling"; unknown keys are added to `unknown`.
RopeObject parse_rope(const Json& object, int64_t max_position_embeddings, const std::string& where,
                      std::vector<std::string>& unknown);
OrderedJson rope_json(const RopeScaling& scaling);  // null for the default type
void check_rope_scaling(const RopeScaling& scaling, const std::string& where);

}  // namespace hadal

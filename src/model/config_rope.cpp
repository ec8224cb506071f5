// rope_scaling / rope_parameters: read, checked, written, and turned into ops/rope.h's terms.
#include <cmath>
#include <type_traits>

#include "model/config_fields.h"

namespace hadal {
namespace {

std::string rope_type_of(const Json& object, const std::string& where) {
  std::string type;
  for (const char* key : {"rope_type", "type"}) {
    const auto found = object.find(key);
    if (found == object.end()) continue;
    const std::string at = str(where, ".", key);
    const std::string& value = json_string(*found, at);
    HADAL_CHECK(in_list(kRopeTypes, value), kConfig, at, " is ", json_brief(*found),
                ", supported: ", kRopeTypes);
    HADAL_CHECK(type.empty() || type == value, kConfig, at, " is ", json_brief(*found),
                ", but rope_type is \"", type, "\"");
    type = value;
  }
  if (!type.empty()) return type;
  // Transformers 5 leaves the type out only where nothing is scaled.
  for (const auto& [key, value] : object.items()) {
    HADAL_CHECK(key == "rope_theta" || key == "partial_rotary_factor", kConfig, where, " has ",
                json_brief(Json(key)), " but no rope_type, expected one of ", kRopeTypes);
  }
  return "default";
}

// 0 and null are "left out" to transformers, but for attention_factor.
void read_rope_field(const RopeField& field, const Json& value, const std::string& at,
                     RopeScaling& out) {
  const auto read = [&](auto member) {
    auto& target = out.*member;
    using T = std::remove_reference_t<decltype(target)>;
    if (value.is_null()) return;
    if constexpr (std::is_same_v<T, int64_t>) {
      target = json_int(value, at);
    } else if constexpr (std::is_same_v<T, bool>) {
      target = json_bool(value, at);
    } else {
      const double number = json_number(value, at);
      if (number != 0 || field.name == "attention_factor" || field.name == "factor") {
        target = number;
      }
    }
  };
  std::visit(read, field.member);
}

void check_number(bool good, const std::string& where, const char* key, double value,
                  const char* wanted) {
  HADAL_CHECK(good, kConfig, where, ".", key, " is ", value, ", expected ", wanted);
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

}  // namespace

RopeObject parse_rope(const Json& json, int64_t max_position_embeddings, const std::string& where,
                      std::vector<std::string>& unknown) {
  RopeObject rope;
  const Json& object = json_object(json, where);
  RopeScaling& scaling = rope.scaling;
  scaling.type = rope_type_of(object, where);
  for (const auto& [key, value] : object.items()) {
    const std::string at = str(where, ".", key);
    if (key == "rope_theta") {
      if (!value.is_null()) rope.theta = json_number(value, at);
    } else if (key == "partial_rotary_factor") {
      HADAL_CHECK(value.is_null() || json_number(value, at) == 1, kConfig, at, " is ",
                  json_brief(value), ", supported: 1");
    } else if (key != "type" && key != "rope_type") {
      bool known = false;
      for (const RopeField& field : rope_fields()) {
        if (field.name != key || !in_list(field.types, scaling.type)) continue;
        read_rope_field(field, value, at, scaling);
        known = true;
      }
      if (!known) unknown.push_back(str(where.substr(where.rfind(' ') + 1), ".", key));
    }
  }
  for (const RopeField& field : rope_fields()) {
    HADAL_CHECK(!in_list(field.required, scaling.type) || object.contains(std::string(field.name)),
                kConfig, where, " has no ", field.name, ", which type \"", scaling.type,
                "\" needs");
  }
  if (scaling.type != "yarn" && scaling.type != "llama3") return rope;
  if (scaling.original_max_position_embeddings == 0) {
    scaling.original_max_position_embeddings = max_position_embeddings;
  }
  if (object.at("factor").is_null() && scaling.original_max_position_embeddings > 0) {
    scaling.factor = static_cast<double>(max_position_embeddings) /
                     static_cast<double>(scaling.original_max_position_embeddings);
  }
  return rope;
}

OrderedJson rope_json(const RopeScaling& scaling) {
  if (scaling.type == "default") return nullptr;
  OrderedJson out = OrderedJson::object();
  // Released code reads "type", everything newer "rope_type".
  out["type"] = scaling.type;
  out["rope_type"] = scaling.type;
  for (const RopeField& field : rope_fields()) {
    if (!in_list(field.types, scaling.type)) continue;
    const auto write = [&](auto member) {
      const auto& value = scaling.*member;
      using T = std::remove_cvref_t<decltype(value)>;
      if constexpr (std::is_same_v<T, std::optional<double>>) {
        if (value) out[std::string(field.name)] = *value;
      } else if constexpr (std::is_same_v<T, bool>) {
        if (!value) out[std::string(field.name)] = value;  // not known everywhere
      } else {
        out[std::string(field.name)] = value;
      }
    };
    std::visit(write, field.member);
  }
  return out;
}

void check_rope_scaling(const RopeScaling& s, const std::string& where) {
  HADAL_CHECK(in_list(kRopeTypes, s.type), kConfig, where, ".rope_type is \"", s.type,
              "\", supported: ", kRopeTypes);
  if (s.type == "default") return;
  check_number(s.factor >= 1 && s.factor <= 1e6, where, "factor", s.factor, "1 .. 1e6");
  const double original = static_cast<double>(s.original_max_position_embeddings);
  if (s.type != "linear") {
    check_number(original >= 1 && original <= (1 << 24), where, "original_max_position_embeddings",
                 original, "1 .. 16777216");
  }
  check_number(s.beta_slow > 0 && s.beta_slow <= 1e6, where, "beta_slow", s.beta_slow,
               "above 0, at most 1e6");
  check_number(s.beta_fast >= s.beta_slow && s.beta_fast <= 1e6, where, "beta_fast", s.beta_fast,
               "at least beta_slow, at most 1e6");
  check_number(s.low_freq_factor > 0, where, "low_freq_factor", s.low_freq_factor, "above 0");
  check_number(s.high_freq_factor > s.low_freq_factor && s.high_freq_factor <= 1e6, where,
               "high_freq_factor", s.high_freq_factor, "above low_freq_factor, at most 1e6");
  const double mscale = s.mscale.value_or(1), all_dim = s.mscale_all_dim.value_or(1);
  check_number(mscale > 0 && mscale <= 1000, where, "mscale", mscale, "above 0, at most 1000");
  check_number(all_dim > 0 && all_dim <= 1000, where, "mscale_all_dim", all_dim,
               "above 0, at most 1000");
  const double attention_factor = s.attention_factor.value_or(1);
  check_number(attention_factor > 0 && attention_factor <= 1000, where, "attention_factor",
               attention_factor, "above 0, at most 1000");
}

// cos and sin are scaled as transformers 5.23 does it. The code released with the models takes a
// missing mscale for 1 and a missing mscale_all_dim for 0, which is the same whenever both or
// neither are given, as in every model published.
RopeParams ModelConfig::rope_params() const {
  RopeParams p;
  p.dim = rope_dim();
  p.theta = rope_theta;
  p.groups = hadal_rope_groups;
  const RopeScaling& s = rope_scaling;
  if (s.type == "default") return p;
  p.factor = s.factor;
  p.original_max_position = s.original_max_position_embeddings;
  if (s.type == "linear") {
    p.type = RopeParams::Type::kLinear;
  } else if (s.type == "llama3") {
    p.type = RopeParams::Type::kLlama3;
    p.low_freq_factor = s.low_freq_factor;
    p.high_freq_factor = s.high_freq_factor;
  } else {
    p.type = RopeParams::Type::kYarn;
    p.beta_fast = s.beta_fast;
    p.beta_slow = s.beta_slow;
    p.truncate = s.truncate;
    if (s.attention_factor) {
      p.attention_factor = *s.attention_factor;
    } else if (s.mscale && s.mscale_all_dim) {
      p.attention_factor =
          yarn_mscale(s.factor, *s.mscale) / yarn_mscale(s.factor, *s.mscale_all_dim);
    } else {
      p.attention_factor = yarn_mscale(s.factor, 1);
    }
  }
  return p;
}

float ModelConfig::softmax_scale() const {
  double scale = 1 / std::sqrt(static_cast<double>(qk_head_dim()));
  const RopeScaling& s = rope_scaling;
  // Whatever the type, as in DeepSeek's code and in transformers; attention without MLA never.
  if (hadal_attention == "mla" && s.type != "default" && s.mscale_all_dim) {
    const double mscale = yarn_mscale(s.factor, *s.mscale_all_dim);
    scale *= mscale * mscale;
  }
  return static_cast<float>(scale);
}

}  // namespace hadal

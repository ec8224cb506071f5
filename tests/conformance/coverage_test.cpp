// Nothing that a config can ask for is left out of variants(): the registry and the values of keys
// say what there is, so that a kind added without a variant fails here.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "model/config_fields.h"
#include "model/kinds.h"
#include "tests/conformance/variants.h"

namespace hadal {
namespace {

std::vector<std::string> words(std::string_view list) {
  std::vector<std::string> out;
  std::istringstream in{std::string(list)};
  for (std::string word; std::getline(in >> std::ws, word, ',');) out.push_back(word);
  return out;
}

bool some_variant(const std::function<bool(const ModelConfig&)>& has) {
  return std::any_of(variants().begin(), variants().end(),
                     [&](const Variant& v) { return has(v.config()); });
}

bool has_dense_layer(const ModelConfig& c) {
  for (int64_t l = 0; l < c.num_hidden_layers; ++l) {
    if (!c.moe_layer(l)) return true;
  }
  return false;
}

TEST(Coverage, every_kind_in_the_registry) {
  for (const AttentionKind& kind : attention_kinds()) {
    EXPECT_TRUE(some_variant([&](const ModelConfig& c) { return c.hadal_attention == kind.name; }))
        << "no variant has hadal_attention " << kind.name;
  }
  for (const FfnKind& kind : ffn_kinds()) {
    EXPECT_TRUE(some_variant([&](const ModelConfig& c) {
      return c.hadal_ffn == kind.name && has_dense_layer(c);
    })) << "no variant has a dense layer of hadal_ffn "
        << kind.name;
  }
}

template <class T>
void expect_value(const ConfigField& field, T ModelConfig::*member, const T& value) {
  EXPECT_TRUE(some_variant([&](const ModelConfig& c) {
    return field_used(field, c) && c.*member == value;
  })) << "no variant has "
      << field.name << " " << value;
}

TEST(Coverage, every_value_of_every_key) {
  visit_config([](const ConfigField& field, auto member) {
    if constexpr (std::is_same_v<decltype(member), bool ModelConfig::*>) {
      for (bool value : {false, true}) expect_value(field, member, value);
    } else if constexpr (std::is_same_v<decltype(member), std::string ModelConfig::*>) {
      for (const std::string& value : words(field.values)) expect_value(field, member, value);
    }
  });
  for (const std::string& type : words(kRopeTypes)) {
    EXPECT_TRUE(some_variant([&](const ModelConfig& c) { return c.rope_scaling.type == type; }))
        << "no variant has rope_scaling of type " << type;
  }
}

TEST(Coverage, variants_are_told_apart) {
  std::set<std::string> names;
  for (const Variant& v : variants()) {
    EXPECT_TRUE(names.insert(v.name).second) << v.name << " is listed twice";
    for (const Variant& other : variants()) {
      EXPECT_TRUE(&other == &v || v.config() != other.config()) << v.name << ", " << other.name;
    }
  }
}

}  // namespace
}  // namespace hadal

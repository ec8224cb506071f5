#include "train/recipe.h"

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <set>
#include <sstream>

#include "model/config_fields.h"
#include "ops/linear.h"
#include "train/nearest.h"
#include "train/run_schedule.h"

namespace hadal {
namespace {

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, message);
}

bool model_key(std::string_view name) {
  if (name == "config" || name == "architectures" || name == "rope_parameters") return true;
  bool found = false;
  for (const ConfigField& field : config_fields()) {
    found = found || field.name == name || (!field.alias.empty() && field.alias == name);
  }
  return found;
}

std::string nearest_key(std::string_view path) {
  std::vector<std::string> all;
  for (const RecipeKey& key : recipe_keys()) all.emplace_back(key.path);
  for (const ConfigField& field : config_fields()) all.push_back(str("model.", field.name));
  return nearest(path, all);
}

std::string_view type_of(const RecipeKey& key) {
  static constexpr std::string_view kNames[] = {"integer",         "number",         "string",
                                                "list of strings", "list of phases", "boolean",
                                                "list of tables"};
  return kNames[key.member.index()];
}

std::string expected(const RecipeKey& key) {
  std::ostringstream out;
  out << "expected a" << (key.member.index() == 0 ? "n " : " ") << type_of(key);
  if (key.max > key.min) out << " from " << key.min << " to " << key.max;
  if (!key.values.empty()) out << ": " << key.values;
  return out.str();
}

// A TOML value as text for a message.
std::string shown(const toml::node& node) {
  std::ostringstream out;
  node.visit([&](const auto& value) { out << value; });
  return out.str();
}

Json to_json(const toml::node& node, const std::string& at) {
  if (const auto* value = node.as_integer()) return value->get();
  if (const auto* value = node.as_floating_point()) return value->get();
  if (const auto* value = node.as_boolean()) return value->get();
  if (const auto* value = node.as_string()) return value->get();
  if (const auto* list = node.as_array()) {
    Json out = Json::array();
    for (const toml::node& item : *list) out.push_back(to_json(item, at));
    return out;
  }
  if (const auto* table = node.as_table()) {
    Json out = Json::object();
    for (const auto& [name, item] : *table) out[std::string(name.str())] = to_json(item, at);
    return out;
  }
  usage(str(at, ": a recipe has no dates and times"));
}

class Reader {
 public:
  // Adds to `given` the path of every key that it reads.
  Reader(TrainRecipe& recipe, std::set<std::string>& given, std::string name)
      : recipe_(recipe), given_(given), name_(std::move(name)) {}

  void read(const toml::table& table, const std::string& prefix = "") {
    for (const auto& [key, node] : table) {
      const std::string path = prefix + std::string(key.str());
      if (path == "model") {
        read_model(node);
      } else if (const RecipeKey* known = find(path)) {
        read_value(*known, node);
        given_.insert(path);
      } else if (node.is_table() && prefix.empty() && is_section(path)) {
        read(*node.as_table(), path + ".");
      } else {
        usage(str(where(node, path), ": no such key; did you mean ", nearest_key(path), "?"));
      }
    }
  }

 private:
  static const RecipeKey* find(std::string_view path) {
    for (const RecipeKey& key : recipe_keys()) {
      if (key.path == path) return &key;
    }
    return nullptr;
  }
  static bool is_section(const std::string& name) {
    const auto keys = recipe_keys();
    return std::any_of(keys.begin(), keys.end(),
                       [&](const RecipeKey& k) { return k.path.starts_with(name + "."); });
  }
  std::string where(const toml::node& node, const std::string& path) const {
    // The line of a --set says nothing.
    return node.source().begin.line > 0 && name_ != "--set"
               ? str(name_, ":", node.source().begin.line, ": ", path)
               : str(name_, ": ", path);
  }

  void read_value(const RecipeKey& key, const toml::node& node) {
    const auto fail = [&] {
      usage(str(where(node, std::string(key.path)), " is ", shown(node), ", ", expected(key)));
    };
    const auto in_range = [&](double x) { return x >= key.min && x <= key.max; };
    std::visit(Overloaded{[&](int64_t& (*get)(TrainRecipe&)) {
                            const auto value = node.value_exact<int64_t>();
                            if (!value || !in_range(static_cast<double>(*value))) fail();
                            get(recipe_) = *value;
                          },
                          [&](double& (*get)(TrainRecipe&)) {
                            const auto value =
                                node.is_number() ? node.value<double>() : std::optional<double>();
                            if (!value || !in_range(*value)) fail();
                            get(recipe_) = *value;
                          },
                          [&](std::string& (*get)(TrainRecipe&)) {
                            const auto value = node.value_exact<std::string>();
                            if (!value) fail();
                            if (!key.values.empty() && !in_list(key.values, *value)) fail();
                            get(recipe_) = *value;
                          },
                          [&](std::vector<std::string>& (*get)(TrainRecipe&)) {
                            const auto* list = node.as_array();
                            std::vector<std::string> out;
                            if (list == nullptr) fail();
                            for (const toml::node& item : *list) {
                              const auto value = item.value_exact<std::string>();
                              if (!value) fail();
                              out.push_back(*value);
                            }
                            get(recipe_) = out;
                          },
                          [&](Phases& (*get)(TrainRecipe&)) {
                            const std::string at = where(node, std::string(key.path));
                            get(recipe_) = parse_phases(to_json(node, at), at, key.min, key.max);
                          },
                          [&](bool& (*get)(TrainRecipe&)) {
                            const auto value = node.value_exact<bool>();
                            if (!value) fail();
                            get(recipe_) = *value;
                          },
                          [&](DataSources& (*get)(TrainRecipe&)) {
                            const std::string at = where(node, std::string(key.path));
                            get(recipe_) = parse_sources(to_json(node, at), at);
                          }},
               key.member);
  }

  void read_model(const toml::node& node) {
    const auto* table = node.as_table();
    if (table == nullptr) usage(str(where(node, "model"), " is not a table"));
    for (const auto& [key, item] : *table) {
      const std::string name(key.str());
      const std::string path = "model." + name;
      if (!model_key(name)) {
        usage(str(where(item, path), ": no such key; did you mean ", nearest_key(path), "?"));
      }
      recipe_.model[name] = to_json(item, where(item, path));
    }
  }

  TrainRecipe& recipe_;
  std::set<std::string>& given_;
  std::string name_;
};

toml::table parse_toml(std::string_view text, const std::string& name) {
  try {
    return toml::parse(text, std::string_view(name));
  } catch (const toml::parse_error& e) {
    usage(
        str(name, ":", e.source().begin.line, ":", e.source().begin.column, ": ", e.description()));
  }
}

// "run.steps=100"; what is not a TOML value is a string.
void apply_set(const std::string& set, TrainRecipe& recipe, std::set<std::string>& given) {
  const size_t equals = set.find('=');
  if (equals == std::string::npos || equals == 0) {
    usage(str("--set ", set, ": expected KEY=VALUE, for example run.steps=100"));
  }
  const std::string key = set.substr(0, equals), value = set.substr(equals + 1);
  toml::table table;
  try {
    table = toml::parse(key + " = " + value);
  } catch (const toml::parse_error&) {
    std::ostringstream quoted;
    quoted << toml::value<std::string>(value);
    table = parse_toml(key + " = " + quoted.str(), "--set");
  }
  Reader(recipe, given, "--set").read(table);
}

OrderedJson value_json(const RecipeKey& key, TrainRecipe& recipe) {
  return std::visit(
      Overloaded{[&](Phases& (*get)(TrainRecipe&)) { return phases_json(get(recipe)); },
                 [&](DataSources& (*get)(TrainRecipe&)) { return sources_json(get(recipe)); },
                 [&](auto get) { return OrderedJson(get(recipe)); }},
      key.member);
}

// Before anything else of the recipe: what its other keys are taken to mean depends on it.
void check_version(const toml::table& table, const std::string& name) {
  const toml::node* version = table.get("version");
  if (version == nullptr || version->value_exact<int64_t>() == kRecipeVersion) return;
  throw Error(ErrorKind::kFormat,
              str(name, ":", version->source().begin.line, ": version is ", shown(*version),
                  ", but this program reads recipes of version ", kRecipeVersion));
}

// Of two ways to say a number, one.
void check_given(const TrainRecipe& recipe, const std::set<std::string>& given) {
  const Json values = Json::parse(recipe_json(recipe).dump());
  for (const PhasesInstead& instead : phases_instead()) {
    if (values.at(std::string(instead.phases)).empty()) continue;
    for (const std::string& path : given) {
      HADAL_CHECK(!in_list(instead.short_keys, path), kUsage, path, " and ", instead.phases,
                  " are both given, expected one of them");
    }
  }
  HADAL_CHECK(recipe.run.tokens == 0 || !given.contains("run.steps"), kUsage,
              "run.steps and run.tokens are both given, expected one of them");
}

}  // namespace

TrainRecipe parse_recipe(std::string_view toml, const std::string& name,
                         std::span<const std::string> sets) {
  TrainRecipe recipe;
  std::set<std::string> given;
  const toml::table table = parse_toml(toml, name);
  check_version(table, name);
  Reader(recipe, given, name).read(table);
  for (const std::string& set : sets) apply_set(set, recipe, given);
  check_given(recipe, given);
  if (recipe.run.tokens > 0) recipe.run.steps = RunSchedule(recipe).steps_for(recipe.run.tokens);
  check_recipe(recipe);
  return recipe;
}

TrainRecipe load_recipe(const fs::path& path, std::span<const std::string> sets) {
  return parse_recipe(read_file(path, 1 << 20), path.string(), sets);
}

void check_recipe(const TrainRecipe& r) {
  HADAL_CHECK(r.optim.min_lr <= r.optim.lr, kUsage, "optim.min_lr is ", r.optim.min_lr,
              ", expected at most optim.lr, ", r.optim.lr);
  HADAL_CHECK(!r.batch.phases.empty() || r.batch.micro <= r.batch.sequences, kUsage,
              "batch.micro is ", r.batch.micro, ", expected at most batch.sequences, ",
              r.batch.sequences);
  HADAL_CHECK(r.data.valid.empty() || r.data.valid_share == 0, kUsage,
              "data.valid and data.valid_share are both set, expected one of them");
  HADAL_CHECK(r.data.source.empty() || (r.data.train.empty() && r.data.valid.empty()), kUsage,
              "[[data.source]] and data.train or data.valid are both given, expected one way");
  for (const DataSource& source : r.data.source) {
    HADAL_CHECK(source.valid.empty() || r.data.valid_share == 0, kUsage, "source \"", source.name,
                "\" has valid and data.valid_share is set, expected one of them");
  }
  HADAL_CHECK(r.run.sample_every == 0 || !r.run.sample_prompts.empty(), kUsage,
              "run.sample_every is ", r.run.sample_every,
              ", but run.sample_prompts names no text to begin with");
  HADAL_CHECK(in_list("constant, cosine, wsd", r.optim.schedule), kUsage, "optim.schedule is \"",
              r.optim.schedule, "\", expected constant, cosine or wsd");
  const Precision precision = find_precision(r.run.precision);
  HADAL_CHECK(in_list("1x128, 128x128", r.run.fp8_gradient_tiles), kUsage,
              "run.fp8_gradient_tiles is \"", r.run.fp8_gradient_tiles,
              "\", expected 1x128 or 128x128");
  HADAL_CHECK(is_fp8(precision) || r.run.fp8_gradient_tiles == "1x128", kUsage,
              "run.fp8_gradient_tiles is \"", r.run.fp8_gradient_tiles,
              "\", which needs run.precision = \"fp8\"");
  // Below this share a moment in BF16 that should shrink is rounded back to where it was.
  HADAL_CHECK(r.optim.moments != "bf16" || std::max(r.optim.beta1, r.optim.beta2) <= 1 - 0x1p-8,
              kUsage, "optim.moments is bf16 and optim.beta1 and beta2 are ", r.optim.beta1,
              " and ", r.optim.beta2, ", expected at most ", 1 - 0x1p-8,
              ": smaller changes would be rounded away");
  RunSchedule{r};  // its phases can be laid down
}

std::string explain_recipe(const TrainRecipe& given) {
  TrainRecipe defaults, recipe = given;
  std::ostringstream out;
  for (const RecipeKey& key : recipe_keys()) {
    const OrderedJson value = value_json(key, recipe), standard = value_json(key, defaults);
    out << key.path << " = " << value.dump() << "\n    " << key.doc << "\n    " << type_of(key);
    if (key.max > key.min) out << ", " << key.min << " to " << key.max;
    if (!key.values.empty()) out << ", one of: " << key.values;
    if (value != standard) out << "; default " << standard.dump();
    out << "\n";
  }
  for (const ConfigField& field : config_fields()) {
    const auto found = recipe.model.find(field.name);
    if (found != recipe.model.end()) {
      out << "model." << field.name << " = " << found->dump() << "\n    " << field.doc << "\n";
    }
  }
  out << "A list of phases: [{ linear = 1e-3, steps = 100 }, { cosine = 1e-4, until_tokens = 1e9 "
         "}, ...]\n"
         "    constant, linear or cosine = the value it goes to; from = where it begins, else "
         "where\n"
         "    the last one ended; steps, tokens, until_steps or until_tokens = its end.\n"
         "[model] takes every key of config.json; q_lora_rank = 0 stands for null.\n";
  return out.str();
}

OrderedJson recipe_json(const TrainRecipe& given) {
  TrainRecipe recipe = given;
  OrderedJson out = OrderedJson::object();
  for (const RecipeKey& key : recipe_keys()) out[std::string(key.path)] = value_json(key, recipe);
  out["model"] = OrderedJson::parse(recipe.model.dump());
  return out;
}

}  // namespace hadal

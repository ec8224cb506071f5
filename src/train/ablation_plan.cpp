// Reading a plan, and whether its variants can be compared.
#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <cmath>
#include <set>

#include "model/inspect.h"
#include "text/tokenizer.h"
#include "train/ablation.h"
#include "train/run_schedule.h"

namespace hadal {
namespace {

constexpr double kParameterTolerance = 0.02;

template <class T>
T required(const toml::table& table, const std::string& key, const std::string& where,
           const char* expected) {
  const auto value = table[key].value_exact<T>();
  HADAL_CHECK(value.has_value(), kUsage, where, ": ", key, " is missing or not ", expected);
  return *value;
}

template <class T>
std::vector<T> list_of(const toml::table& table, const std::string& key, const std::string& where,
                       const char* expected) {
  std::vector<T> out;
  if (!table.contains(key)) return out;
  const toml::array* list = table[key].as_array();
  HADAL_CHECK(list != nullptr, kUsage, where, ": ", key, " is not a list of ", expected);
  for (const toml::node& item : *list) {
    const auto value = item.value_exact<T>();
    HADAL_CHECK(value.has_value(), kUsage, where, ": ", key, " is not a list of ", expected);
    out.push_back(*value);
  }
  return out;
}

void check_keys(const toml::table& table, const std::set<std::string_view>& known,
                const std::string& where) {
  for (const auto& [key, node] : table) {
    std::string all;
    for (const std::string_view k : known) all += str(all.empty() ? "" : ", ", k);
    HADAL_CHECK(known.contains(key.str()), kUsage, where, ": no such key: ", key.str(),
                "; there are: ", all);
  }
}

AblationPlan::Variant variant_of(const toml::node& node, const fs::path& folder,
                                 const toml::table& plan, const std::string& where) {
  const toml::table* table = node.as_table();
  HADAL_CHECK(table != nullptr, kUsage, where, ": variant is not a table; write [[variant]]");
  check_keys(*table, {"name", "base", "set"}, where + ": variant");
  AblationPlan::Variant v;
  v.name = required<std::string>(*table, "name", where + ": variant", "a string");
  v.sets = list_of<std::string>(*table, "set", where + ": variant " + v.name, "strings");
  const toml::table& with_base = table->contains("base") ? *table : plan;
  v.base = folder / required<std::string>(with_base, "base", where, "a string");
  const bool plain = v.name.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789_.+-") == std::string::npos;
  HADAL_CHECK(!v.name.empty() && plain && v.name[0] != '.', kUsage, where, ": variant \"", v.name,
              "\": a name is made of letters, digits and _ . + -, for a folder has it too");
  return v;
}

// "variants" are names; without them, all.
AblationPlan::Evaluate evaluate_of(const toml::node& node, const AblationPlan& plan,
                                   const std::string& where) {
  const toml::table* table = node.as_table();
  HADAL_CHECK(table != nullptr, kUsage, where, ": evaluate is not a table; write [[evaluate]]");
  check_keys(*table, {"name", "set", "variants"}, where + ": evaluate");
  AblationPlan::Evaluate e;
  e.name = required<std::string>(*table, "name", where + ": evaluate", "a string");
  const std::string mine = where + ": evaluate " + e.name;
  e.sets = list_of<std::string>(*table, "set", mine, "strings");
  const bool all = !table->contains("variants");
  const auto wanted = list_of<std::string>(*table, "variants", mine, "strings");
  HADAL_CHECK(all || !wanted.empty(), kUsage, mine, ": variants names none");
  std::set<std::string> left(wanted.begin(), wanted.end());
  for (size_t v = 0; v < plan.variants.size(); ++v) {
    if (left.erase(plan.variants[v].name) > 0 || all) e.variants.push_back(v);
  }
  HADAL_CHECK(left.empty(), kUsage, mine, ": no such variant: ", *left.begin());
  return e;
}

toml::table parse_plan_file(const fs::path& path) {
  const std::string text = read_file(path, 1 << 20);
  try {
    return toml::parse(std::string_view(text), std::string_view(path.native()));
  } catch (const toml::parse_error& e) {
    throw Error(ErrorKind::kUsage, str(path.string(), ":", e.source().begin.line, ":",
                                       e.source().begin.column, ": ", e.description()));
  }
}

int64_t tokens_of(const TrainRecipe& r) {
  return RunSchedule(r).tokens_before(r.run.steps);
}

int64_t parameters_of(const TrainRecipe& recipe) {
  HADAL_CHECK(!recipe.data.tokenizer.empty(), kUsage, "the recipe's data.tokenizer is missing");
  const Tokenizer t = Tokenizer::load(recipe.data.tokenizer);
  const ModelConfig config =
      recipe_model(recipe, {t.vocab_size(), t.bos_id(), t.eos_id(), t.pad_id()});
  return inspect_model(config).parts.total();
}

void check_comparable(const AblationPlan& plan, const std::vector<AblationRun>& runs) {
  const TrainRecipe& first = runs[0].recipe;
  const std::string& first_name = plan.variants[0].name;
  const int64_t parameters = parameters_of(first), tokens = tokens_of(first);
  for (size_t v = 0; v < plan.variants.size(); ++v) {  // the first runs are those of one seed
    const TrainRecipe& r = runs[v].recipe;
    const std::string& name = plan.variants[v].name;
    HADAL_CHECK(!r.data.valid.empty() || r.data.valid_share > 0, kUsage, plan.name, ": variant ",
                name, " holds no text out to be compared on: set data.valid or data.valid_share");
    HADAL_CHECK(tokens_of(r) == tokens, kUsage, plan.name, ": variant ", name, " trains on ",
                tokens_of(r), " tokens, ", first_name, " on ", tokens, "; expected as many");
    const int64_t mine = parameters_of(r);
    const double away = std::abs(static_cast<double>(mine - parameters));
    HADAL_CHECK(
        plan.any_parameters || away <= kParameterTolerance * static_cast<double>(parameters),
        kUsage, plan.name, ": variant ", name, " has ", mine, " parameters, ", first_name, " ",
        parameters, ": more than 2% apart (parameters = \"any\" allows it)");
  }
}

// Before the first step rather than after the last one.
void check_evaluations(const AblationPlan& plan, const std::vector<AblationRun>& runs) {
  for (const AblationPlan::Evaluate& e : plan.evaluations) {
    for (const size_t v : e.variants) parameters_of(evaluation_recipe(plan, e, runs[v]));
  }
}

}  // namespace

AblationPlan load_plan(const fs::path& path) {
  const std::string where = path.string();
  const toml::table table = parse_plan_file(path);
  check_keys(
      table,
      {"question", "base", "seeds", "slice_steps", "parameters", "set", "variant", "evaluate"},
      where);
  AblationPlan plan;
  plan.name = path.stem().string();
  plan.question = table["question"].value_or(std::string());
  if (table.contains("seeds")) plan.seeds = list_of<int64_t>(table, "seeds", where, "integers");
  HADAL_CHECK(!plan.seeds.empty() &&
                  std::set(plan.seeds.begin(), plan.seeds.end()).size() == plan.seeds.size(),
              kUsage, where, ": seeds names none, or one twice");
  if (table.contains("slice_steps")) {
    plan.slice_steps = required<int64_t>(table, "slice_steps", where, "an integer");
  }
  HADAL_CHECK(plan.slice_steps > 0, kUsage, where, ": slice_steps is ", plan.slice_steps,
              ", expected at least 1");
  const std::string parameters = table["parameters"].value_or(std::string("equal"));
  HADAL_CHECK(parameters == "equal" || parameters == "any", kUsage, where, ": parameters is \"",
              parameters, "\", expected equal or any");
  plan.any_parameters = parameters == "any";
  plan.sets = list_of<std::string>(table, "set", where, "strings");
  const toml::array* variants = table["variant"].as_array();
  HADAL_CHECK(variants != nullptr && variants->size() >= 2, kUsage, where,
              ": expected at least two [[variant]]s");
  std::set<std::string> names;
  for (const toml::node& node : *variants) {
    plan.variants.push_back(variant_of(node, path.parent_path(), table, where));
    HADAL_CHECK(names.insert(plan.variants.back().name).second, kUsage, where, ": variant ",
                plan.variants.back().name, " is there twice");
  }
  if (!table.contains("evaluate")) return plan;
  const toml::array* evaluations = table["evaluate"].as_array();
  HADAL_CHECK(evaluations != nullptr, kUsage, where,
              ": evaluate is not a list; write [[evaluate]]");
  for (const toml::node& node : *evaluations) {
    plan.evaluations.push_back(evaluate_of(node, plan, where));
  }
  return plan;
}

TrainRecipe evaluation_recipe(const AblationPlan& plan, const AblationPlan::Evaluate& evaluate,
                              const AblationRun& run) {
  std::vector<std::string> all = run.sets;
  all.insert(all.end(), evaluate.sets.begin(), evaluate.sets.end());
  TrainRecipe recipe = load_recipe(plan.variants[run.variant].base, all);
  recipe.run.seed = run.seed;
  return recipe;
}

std::vector<AblationRun> ablation_runs(const AblationPlan& plan, const fs::path& out,
                                       const std::vector<std::string>& sets) {
  std::vector<AblationRun> runs;
  for (const int64_t seed : plan.seeds) {
    for (size_t v = 0; v < plan.variants.size(); ++v) {
      const AblationPlan::Variant& variant = plan.variants[v];
      std::vector<std::string> all = plan.sets;
      all.insert(all.end(), variant.sets.begin(), variant.sets.end());
      all.insert(all.end(), sets.begin(), sets.end());
      AblationRun run{v, seed, all, load_recipe(variant.base, all)};
      run.recipe.run.seed = seed;
      run.recipe.run.keep = 1;
      run.recipe.run.checkpoint_every = 0;  // at the end of each slice
      run.recipe.run.out = (out / str(variant.name, "-", seed)).string();
      runs.push_back(std::move(run));
    }
  }
  check_comparable(plan, runs);
  check_evaluations(plan, runs);
  return runs;
}

}  // namespace hadal

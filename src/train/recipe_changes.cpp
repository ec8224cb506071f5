// What may change in the recipe of a run that goes on.
#include <algorithm>
#include <map>
#include <set>

#include "train/recipe.h"

namespace hadal {
namespace {

// Every key of a recipe.json with its value as text; the table [model] as model.x.
std::map<std::string, std::string> flattened(const Json& recipe) {
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : recipe.items()) {
    if (key != "model" || !value.is_object()) {
      out[key] = value.dump();
      continue;
    }
    for (const auto& [name, item] : value.items()) out["model." + name] = item.dump();
  }
  return out;
}

bool may_change(const std::string& path) {
  const auto keys = recipe_keys();
  return std::ranges::any_of(
      keys, [&](const RecipeKey& key) { return key.path == path && key.may_change; });
}

std::string described(const RecipeChange& c) {
  if (c.before.empty()) return str("knows no ", c.key, ", which is ", c.now, " now");
  if (c.now.empty()) return str("has ", c.key, " = ", c.before, ", which is not there now");
  return str("has ", c.key, " = ", c.before, ", which is ", c.now, " now");
}

}  // namespace

std::vector<RecipeChange> recipe_changes(const TrainRecipe& now, const Json& saved) {
  const std::map<std::string, std::string> before = flattened(saved);
  const std::map<std::string, std::string> after = flattened(Json::parse(recipe_json(now).dump()));
  std::set<std::string> keys;
  for (const auto& [key, value] : before) keys.insert(key);
  for (const auto& [key, value] : after) keys.insert(key);
  std::vector<RecipeChange> changes;
  for (const std::string& key : keys) {
    const auto was = before.find(key), is = after.find(key);
    const RecipeChange change{key, was == before.end() ? "" : was->second,
                              is == after.end() ? "" : is->second};
    if (change.before != change.now && !may_change(key)) changes.push_back(change);
  }
  return changes;
}

void check_resume(const TrainRecipe& now, const Json& saved, std::span<const std::string> allowed) {
  std::set<std::string> known{"model"};
  for (const auto& [key, value] : flattened(saved)) known.insert(key);
  for (const auto& [key, value] : flattened(Json::parse(recipe_json(now).dump()))) {
    known.insert(key);
  }
  for (const std::string& key : allowed) {
    HADAL_CHECK(known.count(key) > 0, kUsage, "--allow ", key,
                ": neither the recipe nor the checkpoint's has this key");
  }
  const auto is_allowed = [&](const std::string& key) {
    return std::ranges::find(allowed, key) != allowed.end();
  };
  for (const RecipeChange& change : recipe_changes(now, saved)) {
    const bool of_model = change.key.starts_with("model.");
    if (is_allowed(change.key) || (of_model && is_allowed("model"))) continue;
    throw Error(ErrorKind::kUsage, str("the recipe of the checkpoint ", described(change),
                                       ": the run would not go on as it began; --allow ",
                                       change.key, " lets it go on with the change"));
  }
}

}  // namespace hadal

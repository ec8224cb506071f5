#include "train/checkpoint.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "core/hash.h"
#include "core/json.h"
#include "io/checkpoint.h"
#include "model/pretrained.h"
#include "model/weights.h"
#include "train/manifest.h"

namespace hadal {
namespace {

constexpr int64_t kMaxJsonBytes = 16 << 20;
constexpr int64_t kSmallFileBytes = 64 << 10;  // config, recipe, state, manifest, headers

// ---- what a checkpoint holds beside the weights

struct StateTensor {
  std::string name;
  DType dtype;
  std::span<std::byte> bytes;
  int64_t size() const { return static_cast<int64_t>(bytes.size()) / dtype_size(dtype); }
};

constexpr const char* kStateFile = "optimizer.safetensors";
constexpr const char* kAverage = "ema.";  // + the parameter's name

std::span<std::byte> bytes_of(Out1 numbers) {
  return std::as_writable_bytes(std::span(numbers.data(), static_cast<size_t>(numbers.size())));
}

// The one list of tensors: who adds a kind of them adds a line.
std::vector<StateTensor> state_tensors(Trainer& trainer) {
  std::vector<StateTensor> list;
  const DType moments = trainer.optimizer().moments();
  Ema* ema = trainer.ema();
  for (const Param& p : trainer.model().params().all()) {
    if (ema != nullptr) list.push_back({kAverage + p.name, DType::kF32, bytes_of(ema->of(p))});
    if (p.gradient == nullptr) continue;
    list.push_back({"first." + p.name, moments, trainer.optimizer().first_moment(p)});
    list.push_back({"second." + p.name, moments, trainer.optimizer().second_moment(p)});
  }
  return list;
}

// The one list of numbers. The data's place is `row`; whatever is drawn at random is a function of
// the recipe's seed and of row or step.
template <class State, class Fn>
void for_each_number(State& state, Fn fn) {
  fn("step", state.step);
  fn("row", state.row);
  fn("tokens", state.tokens);
  fn("not_applied", state.not_applied);
  fn("not_applied_in_a_row", state.not_applied_in_a_row);
}

// What must be the same for a row to be what it was.
OrderedJson data_json(Trainer& trainer) {
  return {{"tokens", trainer.data().tokens()}, {"xxh64", hex64(trainer.data().content())}};
}

OrderedJson state_json(Trainer& trainer) {
  OrderedJson json;
  for_each_number(trainer.state(), [&](const char* key, int64_t value) { json[key] = value; });
  json["updates"] = trainer.optimizer().updates();
  json["data"] = data_json(trainer);
  json["expert_load"] = OrderedJson::array();
  for (const MoeLoad& load : trainer.last_loads()) {
    json["expert_load"].push_back({{"layer", load.layer}, {"counts", load.counts}});
  }
  return json;
}

// ---- files

void write_json(const fs::path& path, const OrderedJson& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

Json read_json(const fs::path& path) {
  return parse_json(read_file(path, kMaxJsonBytes), path.string());
}

void write_tensors(Trainer& trainer, const fs::path& path) {
  const std::vector<StateTensor> tensors = state_tensors(trainer);
  std::vector<TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const StateTensor& t : tensors) specs.push_back({t.name, t.dtype, {t.size()}});
  SafetensorsWriter writer(path, specs);
  for (const StateTensor& t : tensors) writer.write(t.name, t.bytes);
  writer.finish();
}

void read_tensor(const SafetensorsFile& file, const StateTensor& t) {
  const TensorInfo* info = file.find(t.name);
  HADAL_CHECK(info != nullptr && info->dtype == t.dtype && info->size() == t.size(), kFormat,
              file.path().string(), ": tensor \"", t.name, "\" is missing, or not ", t.size(),
              " numbers of ", dtype_name(t.dtype));
  file.read(*info, 0, t.bytes);
}

void read_tensors(const fs::path& path, Trainer& trainer) {
  if (trainer.ema() != nullptr) trainer.ema()->wait();
  const SafetensorsFile file(path);
  for (const StateTensor& t : state_tensors(trainer)) read_tensor(file, t);
}

void read_state(const fs::path& path, Trainer& trainer) {
  const Json state = read_json(path);
  const auto entry = [&](const char* key) -> const Json& {
    const auto found = json_object(state, path.string()).find(key);
    HADAL_CHECK(found != state.end(), kFormat, path.string(), " has no key ", key);
    return *found;
  };
  const auto where = [&](const char* key) { return str(path.string(), ": ", key); };
  Trainer::State numbers;
  for_each_number(
      numbers, [&](const char* key, int64_t& value) { value = json_int(entry(key), where(key)); });
  std::vector<MoeLoad> loads;
  for (const Json& load : json_array(entry("expert_load"), where("expert_load"))) {
    loads.push_back({json_int(load.value("layer", Json()), where("layer")),
                     load.value("counts", std::vector<int64_t>())});
  }
  trainer.optimizer().set_updates(json_int(entry("updates"), where("updates")));
  trainer.set_last_loads(std::move(loads));
  trainer.set_state(numbers);
}

void check_data(const fs::path& state, Trainer& trainer, std::span<const std::string> allowed) {
  if (std::ranges::find(allowed, "data.train") != allowed.end()) return;
  const Json before = read_json(state).value("data", Json());
  const Json now = Json::parse(data_json(trainer).dump());
  HADAL_CHECK(before == now, kUsage,
              "the training data are not those the run began with: ", now.dump(), " now, ",
              before.dump(), " then; --allow data.train lets it go on with them");
}

// ---- folders

fs::path folder_of(const fs::path& run, int64_t step) {
  return run / "checkpoints" / str("step-", step);
}

// Names that no reader takes: see remove_unfinished_checkpoints.
fs::path temporary_of(const fs::path& folder, std::string_view suffix) {
  return str(folder.string(), ".tmp-", ::getpid(), suffix);
}

void write_all(Trainer& trainer, const fs::path& folder, const fs::path& tokenizer) {
  const int64_t step = trainer.state().step;
  SaveOptions options;
  options.tokenizer = tokenizer;
  save_pretrained(trainer.model(), folder, options);
  write_tensors(trainer, folder / kStateFile);
  write_json(folder / "recipe.json", recipe_json(trainer.recipe()));
  write_json(folder / "state.json", state_json(trainer));
  OrderedJson facts{
      {"step", step}, {"row", trainer.state().row}, {"seed", trainer.recipe().run.seed}};
  const auto& evaluation = trainer.last_evaluation();
  if (evaluation && evaluation->step == step) facts["bits_per_byte"] = evaluation->bits_per_byte;
  write_manifest(folder, facts);
}

// After an error that says more than one here would; resuming removes what is left.
void try_to_remove(const fs::path& folder) {
  try {
    remove_folder(folder);
  } catch (const Error&) {
  }
}

// First under another name: what is removed in part must not look like a checkpoint.
void remove_checkpoint(const fs::path& folder) {
  const fs::path away = temporary_of(folder, "-old");
  try {
    remove_folder(away);
    rename_folder(folder, away);
    remove_folder(away);
  } catch (...) {
    try_to_remove(away);
    throw;
  }
}

// The step with the least bits per byte of held-out text; the later of two that have the same.
std::optional<int64_t> best_step(const fs::path& run, std::span<const int64_t> steps) {
  std::optional<int64_t> best;
  double least = 0;
  for (const int64_t step : steps) {
    try {
      const Json facts = read_manifest(folder_of(run, step));
      const Json bits = facts.value("bits_per_byte", Json());
      if (!bits.is_number() || (best && bits.get<double>() >= least)) continue;
      best = step;
      least = bits.get<double>();
    } catch (const Error&) {  // damaged: it is no candidate, and resuming will say so
    }
  }
  return best;
}

void remove_old(const fs::path& run, int64_t keep, int64_t just_written) {
  std::vector<int64_t> steps = checkpoint_steps(run);
  std::erase_if(steps, [&](int64_t step) { return step > just_written; });
  const std::optional<int64_t> best = best_step(run, steps);
  for (size_t i = static_cast<size_t>(keep); i < steps.size(); ++i) {
    if (steps[i] != best) remove_checkpoint(folder_of(run, steps[i]));
  }
}

}  // namespace

fs::path save_checkpoint(Trainer& trainer, const fs::path& run, const fs::path& tokenizer) {
  const int64_t step = trainer.state().step;
  const fs::path final = folder_of(run, step), temporary = temporary_of(final, "");
  HADAL_CHECK(!fs::exists(final), kUsage, final.string(), " is there already");
  try {
    remove_folder(temporary);  // a leftover of a process that had this number
    make_folder(temporary);
    write_all(trainer, temporary, tokenizer);
    rename_folder(temporary, final);
  } catch (...) {
    try_to_remove(temporary);
    throw;
  }
  remove_old(run, trainer.recipe().run.keep, step);
  return final;
}

void load_checkpoint(Trainer& trainer, const fs::path& checkpoint,
                     std::span<const std::string> allowed) {
  check_manifest(checkpoint);
  check_resume(trainer.recipe(), read_json(checkpoint / "recipe.json"), allowed);
  check_data(checkpoint / "state.json", trainer, allowed);
  const Checkpoint weights = Checkpoint::open(checkpoint);
  for (Param& p : trainer.model().params().all()) {
    const Out1 value = p.vec_mut();
    read_weight(weights, p.name, p.shape,
                std::span<float>(value.data(), static_cast<size_t>(value.size())));
  }
  trainer.weights_changed();
  read_tensors(checkpoint / kStateFile, trainer);
  read_state(checkpoint / "state.json", trainer);
}

void load_averages(Transformer& model, const fs::path& checkpoint) {
  check_manifest(checkpoint);
  const SafetensorsFile file(checkpoint / kStateFile);
  for (const Param& p : model.params().all()) {
    HADAL_CHECK(file.find(kAverage + p.name) != nullptr, kUsage, checkpoint.string(),
                " holds no averaged weights: the run's optim.ema is 0");
    read_tensor(file, {kAverage + p.name, DType::kF32, bytes_of(p.vec_mut())});
  }
}

int64_t checkpoint_bytes(Trainer& trainer, const fs::path& tokenizer) {
  int64_t bytes = pretrained_bytes(trainer.model(), DType::kF32) + kSmallFileBytes;
  for (const StateTensor& t : state_tensors(trainer)) {
    bytes += static_cast<int64_t>(t.bytes.size());
  }
  std::error_code error;
  if (tokenizer.empty()) return bytes;
  const fs::path file =
      fs::is_directory(tokenizer, error) ? tokenizer / "tokenizer.json" : tokenizer;
  return bytes + InputFile(file).size();
}

void remove_unfinished_checkpoints(const fs::path& run) {
  if (!fs::exists(run / "checkpoints")) return;
  for (const fs::path& path : list_folder(run / "checkpoints")) {
    const std::string name = path.filename().string();
    if (name.starts_with("step-") && name.find(".tmp-") != std::string::npos) remove_folder(path);
  }
}

std::vector<int64_t> checkpoint_steps(const fs::path& run) {
  std::vector<int64_t> steps;
  if (!fs::exists(run / "checkpoints")) return steps;
  for (const fs::path& path : list_folder(run / "checkpoints")) {
    const std::string name = path.filename().string();
    if (!name.starts_with("step-")) continue;
    int64_t step = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + 5, end, step);
    if (parsed.ec == std::errc() && parsed.ptr == end) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::optional<fs::path> newest_checkpoint(const fs::path& run,
                                          std::vector<std::string>& passed_over) {
  const std::vector<int64_t> steps = checkpoint_steps(run);
  for (const int64_t step : steps) {
    const fs::path folder = folder_of(run, step);
    if (of_another_version(folder)) read_manifest(folder);  // says so
    try {
      check_manifest(folder);
      return folder;
    } catch (const Error& e) {
      passed_over.push_back(str(folder.string(), " is passed over: ", e.what()));
    }
  }
  HADAL_CHECK(steps.empty(), kFormat, "no checkpoint of ", run.string(),
              " is whole: ", passed_over.back());
  return std::nullopt;
}

void set_aside_checkpoints_after(const fs::path& run, int64_t step) {
  for (const int64_t later : checkpoint_steps(run)) {
    if (later <= step) continue;
    const fs::path folder = folder_of(run, later), aside = folder.string() + ".damaged";
    remove_folder(aside);
    rename_folder(folder, aside);
  }
}

fs::path checkpoint_of_step(const fs::path& run, int64_t step) {
  std::string there;
  for (const int64_t s : checkpoint_steps(run)) {
    if (s == step) {
      check_manifest(folder_of(run, step));
      return folder_of(run, step);
    }
    there += str(there.empty() ? "" : ", ", s);
  }
  throw Error(ErrorKind::kUsage, str(run.string(), " has no checkpoint of step ", step, "; there ",
                                     there.empty() ? "are none" : "are: " + there));
}

}  // namespace hadal

#include "train/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "core/hash.h"
#include "core/json.h"
#include "io/checkpoint.h"
#include "model/pretrained.h"
#include "model/weights.h"

namespace hadal {
namespace {

constexpr std::string_view kManifest = "manifest.json";
constexpr const char* kEmaFile = "ema.safetensors";
constexpr std::string_view kFormat = "hadal-checkpoint-1";
constexpr int64_t kMaxJsonBytes = 16 << 20;

[[noreturn]] void fail(std::string_view what, const fs::path& path, int reason) {
  throw Error(ErrorKind::kIo, str("cannot ", what, " ", path.string(), ": ",
                                  std::generic_category().message(reason)));
}

void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("open folder", folder, errno);
  const int result = ::fsync(fd);
  const int reason = errno;
  ::close(fd);
  if (result != 0 && reason != EINVAL) fail("sync folder", folder, reason);
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) fail("remove", folder, error.value());
}

std::span<const std::byte> bytes_of(In1 numbers) {
  return std::as_bytes(std::span(numbers.data(), static_cast<size_t>(numbers.size())));
}

void write_json(const fs::path& path, const OrderedJson& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

Json read_json(const fs::path& path) {
  return parse_json(read_file(path, kMaxJsonBytes), path.string());
}

void write_moments(Trainer& trainer, const fs::path& path) {
  const DType dtype = trainer.optimizer().moments();
  std::vector<TensorSpec> specs;
  const auto& params = trainer.model().params().all();
  for (const Param& p : params) {
    if (p.gradient == nullptr) continue;
    specs.push_back({"first." + p.name, dtype, p.shape});
    specs.push_back({"second." + p.name, dtype, p.shape});
  }
  SafetensorsWriter writer(path, specs);
  for (const Param& p : params) {
    if (p.gradient == nullptr) continue;
    writer.write("first." + p.name, trainer.optimizer().first_moment(p));
    writer.write("second." + p.name, trainer.optimizer().second_moment(p));
  }
  writer.finish();
}

void write_ema(Trainer& trainer, const fs::path& path) {
  std::vector<TensorSpec> specs;
  const auto& params = trainer.model().params().all();
  for (const Param& p : params) specs.push_back({p.name, DType::kF32, p.shape});
  SafetensorsWriter writer(path, specs);
  for (const Param& p : params) writer.write(p.name, bytes_of(trainer.ema()->of(p)));
  writer.finish();
}

void read_tensor(const SafetensorsFile& file, const std::string& name, DType dtype,
                 std::span<std::byte> out) {
  const TensorInfo* info = file.find(name);
  HADAL_CHECK(info != nullptr && info->dtype == dtype &&
                  info->size() * dtype_size(dtype) == static_cast<int64_t>(out.size()),
              kFormat, file.path().string(), ": tensor \"", name, "\" is missing, or not ",
              static_cast<int64_t>(out.size()) / dtype_size(dtype), " numbers of ",
              dtype_name(dtype));
  file.read(*info, 0, out);
}

std::span<std::byte> writable_bytes(Out1 numbers) {
  return std::as_writable_bytes(std::span(numbers.data(), static_cast<size_t>(numbers.size())));
}

OrderedJson state_json(Trainer& trainer) {
  const Trainer::State& s = trainer.state();
  return {{"step", s.step},
          {"row", s.row},
          {"tokens", s.tokens},
          {"not_applied", s.not_applied},
          {"updates", trainer.optimizer().updates()}};
}

// Lists every file with size and hash; written last, so a set that has one was written whole.
void write_manifest(const fs::path& folder, int64_t step) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  OrderedJson list = OrderedJson::array();
  for (const fs::path& file : files) {
    list.push_back({{"name", file.filename().string()},
                    {"size", InputFile(file).size()},
                    {"xxh64", hex64(hash_file(file))}});
  }
  write_json(folder / kManifest, {{"format", kFormat}, {"step", step}, {"files", list}});
}

// Why the set is not whole; empty when it is.
std::string damage(const fs::path& folder, bool hashes) {
  try {
    const std::string where = (folder / kManifest).string();
    const Json manifest = json_object(read_json(folder / kManifest), where);
    if (manifest.value("format", "") != kFormat) return "its manifest is of another format";
    for (const Json& file : json_array(manifest.at("files"), where)) {
      const std::string name = json_string(file.at("name"), where);
      if (name.find('/') != std::string::npos) return "its manifest names " + name;
      if (InputFile(folder / name).size() != json_int(file.at("size"), where)) {
        return name + " has another size";
      }
      if (hashes && hex64(hash_file(folder / name)) != json_string(file.at("xxh64"), where)) {
        return name + " has another hash: the file is damaged";
      }
    }
  } catch (const Error& e) {
    return e.what();
  } catch (const Json::exception&) {
    return "its manifest lacks a key";
  }
  return {};
}

// Steps of RUN/checkpoints/step-N, highest first.
std::vector<int64_t> steps_of(const fs::path& run) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step-")) continue;
    int64_t step = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + 5, end, step);
    if (parsed.ec == std::errc() && parsed.ptr == end) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

fs::path folder_of(const fs::path& run, int64_t step) {
  return run / "checkpoints" / str("step-", step);
}

void remove_old(const fs::path& run, int64_t keep, int64_t just_written) {
  int64_t kept = 0;
  for (const int64_t step : steps_of(run)) {
    if (step == just_written || ++kept < keep) continue;
    remove_folder(folder_of(run, step));
  }
}

}  // namespace

fs::path save_checkpoint(Trainer& trainer, const fs::path& run, const fs::path& tokenizer) {
  const int64_t step = trainer.state().step;
  const fs::path final = folder_of(run, step);
  const fs::path temporary = str(final.string(), ".tmp-", ::getpid());
  make_folder(temporary);
  SaveOptions options;
  options.tokenizer = tokenizer;
  save_pretrained(trainer.model(), temporary, options);
  write_moments(trainer, temporary / "optimizer.safetensors");
  if (trainer.ema() != nullptr) write_ema(trainer, temporary / kEmaFile);
  write_json(temporary / "recipe.json", recipe_json(trainer.recipe()));
  write_json(temporary / "state.json", state_json(trainer));
  write_manifest(temporary, step);
  sync_folder(temporary);
  if (fs::exists(final)) remove_folder(final);
  if (::rename(temporary.c_str(), final.c_str()) != 0) fail("rename", temporary, errno);
  sync_folder(final.parent_path());
  remove_old(run, trainer.recipe().run.keep, step);
  return final;
}

void load_checkpoint(Trainer& trainer, const fs::path& checkpoint) {
  const std::string wrong = damage(checkpoint, true);
  HADAL_CHECK(wrong.empty(), kFormat, "checkpoint ", checkpoint.string(), ": ", wrong);
  const std::string obstacle =
      resume_obstacle(trainer.recipe(), read_json(checkpoint / "recipe.json"));
  HADAL_CHECK(obstacle.empty(), kUsage, "checkpoint ", checkpoint.string(),
              " was made with another ", obstacle, ", which may not change when a run goes on");

  if (trainer.ema() != nullptr) trainer.ema()->wait();
  const Checkpoint weights = Checkpoint::open(checkpoint);
  const SafetensorsFile moments(checkpoint / "optimizer.safetensors");
  for (Param& p : trainer.model().params().all()) {
    const Out1 value = p.vec_mut();
    read_weight(weights, p.name, p.shape,
                std::span<float>(value.data(), static_cast<size_t>(value.size())));
    if (p.gradient == nullptr) continue;
    const DType dtype = trainer.optimizer().moments();
    read_tensor(moments, "first." + p.name, dtype, trainer.optimizer().first_moment(p));
    read_tensor(moments, "second." + p.name, dtype, trainer.optimizer().second_moment(p));
  }
  if (Ema* ema = trainer.ema(); ema != nullptr) {
    const SafetensorsFile averages(checkpoint / kEmaFile);
    for (const Param& p : trainer.model().params().all()) {
      const Out1 average = ema->of(p);
      read_tensor(averages, p.name, DType::kF32, writable_bytes(average));
    }
  }
  const fs::path state_path = checkpoint / "state.json";
  const Json state = read_json(state_path);
  const auto number = [&](const char* key) {
    const auto found = json_object(state, state_path.string()).find(key);
    HADAL_CHECK(found != state.end(), kFormat, state_path.string(), " has no key ", key);
    return json_int(*found, str(state_path.string(), ": ", key));
  };
  trainer.set_state({number("step"), number("row"), number("tokens"), number("not_applied")});
  trainer.optimizer().set_updates(number("updates"));
}

void load_averages(Transformer& model, const fs::path& checkpoint) {
  const std::string wrong = damage(checkpoint, true);
  HADAL_CHECK(wrong.empty(), kFormat, "checkpoint ", checkpoint.string(), ": ", wrong);
  HADAL_CHECK(fs::exists(checkpoint / kEmaFile), kUsage, checkpoint.string(),
              " holds no averaged weights: the run's optim.ema is 0");
  const SafetensorsFile averages(checkpoint / kEmaFile);
  for (const Param& p : model.params().all()) {
    read_tensor(averages, p.name, DType::kF32, writable_bytes(p.vec_mut()));
  }
}

void remove_unfinished_checkpoints(const fs::path& run) {
  std::error_code error;
  std::vector<fs::path> unfinished;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.find(".tmp-") != std::string::npos) {
      unfinished.push_back(entry.path());
    }
  }
  for (const fs::path& folder : unfinished) remove_folder(folder);
}

std::optional<fs::path> newest_checkpoint(const fs::path& run,
                                          std::vector<std::string>& passed_over) {
  for (const int64_t step : steps_of(run)) {
    const fs::path folder = folder_of(run, step);
    const std::string wrong = damage(folder, false);
    if (wrong.empty()) return folder;
    passed_over.push_back(str(folder.string(), " is passed over: ", wrong));
  }
  return std::nullopt;
}

fs::path checkpoint_of_step(const fs::path& run, int64_t step) {
  std::string there;
  for (const int64_t s : steps_of(run)) {
    if (s == step) return folder_of(run, step);
    there += str(there.empty() ? "" : ", ", s);
  }
  throw Error(ErrorKind::kUsage, str(run.string(), " has no checkpoint of step ", step, "; there ",
                                     there.empty() ? "are none" : "are: " + there));
}

}  // namespace hadal

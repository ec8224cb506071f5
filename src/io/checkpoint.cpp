#include "io/checkpoint.h"

#include <system_error>

#include "core/error.h"
#include "io/model_file.h"

namespace hadal {
namespace {

constexpr int64_t kMaxIndexBytes = int64_t{1} << 28;

// A link that leads nowhere exists too: opening it says what is wrong.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

bool is_pickle(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt" ||
         extension == ".pkl";
}

[[noreturn]] void refuse_pickle(const fs::path& path) {
  throw Error(ErrorKind::kIo,
              str(path.string(), " is a pickle file, which can run any program when it is read; ",
                  "expected *.safetensors. Where you trust it, convert it once with transformers: ",
                  "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"));
}

[[noreturn]] void refuse_without_weights(const fs::path& folder) {
  fs::path shard;
  for (const fs::path& path : list_folder(folder)) {
    if (is_pickle(path)) refuse_pickle(path);
    if (path.extension() == ".safetensors") shard = path.filename();
  }
  HADAL_CHECK(shard.empty(), kIo, folder.string(), " holds ", quote_name(shard.string()),
              " but neither ", kCheckpointFile, " nor ", kCheckpointIndexFile,
              ": a copy that was interrupted?");
  throw Error(ErrorKind::kIo, str(folder.string(), " holds neither ", kCheckpointFile, " nor ",
                                  kCheckpointIndexFile));
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    HADAL_CHECK(is_there(folder), kIo, folder.string(), ": no such folder");
    if (is_pickle(folder)) refuse_pickle(folder);
    throw Error(ErrorKind::kIo, str(folder.string(), " is not a folder; expected a folder with ",
                                    kCheckpointFile, " or ", kCheckpointIndexFile));
  }
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  if (is_there(folder / kCheckpointFile)) {
    checkpoint.add_shard(folder / kCheckpointFile, nullptr);
  } else if (is_there(folder / kCheckpointIndexFile)) {
    checkpoint.add_all_shards(folder / kCheckpointIndexFile);
  } else {
    refuse_without_weights(folder);
  }
  return checkpoint;
}

void Checkpoint::add_all_shards(const fs::path& path) {
  const CheckpointIndex index = parse_index(read_model_file(path, kMaxIndexBytes), path.string());
  std::map<std::string, std::string> files;  // file -> one of its tensors
  for (const auto& [tensor, file] : index.weight_map) files.emplace(file, tensor);
  for (const auto& [file, tensor] : files) {
    HADAL_CHECK(is_there(folder_ / file), kIo, path.string(), ": shard ", quote_name(file),
                " is missing; it should hold tensor ", quote_name(tensor));
    add_shard(folder_ / file, &index);
  }
  for (const auto& [tensor, file] : index.weight_map) {
    HADAL_CHECK(contains(tensor), kFormat, path.string(), ": tensor ", quote_name(tensor),
                " is not in shard ", quote_name(file), ", where weight_map says it is");
  }
  check_total_size(index, path);
}

void Checkpoint::add_shard(const fs::path& path, const CheckpointIndex* index) {
  const auto& shard = *shards_.emplace_back(std::make_unique<SafetensorsFile>(path));
  for (const TensorInfo& tensor : shard.tensors()) {
    if (index != nullptr) {
      const auto named = index->weight_map.find(tensor.name);
      HADAL_CHECK(named != index->weight_map.end(), kFormat, shard.where(tensor), " is not in ",
                  kCheckpointIndexFile);
      HADAL_CHECK(named->second == path.filename(), kFormat, shard.where(tensor), ", but ",
                  kCheckpointIndexFile, " says that it is in ", quote_name(named->second));
    }
    entries_.emplace(tensor.name, Entry{&shard, &tensor});
    total_bytes_ += tensor.bytes();
    total_numbers_ += tensor.size();
  }
}

// The files of DeepSeek-V3 itself say two bytes for every number, though most have one.
void Checkpoint::check_total_size(const CheckpointIndex& index, const fs::path& path) const {
  if (!index.total_size) return;
  HADAL_CHECK(*index.total_size == total_bytes_ || *index.total_size == 2 * total_numbers_, kFormat,
              path.string(), ": total_size is ", *index.total_size, ", but the tensors have ",
              total_bytes_, " bytes");
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.emplace_back(name);
  return names;
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second.info;
}

const Checkpoint::Entry& Checkpoint::entry(std::string_view name) const {
  const auto found = entries_.find(name);
  HADAL_CHECK(found != entries_.end(), kFormat, folder_.string(), ": tensor ", quote_name(name),
              " is missing");
  return found->second;
}

const TensorInfo& Checkpoint::at(std::string_view name) const {
  return *entry(name).info;
}

std::string Checkpoint::where(std::string_view name) const {
  const Entry& e = entry(name);
  return e.shard->where(*e.info);
}

std::span<const std::byte> Checkpoint::view(std::string_view name) const {
  const Entry& e = entry(name);
  return e.shard->view(*e.info);
}

void Checkpoint::check_intact() const {
  for (const auto& shard : shards_) shard->check_intact();
}

void Checkpoint::read(std::string_view name, int64_t offset, std::span<std::byte> out) const {
  const Entry& e = entry(name);
  e.shard->read(*e.info, offset, out);
}

}  // namespace hadal

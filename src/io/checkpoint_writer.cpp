#include <algorithm>
#include <array>
#include <cstdio>

#include "core/error.h"
#include "core/json.h"
#include "io/checkpoint.h"
#include "io/model_file.h"

namespace hadal {
namespace {

std::string shard_name(size_t number, size_t count) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "model-%05zu-of-%05zu.safetensors", number, count);
  return text.data();
}

// model-00001-of-00003.safetensors
bool is_shard_name(std::string_view name) {
  constexpr std::string_view kPattern = "model-#####-of-#####.safetensors";
  return std::equal(name.begin(), name.end(), kPattern.begin(), kPattern.end(),
                    [](char c, char p) { return p == '#' ? c >= '0' && c <= '9' : c == p; });
}

}  // namespace

CheckpointWriter::CheckpointWriter(const fs::path& folder, const std::vector<TensorSpec>& tensors,
                                   int64_t max_shard_bytes)
    : folder_(folder) {
  HADAL_CHECK(max_shard_bytes >= 1, kUsage, "shards of ", max_shard_bytes,
              " bytes, expected at least 1");
  std::vector<std::vector<TensorSpec>> shards(1);
  int64_t bytes = 0;
  for (const TensorSpec& t : tensors) {
    if (bytes + t.bytes() > max_shard_bytes && !shards.back().empty()) {
      shards.emplace_back();
      bytes = 0;
    }
    const bool added = places_.emplace(t.name, Place{t, shards.size() - 1}).second;
    HADAL_CHECK(added, kInternal, folder.string(), ": tensor ", quote_name(t.name),
                " was declared twice");
    shards.back().push_back(t);
    bytes += t.bytes();
    total_bytes_ += t.bytes();
  }
  make_folder(folder);
  for (size_t i = 0; i < shards.size(); ++i) {
    files_.push_back(shards.size() == 1 ? kCheckpointFile : shard_name(i + 1, shards.size()));
    shards_.emplace_back(folder / files_.back(), shards[i]);
  }
}

const CheckpointWriter::Place& CheckpointWriter::place(std::string_view name) const {
  const auto found = places_.find(name);
  HADAL_CHECK(found != places_.end(), kInternal, folder_.string(), ": tensor ", quote_name(name),
              " was not declared");
  return found->second;
}

const TensorSpec& CheckpointWriter::at(std::string_view name) const {
  return place(name).spec;
}

void CheckpointWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  shards_[place(name).shard].write(name, bytes);
}

// At no moment do a file and an index that do not belong together look like a model: a single file
// goes first when a folder is read, and shards without an index are not read at all.
void CheckpointWriter::finish() {
  for (const SafetensorsWriter& shard : shards_) shard.check_complete();
  const bool single = shards_.size() == 1;
  if (!single) remove_file(folder_ / kCheckpointIndexFile);
  for (SafetensorsWriter& shard : shards_) shard.finish();
  if (single) {
    remove_file(folder_ / kCheckpointIndexFile);
  } else {
    write_index();
    remove_file(folder_ / kCheckpointFile);
  }
  for (const fs::path& path : list_folder(folder_)) {
    const std::string name = path.filename().string();
    const bool ours = std::find(files_.begin(), files_.end(), name) != files_.end();
    if (is_shard_name(name) && !ours) remove_file(path);
  }
}

void CheckpointWriter::write_index() const {
  Json weight_map = Json::object();
  for (const auto& [name, place] : places_) weight_map[name] = files_[place.shard];
  const Json index{{"metadata", {{"total_size", total_bytes_}}}, {"weight_map", weight_map}};
  write_file_atomically(folder_ / kCheckpointIndexFile, index.dump(2) + "\n");
}

}  // namespace hadal

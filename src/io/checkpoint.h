#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace hadal {

// The files of a Hugging Face folder that hold or name its tensors.
inline constexpr const char* kCheckpointFile = "model.safetensors";
inline constexpr const char* kCheckpointIndexFile = "model.safetensors.index.json";

// kCheckpointIndexFile: which file holds which tensor.
struct CheckpointIndex {
  std::map<std::string, std::string> weight_map;  // tensor -> file name, without any folder
  std::optional<int64_t> total_size;
};
// Error{kFormat} names `name` (the file), the key and the value. File names that lead out of the
// folder ("../", absolute, "\\", NUL) are refused here.
CheckpointIndex parse_index(std::string_view text, const std::string& name);

// The weights of a Hugging Face folder: model.safetensors, or the shards named by
// model.safetensors.index.json (a single file goes first if there are both, as in transformers).
// Names and bytes only; model/weights.h makes numbers of them. Threads as in SafetensorsFile.
class Checkpoint {
 public:
  // Opens every shard and checks all headers against the index, before any number is read:
  // Error{kIo}: a shard is missing or not a regular file, or the folder holds only pickle files
  // (.bin, .pt), which are never read. Error{kFormat}: a broken header, a tensor that is not where
  // the index says or stands in two shards, a total_size that is not true
  // (docs/decisions/0002-total-size.md).
  static Checkpoint open(const fs::path& folder);

  const fs::path& folder() const { return folder_; }
  std::vector<std::string> names() const;  // sorted
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  const TensorInfo* find(std::string_view name) const;  // null when there is none
  const TensorInfo& at(std::string_view name) const;    // Error{kFormat} when there is none
  int64_t total_bytes() const { return total_bytes_; }  // of all tensors
  // `SHARD: tensor "NAME"`, for messages.
  std::string where(std::string_view name) const;

  // As SafetensorsFile::view, check_intact (all shards) and read.
  std::span<const std::byte> view(std::string_view name) const;
  void check_intact() const;
  void read(std::string_view name, int64_t offset, std::span<std::byte> out) const;

 private:
  struct Entry {
    const SafetensorsFile* shard = nullptr;
    const TensorInfo* info = nullptr;
  };
  Checkpoint() = default;
  const Entry& entry(std::string_view name) const;
  void add_all_shards(const fs::path& index_path);
  void add_shard(const fs::path& path, const CheckpointIndex* index);
  void check_total_size(const CheckpointIndex& index, const fs::path& path) const;

  fs::path folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::map<std::string_view, Entry> entries_;  // keys live in the shards
  int64_t total_bytes_ = 0, total_numbers_ = 0;
};

inline constexpr int64_t kDefaultShardBytes = 5'000'000'000;

// Writes the weights of a folder: model.safetensors when they fit into one shard, else
// model-00001-of-0000N.safetensors ... and the index. Nothing is visible before finish(), which
// puts each file in place atomically, the index last, and removes weights that were there under
// other names. If it is interrupted, the folder loads as the old or the new model or not at all,
// never as a mixture.
class CheckpointWriter {
 public:
  // All tensors first, in the order in which shards shall hold them. A tensor larger than
  // max_shard_bytes has a shard of its own. Makes the folder.
  CheckpointWriter(const fs::path& folder, const std::vector<TensorSpec>& tensors,
                   int64_t max_shard_bytes = kDefaultShardBytes);
  const TensorSpec& at(std::string_view name) const;  // Error{kInternal} if it was not declared
  // Appends to what tensor `name` has so far; tensors in any order.
  void write(std::string_view name, std::span<const std::byte> bytes);
  void finish();

 private:
  struct Place {
    TensorSpec spec;
    size_t shard = 0;
  };
  const Place& place(std::string_view name) const;
  void write_index() const;

  fs::path folder_;
  std::map<std::string, Place, std::less<>> places_;
  std::vector<std::string> files_;  // names
  std::deque<SafetensorsWriter> shards_;
  int64_t total_bytes_ = 0;
};

}  // namespace hadal

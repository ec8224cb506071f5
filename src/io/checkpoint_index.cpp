#include <algorithm>

#include "core/error.h"
#include "core/json.h"
#include "io/checkpoint.h"
#include "io/model_file.h"

namespace hadal {
namespace {

constexpr size_t kLongestFileName = 255;

// The names come from a stranger and are appended to the folder's path: plain file names only.
void check_file_name(const std::string& file, const std::string& where) {
  HADAL_CHECK(!file.empty() && file.size() <= kLongestFileName, kFormat, where, ": a file name of ",
              file.size(), " bytes, expected 1 to ", kLongestFileName);
  const bool plain = std::all_of(file.begin(), file.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '/' && c != '\\';
  });
  HADAL_CHECK(plain && file.front() != '.', kFormat, where, " is ", quote_name(file),
              ", expected a file name without a folder");
  HADAL_CHECK(file.ends_with(".safetensors"), kFormat, where, " is ", quote_name(file),
              ", expected a .safetensors file");
}

}  // namespace

CheckpointIndex parse_index(std::string_view text, const std::string& name) {
  const Json json = parse_json(text, name);
  json_object(json, name);
  CheckpointIndex index;
  const auto map = json.find("weight_map");
  HADAL_CHECK(map != json.end(), kFormat, name, " has no \"weight_map\"");
  for (const auto& [tensor, file] : json_object(*map, name + ": weight_map").items()) {
    const std::string where = str(name, ": weight_map, tensor ", quote_name(tensor));
    check_file_name(json_string(file, where), where);
    index.weight_map.emplace(tensor, file.get_ref<const std::string&>());
  }
  HADAL_CHECK(!index.weight_map.empty(), kFormat, name, ": weight_map is empty");
  const auto metadata = json.find("metadata");
  if (metadata == json.end() || metadata->is_null()) return index;
  const auto size = json_object(*metadata, name + ": metadata").find("total_size");
  if (size == metadata->end()) return index;
  index.total_size = json_int(*size, name + ": total_size");
  HADAL_CHECK(*index.total_size >= 0, kFormat, name, ": total_size is ", *index.total_size,
              ", expected the bytes of all tensors");
  return index;
}

}  // namespace hadal

#include "train/manifest.h"

#include "core/error.h"
#include "core/hash.h"

namespace hadal {
namespace {

constexpr const char* kName = "manifest.json";
constexpr std::string_view kFormat = "hadal-checkpoint-2";
constexpr int64_t kMaxManifestBytes = 16 << 20;

// The manifest's hash of itself is taken with this in its place.
constexpr std::string_view kNoHash = "0000000000000000";

std::string hash_of(std::string text, std::string_view own) {
  text.replace(text.rfind(own), own.size(), kNoHash);
  Hash64 hash;
  hash.add(std::as_bytes(std::span(text.data(), text.size())));
  return hex64(hash.value());
}

void check_file(const fs::path& folder, const Json& entry, const std::string& where) {
  const std::string& name = json_string(entry.at("name"), where);
  HADAL_CHECK(name.find('/') == std::string::npos, kFormat, where, " names ", name,
              ", expected a file of this folder");
  const int64_t size = InputFile(folder / name).size(), wanted = json_int(entry.at("size"), where);
  HADAL_CHECK(size == wanted, kFormat, (folder / name).string(), " has ", size, " bytes, expected ",
              wanted);
  HADAL_CHECK(hex64(hash_file(folder / name)) == json_string(entry.at("xxh64"), where), kFormat,
              (folder / name).string(), " has another hash: the file is damaged");
}

bool is_current(const Json& manifest) {
  return manifest.value("format", Json()) == kFormat;
}

// With its own hash checked. Other versions may have had none.
Json parse_manifest(const fs::path& folder) {
  const std::string where = (folder / kName).string();
  const std::string text = read_file(folder / kName, kMaxManifestBytes);
  Json manifest = parse_json(text, where);
  const Json own = json_object(manifest, where).value("xxh64", Json());
  const bool none = own.is_null() && !is_current(manifest);
  const bool right = own.is_string() && own.get<std::string>().size() == kNoHash.size() &&
                     hash_of(text, own.get<std::string>()) == own;
  HADAL_CHECK(none || right, kFormat, where, " has another hash: the file is damaged");
  return manifest;
}

}  // namespace

void write_manifest(const fs::path& folder, const OrderedJson& facts) {
  OrderedJson files = OrderedJson::array();
  for (const fs::path& file : list_folder(folder)) {
    files.push_back({{"name", file.filename().string()},
                     {"size", InputFile(file).size()},
                     {"xxh64", hex64(hash_file(file))}});
  }
  OrderedJson manifest{{"format", kFormat}};
  manifest.update(facts);
  manifest["files"] = files;
  manifest["xxh64"] = kNoHash;
  std::string text = manifest.dump(2) + "\n";
  text.replace(text.rfind(kNoHash), kNoHash.size(), hash_of(text, kNoHash));
  write_file_atomically(folder / kName, text);
}

Json read_manifest(const fs::path& folder) {
  Json manifest = parse_manifest(folder);
  HADAL_CHECK(is_current(manifest), kFormat, (folder / kName).string(),
              " was written by another version of hadal: its format is ",
              json_brief(manifest.value("format", Json())), ", expected \"", kFormat, "\"");
  return manifest;
}

bool of_another_version(const fs::path& folder) {
  try {
    return !is_current(parse_manifest(folder));
  } catch (const Error&) {
    return false;
  }
}

Json check_manifest(const fs::path& folder) {
  const std::string where = (folder / kName).string();
  Json manifest = read_manifest(folder);
  try {
    for (const Json& entry : json_array(manifest.at("files"), where)) {
      check_file(folder, entry, where);
    }
  } catch (const Json::exception&) {
    throw Error(ErrorKind::kFormat, str(where, " lacks a file's name, size or hash"));
  }
  return manifest;
}

}  // namespace hadal

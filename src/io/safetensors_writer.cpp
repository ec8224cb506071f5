#include <algorithm>

#include "core/error.h"
#include "core/json.h"
#include "io/header_text.h"
#include "io/model_file.h"
#include "io/safetensors.h"

namespace hadal {
namespace {

std::string json_text(std::string_view text, const fs::path& path) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw Error(ErrorKind::kInternal, str(path.string(), ": ", quote_name(text),
                                          " is not UTF-8, expected a tensor's name"));
  }
}

// Written piece by piece: a JSON tree that keeps its order looks keys up one after the other, which
// takes minutes for a hundred thousand tensors.
std::string make_header(const std::vector<TensorInfo>& tensors,
                        const std::map<std::string, std::string>& metadata, const fs::path& path) {
  std::string text = "{\"__metadata__\":" + Json(metadata).dump();
  for (const TensorInfo& t : tensors) {
    text += str(",", json_text(t.name, path), ":{\"dtype\":\"", dtype_name(t.dtype),
                "\",\"shape\":", Json(t.shape).dump(), ",\"data_offsets\":[", t.begin, ",", t.end,
                "]}");
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

// Larger numbers first, so that every tensor is aligned for its dtype.
std::vector<TensorInfo> lay_out(const std::vector<TensorSpec>& tensors) {
  std::vector<TensorInfo> laid;
  laid.reserve(tensors.size());
  for (const TensorSpec& t : tensors) laid.push_back({t, 0, 0});
  std::stable_sort(laid.begin(), laid.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return dtype_size(a.dtype) > dtype_size(b.dtype);
  });
  int64_t next = 0;
  for (TensorInfo& t : laid) {
    t.begin = next;
    next += t.bytes();
    t.end = next;
  }
  return laid;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const fs::path& path, const std::vector<TensorSpec>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path), path_(path) {
  const std::vector<TensorInfo> laid = lay_out(tensors);
  const std::string text = make_header(laid, metadata, path);
  HADAL_CHECK(static_cast<int64_t>(text.size()) <= kMaxSafetensorsHeader, kInternal, path.string(),
              ": header of ", text.size(), " bytes, expected at most ", kMaxSafetensorsHeader);
  SafetensorsHeader header;
  try {
    header = parse_header_text(text, laid.empty() ? 0 : laid.back().end, path.string());
  } catch (const Error& e) {
    throw Error(ErrorKind::kInternal, str("asked to write what no reader takes: ", e.what()));
  }
  for (const TensorInfo& t : header.tensors) {
    slots_[t.name] = {header.data_begin + t.begin, header.data_begin + t.end};
  }
  const uint64_t length = text.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(text);
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = slots_.find(name);
  HADAL_CHECK(found != slots_.end(), kInternal, path_.string(), ": tensor ", quote_name(name),
              " was not declared");
  Slot& slot = found->second;
  const auto count = static_cast<int64_t>(bytes.size());
  HADAL_CHECK(count <= slot.end - slot.next, kInternal, path_.string(), ": tensor ",
              quote_name(name), ": ", count, " bytes more, expected at most ",
              slot.end - slot.next);
  file_.write_at(slot.next, bytes);
  slot.next += count;
}

void SafetensorsWriter::check_complete() const {
  for (const auto& [name, slot] : slots_) {
    HADAL_CHECK(slot.next == slot.end, kInternal, path_.string(), ": tensor ", quote_name(name),
                " lacks its last ", slot.end - slot.next, " bytes");
  }
}

void SafetensorsWriter::finish() {
  check_complete();
  file_.commit();
}

}  // namespace hadal

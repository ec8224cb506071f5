#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "core/error.h"
#include "core/json.h"
#include "core/tensor.h"
#include "io/header_text.h"
#include "io/model_file.h"

namespace hadal {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

constexpr int64_t kLengthBytes = 8;
constexpr uint64_t kShortestHeader = 8;  // "{}" and the padding to eight bytes
constexpr size_t kMaxRank = 8;

std::string tensor_in(const std::string& file, std::string_view tensor) {
  return str(file, ": tensor ", quote_name(tensor));
}

std::string range_text(const TensorInfo& t) {
  return str("[", t.begin, ", ", t.end, ")");
}

// Stricter than json_int: 1e3 and 3.0 are not counts of anything in this format.
int64_t count(const Json& value, const std::string& where, int64_t least) {
  const bool fits = value.is_number_integer() && !value.is_number_unsigned();
  HADAL_CHECK(fits && value.get<int64_t>() >= least, kFormat, where, " holds ", json_brief(value),
              ", expected integers from ", least, " to 2^63 - 1");
  return value.get<int64_t>();
}

const Json& member(const Json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  HADAL_CHECK(found != object.end(), kFormat, where, " has no \"", key,
              "\"; expected dtype, shape and data_offsets");
  return *found;
}

DType dtype_of(const Json& value, const std::string& where) {
  const std::string& text = json_string(value, where + ": dtype");
  try {
    return parse_dtype(text.substr(0, 40));
  } catch (const Error& e) {
    throw Error(ErrorKind::kFormat, str(where, ": ", e.what()));
  }
}

int64_t checked_bytes(const TensorSpec& tensor, const std::string& where) {
  int64_t bytes = dtype_size(tensor.dtype);
  for (int64_t d : tensor.shape) {
    HADAL_CHECK(!__builtin_mul_overflow(bytes, d, &bytes), kFormat, where, ": shape ",
                shape_text(tensor.shape), " of ", dtype_name(tensor.dtype),
                " overflows, expected less than 2^63 bytes");
  }
  return bytes;
}

void read_shape(const Json& value, const std::string& where, TensorInfo& tensor) {
  const Json& shape = json_array(value, where + ": shape");
  HADAL_CHECK(shape.size() <= kMaxRank, kFormat, where, ": shape has ", shape.size(),
              " dimensions, expected at most ", kMaxRank);
  for (const Json& d : shape) tensor.shape.push_back(count(d, where + ": shape", 1));
}

void read_offsets(const Json& value, const std::string& where, int64_t data_bytes,
                  TensorInfo& tensor) {
  const Json& offsets = json_array(value, where + ": data_offsets");
  HADAL_CHECK(offsets.size() == 2, kFormat, where, ": data_offsets is ", json_brief(offsets),
              ", expected [begin, end]");
  tensor.begin = count(offsets[0], where + ": data_offsets", 0);
  tensor.end = count(offsets[1], where + ": data_offsets", 0);
  HADAL_CHECK(tensor.begin <= tensor.end, kFormat, where, ": data_offsets ", range_text(tensor),
              " end before they begin");
  HADAL_CHECK(tensor.end <= data_bytes, kFormat, where, ": data_offsets ", range_text(tensor),
              " lie beyond the file, which has ", data_bytes, " bytes of data");
  const int64_t bytes = checked_bytes(tensor, where);
  HADAL_CHECK(tensor.end - tensor.begin == bytes, kFormat, where, ": data_offsets ",
              range_text(tensor), " span ", tensor.end - tensor.begin, " bytes, but ",
              dtype_name(tensor.dtype), " of shape ", shape_text(tensor.shape), " has ", bytes);
}

TensorInfo read_tensor(const std::string& name, const Json& value, const std::string& file,
                       int64_t data_bytes) {
  const std::string where = tensor_in(file, name);
  json_object(value, where);
  for (const auto& [key, ignored] : value.items()) {
    HADAL_CHECK(key == "dtype" || key == "shape" || key == "data_offsets", kFormat, where,
                ": unknown key ", quote_name(key), ", expected dtype, shape and data_offsets");
  }
  TensorInfo tensor;
  tensor.name = name;
  tensor.dtype = dtype_of(member(value, "dtype", where), where);
  read_shape(member(value, "shape", where), where, tensor);
  read_offsets(member(value, "data_offsets", where), where, data_bytes, tensor);
  return tensor;
}

void read_metadata(const Json& value, const std::string& file, SafetensorsHeader& header) {
  if (value.is_null()) return;  // some writers' way to say that there is none
  const std::string where = file + ": __metadata__";
  for (const auto& [key, text] : json_object(value, where).items()) {
    header.metadata[key] = json_string(text, str(where, ", key ", quote_name(key)));
  }
}

// Tensors, in the order of their bytes, must lie end to end from the first byte to the last.
void check_coverage(const std::vector<TensorInfo>& tensors, int64_t data_bytes,
                    const std::string& file) {
  int64_t next = 0;
  const TensorInfo* previous = nullptr;
  for (const TensorInfo& t : tensors) {
    HADAL_CHECK(previous == nullptr || t.begin >= next, kFormat, tensor_in(file, t.name), " at ",
                range_text(t), " overlaps ", quote_name(previous->name), " at ",
                range_text(*previous));
    HADAL_CHECK(t.begin == next, kFormat, tensor_in(file, t.name), " begins at byte ", t.begin,
                ", expected ", next, ": the bytes between belong to no tensor");
    next = t.end;
    previous = &t;
  }
  HADAL_CHECK(next == data_bytes, kFormat, file, ": the tensors end at byte ", next, " of ",
              data_bytes, ": the last ", data_bytes - next, " bytes belong to no tensor");
}

// The length of the header of a file of this size, whose first eight bytes are given.
int64_t header_length(std::span<const std::byte, kLengthBytes> first, int64_t file_bytes,
                      const std::string& name) {
  uint64_t length = 0;
  std::memcpy(&length, first.data(), sizeof length);
  HADAL_CHECK(length >= kShortestHeader, kFormat, name, ": header length is ", length,
              ", expected at least ", kShortestHeader);
  HADAL_CHECK(length <= uint64_t{kMaxSafetensorsHeader}, kFormat, name, ": header length is ",
              length, ", expected at most ", kMaxSafetensorsHeader);
  HADAL_CHECK(static_cast<int64_t>(length) <= file_bytes - kLengthBytes, kFormat, name,
              ": header length is ", length, ", but the file has ", file_bytes - kLengthBytes,
              " bytes after it");
  return static_cast<int64_t>(length);
}

void check_file_size(int64_t bytes, const std::string& name) {
  HADAL_CHECK(bytes >= kLengthBytes, kFormat, name, " has ", bytes,
              " bytes, expected at least the ", kLengthBytes, " of the header's length");
}

SafetensorsHeader read_header(const InputFile& file) {
  const std::string name = file.path().string();
  check_file_size(file.size(), name);
  std::array<std::byte, kLengthBytes> first{};
  file.read_at(0, first);
  const int64_t length = header_length(first, file.size(), name);
  std::string text(static_cast<size_t>(length), '\0');
  file.read_at(kLengthBytes, std::as_writable_bytes(std::span(text.data(), text.size())));
  return parse_header_text(text, file.size() - kLengthBytes - length, name);
}

}  // namespace

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (int64_t d : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(d);
  return text + "]";
}

SafetensorsHeader parse_header_text(std::string_view text, int64_t data_bytes,
                                    const std::string& name) {
  HADAL_CHECK(text.starts_with('{'), kFormat, name, ": header starts with byte ",
              int{static_cast<unsigned char>(text.front())}, ", expected ", int{'{'},
              ", the brace of a JSON object");
  const Json json = parse_json(text, name + ": header");
  SafetensorsHeader header;
  header.data_begin = kLengthBytes + static_cast<int64_t>(text.size());
  for (const auto& [key, value] : json.items()) {
    if (key == "__metadata__") {
      read_metadata(value, name, header);
    } else {
      header.tensors.push_back(read_tensor(key, value, name, data_bytes));
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.begin < b.begin; });
  check_coverage(header.tensors, data_bytes, name);
  return header;
}

SafetensorsHeader parse_header(std::span<const std::byte> file, const std::string& name) {
  const auto size = static_cast<int64_t>(file.size());
  check_file_size(size, name);
  const int64_t length = header_length(file.first<kLengthBytes>(), size, name);
  const auto* text = reinterpret_cast<const char*>(file.data() + kLengthBytes);
  return parse_header_text({text, static_cast<size_t>(length)}, size - kLengthBytes - length, name);
}

int64_t TensorSpec::size() const {
  return detail::array_bytes(shape, 1);
}

int64_t TensorSpec::bytes() const {
  return detail::array_bytes(shape, static_cast<size_t>(dtype_size(dtype)));
}

SafetensorsFile::SafetensorsFile(const fs::path& path)
    : file_(open_model_file(path)), header_(read_header(file_.file())) {
  for (const TensorInfo& t : header_.tensors) by_name_.emplace(t.name, &t);
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::string SafetensorsFile::where(const TensorInfo& tensor) const {
  return tensor_in(path().string(), tensor.name);
}

std::span<const std::byte> SafetensorsFile::view(const TensorInfo& tensor) const {
  return file_.bytes().subspan(static_cast<size_t>(header_.data_begin + tensor.begin),
                               static_cast<size_t>(tensor.end - tensor.begin));
}

void SafetensorsFile::read(const TensorInfo& tensor, int64_t offset,
                           std::span<std::byte> out) const {
  const int64_t bytes = tensor.end - tensor.begin, wanted = static_cast<int64_t>(out.size());
  HADAL_CHECK(offset >= 0 && offset <= bytes && wanted <= bytes - offset, kInternal, where(tensor),
              ": asked for ", wanted, " bytes from ", offset, " of ", bytes);
  file_.file().read_at(header_.data_begin + tensor.begin + offset, out);
}

}  // namespace hadal

#include "train/tensorboard.h"

#include <array>
#include <bit>
#include <cstdio>

#include "core/error.h"

namespace hadal {
namespace {

// ---- protocol buffers, as far as Event needs them; names and numbers are of tensorflow's .proto

enum class Wire : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

template <class T>
void append_little_endian(T value, std::string& out) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    out += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  }
}

class Message {
 public:
  void integer(uint64_t field, uint64_t value) {
    key(field, Wire::kVarint);
    varint(value);
  }
  void real(uint64_t field, double value) {
    key(field, Wire::kFixed64);
    append_little_endian(std::bit_cast<uint64_t>(value), bytes_);
  }
  void real32(uint64_t field, float value) {
    key(field, Wire::kFixed32);
    append_little_endian(std::bit_cast<uint32_t>(value), bytes_);
  }
  void text(uint64_t field, std::string_view value) {
    key(field, Wire::kBytes);
    varint(value.size());
    bytes_ += value;
  }
  void message(uint64_t field, const Message& value) { text(field, value.bytes_); }
  void reals(uint64_t field, std::span<const double> values) {  // packed
    std::string packed;
    for (const double v : values) append_little_endian(std::bit_cast<uint64_t>(v), packed);
    text(field, packed);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(uint64_t field, Wire wire) { varint(field << 3 | static_cast<uint64_t>(wire)); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7f) | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

namespace event {
constexpr uint64_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace session_log {
constexpr uint64_t kStatus = 1, kStart = 1;
}
namespace summary {
constexpr uint64_t kValue = 1;
}
namespace value {
constexpr uint64_t kTag = 1, kSimpleValue = 2, kHistogram = 5, kTensor = 8, kMetadata = 9;
}
namespace histogram {
constexpr uint64_t kMin = 1, kMax = 2, kNum = 3, kSum = 4, kSumSquares = 5, kBucketLimit = 6,
                   kBucket = 7;
}
namespace tensor {
constexpr uint64_t kDtype = 1, kShape = 2, kStringValue = 8, kStringType = 7;
}
namespace metadata {
constexpr uint64_t kPluginData = 1, kPluginName = 1;
}

Message histogram_message(const EventHistogram& h) {
  const size_t n = h.counts.size();
  std::vector<double> limits, buckets;
  double num = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto at = static_cast<double>(i), count = static_cast<double>(h.counts[i]);
    limits.push_back(at + 0.5);
    buckets.push_back(count);
    num += count;
    sum += count * at;
    squares += count * at * at;
  }
  Message m;
  m.real(histogram::kMin, -0.5);
  m.real(histogram::kMax, static_cast<double>(n) - 0.5);
  m.real(histogram::kNum, num);
  m.real(histogram::kSum, sum);
  m.real(histogram::kSumSquares, squares);
  m.reals(histogram::kBucketLimit, limits);
  m.reals(histogram::kBucket, buckets);
  return m;
}

void put_text(const std::string& text, Message& out) {
  Message string, plugin, meta;
  string.integer(tensor::kDtype, tensor::kStringType);
  string.message(tensor::kShape, {});  // a scalar
  string.text(tensor::kStringValue, text);
  plugin.text(metadata::kPluginName, "text");
  meta.message(metadata::kPluginData, plugin);
  out.message(value::kTensor, string);
  out.message(value::kMetadata, meta);
}

Message value_message(const EventValue& v) {
  Message m;
  m.text(value::kTag, v.tag);
  if (const auto* scalar = std::get_if<float>(&v.value)) {
    m.real32(value::kSimpleValue, *scalar);
  } else if (const auto* counts = std::get_if<EventHistogram>(&v.value)) {
    m.message(value::kHistogram, histogram_message(*counts));
  } else {
    put_text(std::get<std::string>(v.value), m);
  }
  return m;
}

// ---- TFRecord

constexpr std::array<uint32_t, 256> make_crc_table() {
  constexpr uint32_t kCastagnoli = 0x82f63b78;  // bits reversed
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kCastagnoli : 0);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

// A CRC of bytes that hold CRCs says little; so those in a file are turned and shifted.
uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  }
  return ~crc;
}

std::string tfrecord(std::string_view data) {
  std::string out;
  append_little_endian(uint64_t{data.size()}, out);
  append_little_endian(masked_crc(out), out);
  out += data;
  append_little_endian(masked_crc(data), out);
  return out;
}

std::string summary_event(int64_t step, double unix_seconds, std::span<const EventValue> values) {
  Message all, e;
  for (const EventValue& v : values) all.message(summary::kValue, value_message(v));
  e.real(event::kWallTime, unix_seconds);
  e.integer(event::kStep, static_cast<uint64_t>(step));
  e.message(event::kSummary, all);
  return e.bytes();
}

EventFile::EventFile(const fs::path& folder, int64_t step, double unix_seconds) {
  make_folder(folder);
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "events.out.tfevents.%010.0f.hadal.%lld", unix_seconds,
                static_cast<long long>(step));
  path_ = folder / name.data();
  out_.open(path_, std::ios::binary | std::ios::trunc);
  Message version, start, log;
  version.real(event::kWallTime, unix_seconds);
  version.text(event::kFileVersion, "brain.Event:2");
  write_event(version.bytes());
  log.integer(session_log::kStatus, session_log::kStart);
  start.real(event::kWallTime, unix_seconds);
  start.integer(event::kStep, static_cast<uint64_t>(step + 1));
  start.message(event::kSessionLog, log);
  write_event(start.bytes());
  flush();
}

void EventFile::add(int64_t step, double unix_seconds, std::span<const EventValue> values) {
  write_event(summary_event(step, unix_seconds, values));
}

void EventFile::write_event(std::string_view event) {
  out_ << tfrecord(event);
}

void EventFile::flush() {
  HADAL_CHECK(out_.flush().good(), kIo, "cannot write ", path_.string());
}

}  // namespace hadal

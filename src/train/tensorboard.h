#pragma once
#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/files.h"

namespace hadal {

// What TensorBoard shows. A histogram has one bucket an entry: bucket i reaches from i - 0.5 to
// i + 0.5 and holds counts[i].
struct EventHistogram {
  std::vector<int64_t> counts;
};
struct EventValue {
  std::string tag;
  std::variant<float, EventHistogram, std::string> value;  // a string: Markdown
};

// A TensorBoard event file: records of the protocol buffer `Event`, each with its length and masked
// CRC-32C (TFRecord).
class EventFile {
 public:
  // Makes FOLDER/events.out.tfevents.TIME.hadal.STEP and says in it that what other files of the
  // folder hold of later steps is not part of the run. Error{kIo} when it cannot be written.
  EventFile(const fs::path& folder, int64_t step, double unix_seconds);
  void add(int64_t step, double unix_seconds, std::span<const EventValue> values);
  void flush();  // Error{kIo} when the system took not all of it
  const fs::path& path() const { return path_; }

 private:
  void write_event(std::string_view event);

  fs::path path_;
  std::ofstream out_;
};

// The parts, for tests.
uint32_t crc32c(std::string_view bytes);
std::string tfrecord(std::string_view data);
// Event{wall_time, step, summary}.
std::string summary_event(int64_t step, double unix_seconds, std::span<const EventValue> values);

}  // namespace hadal

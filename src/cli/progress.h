#pragma once
#include <chrono>
#include <string>

namespace hadal {

// Progress on standard error. On a terminal one line that is written over; elsewhere a line of its
// own now and then, so that a log stays readable.
class ProgressLine {
 public:
  // Seconds between two lines where there is no terminal.
  explicit ProgressLine(double plain_interval_s = 10);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const std::string& line);  // may be left out, if it comes too soon
  void keep(const std::string& line);  // stays, on a line of its own
  bool terminal() const { return terminal_; }

 private:
  using Clock = std::chrono::steady_clock;
  void clear();

  bool terminal_;
  double interval_s_;
  bool open_ = false;  // an unfinished line stands on the terminal
  Clock::time_point last_{};
};

// 75 -> "1:15", 3700 -> "1:01:40".
std::string duration_text(double seconds);

}  // namespace hadal

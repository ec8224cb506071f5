#include "cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace hadal {
namespace {

constexpr double kTerminalInterval_s = 0.1;

size_t terminal_columns() {
  struct winsize size {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 100;
}

}  // namespace

ProgressLine::ProgressLine(double plain_interval_s)
    : terminal_(::isatty(STDERR_FILENO) == 1),
      interval_s_(terminal_ ? kTerminalInterval_s : plain_interval_s) {
}

ProgressLine::~ProgressLine() {
  if (open_) std::fputc('\n', stderr);
}

void ProgressLine::clear() {
  if (open_) std::fputs("\r\033[K", stderr);
  open_ = false;
}

void ProgressLine::show(const std::string& line) {
  const Clock::time_point now = Clock::now();
  const double waited = std::chrono::duration<double>(now - last_).count();
  if (last_ != Clock::time_point{} && waited < interval_s_) return;
  last_ = now;
  if (!terminal_) {
    fmt::print(stderr, "{}\n", line);
    return;
  }
  clear();
  fmt::print(stderr, "{}", line.substr(0, terminal_columns() - 1));
  std::fflush(stderr);
  open_ = true;
}

void ProgressLine::keep(const std::string& line) {
  clear();
  fmt::print(stderr, "{}\n", line);
  last_ = Clock::now();
}

std::string duration_text(double seconds) {
  const auto s = int64_t{std::llround(std::max(0.0, seconds))};
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace hadal

#pragma once

namespace hadal {

// While it lives, the first SIGINT or SIGTERM asks to stop, and says so on standard error; the
// second ends the process at once, with the code 128 + its number. One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  bool requested() const;
};

}  // namespace hadal

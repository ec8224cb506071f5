#pragma once
#include <string>

#include "cli/progress.h"
#include "train/run.h"

namespace hadal {

// One progress line: step, loss, bits per byte, tokens/s, MaxVio, acceptance, what is left.
std::string progress_text(const Progress& progress);

// What `hadal train` shows: progress on standard error, the result on standard output.
class TrainReport {
 public:
  explicit TrainReport(bool json) : json_(json) {}
  void note(const std::string& line) { line_.keep(line); }
  void tokenizing(const TokenizeProgress& progress);
  void begin(TrainRun& run);
  void step(const Progress& progress);
  void end(TrainRun& run);
  void stopped(const std::string& resume_command);

 private:
  bool json_;
  ProgressLine line_;
  Progress last_;
  double first_max_vio_ = -1;
};

}  // namespace hadal

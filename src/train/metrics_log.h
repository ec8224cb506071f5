#pragma once
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "train/tensorboard.h"
#include "train/trainer.h"

namespace hadal {

// A text the model wrote along the run.
struct SampleText {
  std::string prompt, text;
};

constexpr const char* kMetricsFile = "metrics.jsonl";

// The steps of a run, as they happen:
//   RUN/metrics.jsonl    a JSON object a step; a crash costs at most the last line
//   RUN/tensorboard/...  the same for TensorBoard; each process of a run has a file of its own
class MetricsLog {
 public:
  // Goes on after `step`. Lines of later steps, which an interrupted run left, are dropped.
  // Error{kIo} when the folder cannot be written.
  MetricsLog(const fs::path& run, int64_t step);
  // What held-out text says before the first step: the line of step 0.
  void add_start(const Evaluation& evaluation);
  void add(const Progress& progress, const std::vector<SampleText>& samples = {});
  void sync();  // all lines so far are on the disk

 private:
  void write(int64_t step, OrderedJson line, const std::vector<EventValue>& values);

  AppendFile lines_;
  EventFile events_;
};

// One line of metrics.jsonl.
OrderedJson progress_json(const Progress& progress);
OrderedJson evaluation_json(const Evaluation& evaluation);

}  // namespace hadal

#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"

namespace hadal {

// What the files of a run say of it: metrics.jsonl, recipe.json, run.json (train/run.h).
struct RunHistory {
  using Columns = std::map<std::string, std::vector<double>>;
  struct Layer {
    int64_t layer = 0;  // -1: outside the layers
    // At each of layer_steps; NaN, or an empty load, where the layer has none.
    std::vector<double> gradient_norm, max_vio, gate_entropy;
    std::vector<std::vector<int64_t>> load;
  };
  struct Sample {
    int64_t step = 0;
    std::string prompt, text;
  };

  fs::path folder;
  std::string name;            // of the folder
  OrderedJson recipe, facts;   // every key's value, "model.x" among them; {} when absent
  Columns steps, evaluations;  // by the names of metrics.jsonl, all of one length; NaN for null
  std::vector<int64_t> layer_steps;  // the steps that tell of the layers
  std::vector<Layer> layers;
  std::vector<Sample> samples;
  int64_t not_applied = 0;
};

// Error{kUsage} when the folder has no metrics.jsonl, Error{kFormat} for one that is damaged; a
// last line that is still being written is no damage. Steps gain a column "elapsed": seconds of
// training up to the end of the step, pauses not counted.
RunHistory load_history(const fs::path& run);

struct HistoryLimits {
  int64_t points = 800;  // of a curve: longer ones become means of as many steps
  // Of the loads: experts times columns over time, all layers together; more become sums.
  int64_t load_cells = 60000;
  int64_t samples = 400;  // texts, evenly taken
};
// For a page or another program: small enough to be drawn, numbers with six digits.
OrderedJson history_json(const RunHistory& history, const HistoryLimits& limits = {});

}  // namespace hadal

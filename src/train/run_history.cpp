#include "train/run_history.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <span>

#include "core/error.h"
#include "train/metrics_log.h"

namespace hadal {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// recipe.json or run.json; {} when there is none.
OrderedJson read_facts(const fs::path& path) {
  if (!fs::exists(path)) return OrderedJson::object();
  constexpr int64_t kMaxFactsBytes = 16 << 20;
  const Json facts = parse_json(read_file(path, kMaxFactsBytes), path.string());
  OrderedJson out = OrderedJson::object();
  for (const auto& [key, value] : json_object(facts, path.string()).items()) {
    if (!value.is_object()) {
      out[key] = value;
      continue;
    }
    for (const auto& [inner, x] : value.items()) out[str(key, ".", inner)] = x;
  }
  return out;
}

// The numbers of an object as one more row: what it lacks is NaN, and so were columns that are new
// in the rows before.
void add_row(const Json& object, RunHistory::Columns& columns) {
  const size_t rows = columns.empty() ? 0 : columns.begin()->second.size();
  for (const auto& [key, value] : object.items()) {
    if (!value.is_number() && !value.is_null()) continue;
    std::vector<double>& column = columns[key];
    column.resize(rows, kNone);
    column.push_back(value.is_number() ? value.get<double>() : kNone);
  }
  for (auto& [key, column] : columns) column.resize(rows + 1, kNone);
}

double number_or_none(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : kNone;
}

class HistoryReader {
 public:
  explicit HistoryReader(RunHistory& history) : history_(history) {}

  void read_line(const Json& line, const std::string& where) {
    const int64_t step = json_int(json_object(line, where).value("step", Json()), where + ": step");
    const auto layers = line.find("layers");
    if (layers != line.end()) read_layers(json_array(*layers, where), step, where);
    const auto samples = line.find("samples");
    if (samples != line.end()) read_samples(json_array(*samples, where), step, where);
    const auto evaluation = line.find("evaluation");
    const double seconds = number_or_none(line, "seconds");
    if (std::isfinite(seconds)) elapsed_ += seconds;
    if (evaluation != line.end()) {
      Json row = json_object(*evaluation, where);
      row["step"] = step;
      row["of"] = row.value("tokens", Json());  // how much text was held out
      row["tokens"] = line.value("tokens", Json());
      row["elapsed"] = elapsed_;
      add_row(row, history_.evaluations);
    }
    if (step == 0) return;  // nothing but the evaluation before the first step
    Json row = line;
    row["elapsed"] = elapsed_;
    add_row(row, history_.steps);
    history_.not_applied += line.value("applied", Json(true)) == Json(false) ? 1 : 0;
  }

 private:
  void read_layers(const Json& layers, int64_t step, const std::string& where) {
    history_.layer_steps.push_back(step);
    const size_t rows = history_.layer_steps.size();
    for (const Json& entry : layers) {
      const int64_t number =
          json_int(json_object(entry, where).value("layer", Json()), where + ": layer");
      RunHistory::Layer& layer = layer_of(number);
      layer.gradient_norm.resize(rows - 1, kNone);
      layer.gradient_norm.push_back(number_or_none(entry, "gradient_norm"));
      layer.max_vio.resize(rows - 1, kNone);
      layer.max_vio.push_back(number_or_none(entry, "max_vio"));
      layer.gate_entropy.resize(rows - 1, kNone);
      layer.gate_entropy.push_back(number_or_none(entry, "gate_entropy"));
      layer.load.resize(rows);
      const auto load = entry.find("load");
      if (load == entry.end()) continue;
      for (const Json& count : json_array(*load, where)) {
        layer.load.back().push_back(json_int(count, where + ": load"));
      }
    }
  }

  RunHistory::Layer& layer_of(int64_t number) {
    for (RunHistory::Layer& layer : history_.layers) {
      if (layer.layer == number) return layer;
    }
    history_.layers.push_back({});
    history_.layers.back().layer = number;
    return history_.layers.back();
  }

  void read_samples(const Json& samples, int64_t step, const std::string& where) {
    for (const Json& s : samples) {
      const Json& sample = json_object(s, where);
      history_.samples.push_back({step, json_string(sample.value("prompt", Json()), where),
                                  json_string(sample.value("text", Json()), where)});
    }
  }

  RunHistory& history_;
  double elapsed_ = 0;
};

// ---- to JSON

// Six digits: what a curve shows, in a third of the bytes.
OrderedJson number_json(double x) {
  if (!std::isfinite(x)) return nullptr;
  if (x == std::floor(x) && std::abs(x) < 1e15) return static_cast<int64_t>(x);
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", x);
  return std::strtod(text, nullptr);
}

// [begin, end) of group g when n things become at most `most` groups of equal size.
int64_t group_size(int64_t n, int64_t most) {
  return std::max<int64_t>(1, (n + most - 1) / most);
}

double finite_mean(std::span<const double> values) {
  double sum = 0;
  int64_t count = 0;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    sum += v;
    ++count;
  }
  return count == 0 ? kNone : sum / static_cast<double>(count);
}

// What counts up is said of the end of a group, all else is its mean.
bool counts_up(const std::string& name) {
  return name == "step" || name == "tokens" || name == "elapsed" || name == "time";
}

OrderedJson thinned(std::span<const double> values, int64_t group, bool last) {
  OrderedJson out = OrderedJson::array();
  const auto n = static_cast<int64_t>(values.size());
  for (int64_t begin = 0; begin < n; begin += group) {
    const auto part =
        values.subspan(static_cast<size_t>(begin), static_cast<size_t>(std::min(group, n - begin)));
    out.push_back(number_json(last ? part.back() : finite_mean(part)));
  }
  return out;
}

OrderedJson columns_json(const RunHistory::Columns& columns, int64_t points) {
  OrderedJson out = OrderedJson::object();
  for (const auto& [name, values] : columns) {
    const int64_t group = group_size(static_cast<int64_t>(values.size()), points);
    out[name] = thinned(values, group, counts_up(name));
  }
  return out;
}

OrderedJson load_json(const RunHistory::Layer& layer, int64_t group) {
  OrderedJson out = OrderedJson::array();
  for (size_t begin = 0; begin < layer.load.size(); begin += static_cast<size_t>(group)) {
    std::vector<int64_t> sum;
    const size_t end = std::min(layer.load.size(), begin + static_cast<size_t>(group));
    for (size_t i = begin; i < end; ++i) {
      sum.resize(std::max(sum.size(), layer.load[i].size()));
      for (size_t e = 0; e < layer.load[i].size(); ++e) sum[e] += layer.load[i][e];
    }
    out.push_back(sum);
  }
  return out;
}

OrderedJson layers_json(const RunHistory& history, const HistoryLimits& limits) {
  const auto rows = static_cast<int64_t>(history.layer_steps.size());
  int64_t experts = 0;  // of all layers
  for (const RunHistory::Layer& layer : history.layers) {
    if (!layer.load.empty()) experts += static_cast<int64_t>(layer.load.back().size());
  }
  const int64_t columns = std::max<int64_t>(1, limits.load_cells / std::max<int64_t>(experts, 1));
  const int64_t group = group_size(rows, std::min(columns, limits.points));
  OrderedJson steps = OrderedJson::array(), layers = OrderedJson::array();
  for (int64_t begin = 0; begin < rows; begin += group) {
    steps.push_back(history.layer_steps[static_cast<size_t>(std::min(begin + group, rows) - 1)]);
  }
  for (const RunHistory::Layer& layer : history.layers) {
    OrderedJson json{{"layer", layer.layer},
                     {"gradient_norm", thinned(layer.gradient_norm, group, false)}};
    const bool routed = std::any_of(layer.load.begin(), layer.load.end(),
                                    [](const auto& counts) { return !counts.empty(); });
    if (routed) {
      json["max_vio"] = thinned(layer.max_vio, group, false);
      json["gate_entropy"] = thinned(layer.gate_entropy, group, false);
      json["load"] = load_json(layer, group);
    }
    layers.push_back(json);
  }
  return {{"step", steps}, {"layers", layers}};
}

OrderedJson samples_json(const RunHistory& history, int64_t most) {
  OrderedJson out = OrderedJson::array();
  // Whole steps, so that all prompts of a step stay together.
  std::vector<int64_t> steps;
  for (const auto& s : history.samples) {
    if (steps.empty() || steps.back() != s.step) steps.push_back(s.step);
  }
  const auto texts = static_cast<int64_t>(history.samples.size());
  const int64_t every = group_size(texts, most);
  for (const auto& s : history.samples) {
    const auto at = std::find(steps.begin(), steps.end(), s.step) - steps.begin();
    const bool last = at + 1 == static_cast<int64_t>(steps.size());
    if (at % every == 0 || last) {
      out.push_back({{"step", s.step}, {"prompt", s.prompt}, {"text", s.text}});
    }
  }
  return out;
}

}  // namespace

RunHistory load_history(const fs::path& run) {
  const fs::path path = run / kMetricsFile;
  HADAL_CHECK(fs::exists(path), kUsage, run.string(), " is no run: it has no ", kMetricsFile);
  RunHistory history;
  history.folder = run;
  const fs::path whole = fs::absolute(run).lexically_normal();
  history.name = (whole.has_filename() ? whole : whole.parent_path()).filename().string();
  history.recipe = read_facts(run / "recipe.json");
  history.facts = read_facts(run / "run.json");
  std::ifstream lines(path);
  HistoryReader reader(history);
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    if (lines.eof()) break;  // without an end of line: still being written
    const std::string where = str(path.string(), ":", ++number);
    reader.read_line(parse_json(line, where), where);
  }
  return history;
}

OrderedJson history_json(const RunHistory& history, const HistoryLimits& limits) {
  return {{"name", history.name},
          {"recipe", history.recipe},
          {"facts", history.facts},
          {"not_applied", history.not_applied},
          {"steps", columns_json(history.steps, limits.points)},
          {"evaluations", columns_json(history.evaluations, limits.points)},
          {"by_layer", layers_json(history, limits)},
          {"samples", samples_json(history, limits.samples)}};
}

}  // namespace hadal

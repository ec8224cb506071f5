#include "train/metrics_log.h"

#include <chrono>
#include <sstream>

namespace hadal {
namespace {

double unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

OrderedJson layer_json(const LayerMetrics& layer) {
  OrderedJson json{{"layer", layer.layer}, {"gradient_norm", layer.gradient_norm}};
  if (!layer.load.empty()) {
    json["max_vio"] = layer.max_vio;
    json["gate_entropy"] = layer.gate_entropy;
    json["load"] = layer.load;
  }
  return json;
}

void add_scalar(std::string tag, double value, std::vector<EventValue>& out) {
  out.push_back({std::move(tag), static_cast<float>(value)});
}

void add_layer(const LayerMetrics& layer, std::vector<EventValue>& out) {
  const std::string name =
      layer.layer < 0 ? "outside_layers/" : "layer_" + std::to_string(layer.layer) + "/";
  add_scalar(name + "gradient_norm", layer.gradient_norm, out);
  if (layer.load.empty()) return;
  add_scalar(name + "max_vio", layer.max_vio, out);
  add_scalar(name + "gate_entropy", layer.gate_entropy, out);
  out.push_back({name + "expert_load", EventHistogram{layer.load}});
}

void add_evaluation(const Evaluation& e, std::vector<EventValue>& out) {
  add_scalar("held_out/loss", e.loss, out);
  add_scalar("held_out/bits_per_byte", e.bits_per_byte, out);
  add_scalar("held_out/max_vio", e.max_vio, out);
  if (!e.mtp_loss.empty()) add_scalar("held_out/mtp_acceptance", e.acceptance, out);
}

std::vector<EventValue> event_values(const Progress& p, const std::vector<SampleText>& samples) {
  std::vector<EventValue> out;
  add_scalar("train/loss", p.loss, out);
  add_scalar("train/mtp_loss", p.mtp_loss, out);
  add_scalar("train/bits_per_byte", p.bits_per_byte, out);
  add_scalar("train/gradient_norm", p.gradient_norm, out);
  add_scalar("train/not_applied", static_cast<double>(p.not_applied), out);
  add_scalar("schedule/learning_rate", p.lr, out);
  add_scalar("schedule/gamma", p.gamma, out);
  add_scalar("schedule/sequence_alpha", p.sequence_alpha, out);
  add_scalar("schedule/mtp_lambda", p.mtp_lambda, out);
  add_scalar("balance/max_vio", p.max_vio, out);
  add_scalar("machine/tokens_per_s", p.tokens_per_s, out);
  add_scalar("machine/share_of_peak", p.share_of_peak, out);
  add_scalar("machine/resident_bytes", static_cast<double>(p.memory.resident_bytes), out);
  for (const LayerMetrics& layer : p.layers) add_layer(layer, out);
  if (p.evaluation && p.evaluation->step == p.step) add_evaluation(*p.evaluation, out);
  for (size_t i = 0; i < samples.size(); ++i) {
    // Four spaces: a block of code, so that nothing in it is taken for Markdown or HTML.
    std::string text = "    " + samples[i].prompt + samples[i].text;
    for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 5) {
      text.replace(at, 1, "\n    ");
    }
    out.push_back({"samples/" + std::to_string(i), text});
  }
  return out;
}

// The last line may have been cut short, too.
void drop_lines_after(int64_t step, const fs::path& path) {
  if (!fs::exists(path)) return;
  std::istringstream lines(read_file(path));
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    const Json entry = Json::parse(line, nullptr, false);
    const bool before = step > 0 && entry.is_object() && entry.value("step", int64_t{0}) <= step;
    if (before) kept += line + "\n";
  }
  write_file_atomically(path, kept);
}

// The folder, and no line in it of a step after `step`.
fs::path prepared(const fs::path& run, int64_t step) {
  make_folder(run);
  drop_lines_after(step, run / kMetricsFile);
  return run / kMetricsFile;
}

}  // namespace

MetricsLog::MetricsLog(const fs::path& run, int64_t step)
    : lines_(prepared(run, step)), events_(run / "tensorboard", step, unix_seconds()) {
}

void MetricsLog::sync() {
  lines_.sync();
}

void MetricsLog::write(int64_t step, OrderedJson line, const std::vector<EventValue>& values) {
  const double now = unix_seconds();
  line["time"] = now;
  // A text cut in the middle of a character is not valid UTF-8.
  lines_.write(line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  events_.add(step, now, values);
  events_.flush();
}

void MetricsLog::add_start(const Evaluation& evaluation) {
  std::vector<EventValue> values;
  add_evaluation(evaluation, values);
  write(0, {{"step", 0}, {"tokens", 0}, {"evaluation", evaluation_json(evaluation)}}, values);
}

void MetricsLog::add(const Progress& progress, const std::vector<SampleText>& samples) {
  OrderedJson line = progress_json(progress);
  for (const SampleText& s : samples) {
    line["samples"].push_back({{"prompt", s.prompt}, {"text", s.text}});
  }
  write(progress.step, std::move(line), event_values(progress, samples));
}

OrderedJson evaluation_json(const Evaluation& e) {
  OrderedJson json{{"loss", e.loss},
                   {"bits_per_byte", e.bits_per_byte},
                   {"tokens", e.tokens},
                   {"bytes", e.bytes},
                   {"max_vio", e.max_vio},
                   {"max_vio_by_layer", e.violations},
                   {"loss_by_position", e.loss_by_position}};
  if (!e.mtp_loss.empty()) {
    json["mtp_loss"] = e.mtp_loss;
    json["acceptance"] = e.acceptance;
  }
  if (e.sources.size() > 1) {
    for (const SourceEvaluation& s : e.sources) {
      json["sources"][s.name] = {{"loss", s.loss},
                                 {"bits_per_byte", s.bits_per_byte},
                                 {"tokens", s.tokens},
                                 {"bytes", s.bytes}};
    }
  }
  return json;
}

OrderedJson progress_json(const Progress& p) {
  OrderedJson json{{"step", p.step},
                   {"tokens", p.tokens},
                   {"loss", p.loss},
                   {"mtp_loss", p.mtp_loss},
                   {"bits_per_byte", p.bits_per_byte},
                   {"rows", p.rows},
                   {"lr", p.lr},
                   {"gamma", p.gamma},
                   {"sequence_alpha", p.sequence_alpha},
                   {"mtp_lambda", p.mtp_lambda},
                   {"gradient_norm", p.gradient_norm},
                   {"max_vio", p.max_vio},
                   {"seconds", p.seconds},
                   {"tokens_per_s", p.tokens_per_s},
                   {"share_of_peak", p.share_of_peak},
                   {"resident_bytes", p.memory.resident_bytes},
                   {"peak_bytes", p.memory.peak_bytes},
                   {"applied", p.applied}};
  if (!p.applied) json["data_rows"] = {p.row, p.row + p.rows - 1};
  for (const LayerMetrics& layer : p.layers) json["layers"].push_back(layer_json(layer));
  if (p.evaluation && p.evaluation->step == p.step) {
    json["evaluation"] = evaluation_json(*p.evaluation);
  }
  return json;
}

}  // namespace hadal

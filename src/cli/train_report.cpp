#include "cli/train_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/options.h"

namespace hadal {

std::string progress_text(const Progress& p) {
  std::string text = fmt::format("step {}/{}  loss {:.4f}  bits/byte {:.4f}", p.step, p.steps,
                                 p.loss, p.bits_per_byte);
  if (p.evaluation) text += fmt::format("  valid {:.4f}", p.evaluation->bits_per_byte);
  text += fmt::format("  {:.0f} tok/s", p.tokens_per_s);
  if (p.share_of_peak > 0) text += fmt::format(" {:.0f}% of peak", 100 * p.share_of_peak);
  if (p.max_vio > 0) text += fmt::format("  MaxVio {:.2f}", p.max_vio);
  text += fmt::format("  {:.0f} MB", static_cast<double>(p.memory.resident_bytes) / 1e6);
  if (p.evaluation && !p.evaluation->mtp_loss.empty()) {
    text += fmt::format("  accept {:.0f}%", 100 * p.evaluation->acceptance);
  }
  if (p.not_applied > 0) text += fmt::format("  not applied {}", p.not_applied);
  return text + "  left " + duration_text(p.eta_s);
}

namespace {

std::string not_applied_text(const Progress& p) {
  return fmt::format(
      "warning: step {} was not applied, {} in a row: loss {}, gradient norm {}; it read rows {} "
      "to {} of the data",
      p.step, p.not_applied_in_a_row, p.loss, p.gradient_norm, p.row, p.row + p.rows - 1);
}

}  // namespace

void TrainReport::tokenizing(const TokenizeProgress& p) {
  constexpr int kWidth = 24;
  const double share =
      static_cast<double>(p.bytes) / std::max(1.0, static_cast<double>(p.total_bytes));
  const auto full = static_cast<size_t>(kWidth * std::min(1.0, share));
  const std::string bar = std::string(full, '#') + std::string(kWidth - full, '.');
  line_.show(fmt::format("tokenising [{}] {:3.0f}%  {:.1f} of {:.1f} MB  {:.2f}M tokens  {}", bar,
                         100 * share, static_cast<double>(p.bytes) / 1e6,
                         static_cast<double>(p.total_bytes) / 1e6,
                         static_cast<double>(p.tokens) / 1e6, p.file.filename().string()));
}

void TrainReport::begin(TrainRun& run) {
  const TrainRecipe& r = run.trainer().recipe();
  const RunSchedule schedule(r);
  const auto batch = [&](int64_t step) { return schedule.at(step).rows * r.data.sequence_length; };
  const int64_t first = batch(0), last = batch(r.run.steps - 1);
  line_.keep(
      fmt::format("{:.1f}M parameters, {} training tokens, {} tokens a step, {} steps",
                  static_cast<double>(run.model().params().count()) / 1e6, run.data().tokens(),
                  first == last ? fmt::format("{}", first) : fmt::format("{} to {}", first, last),
                  r.run.steps));
}

void TrainReport::step(const Progress& progress) {
  if (first_max_vio_ < 0) first_max_vio_ = progress.max_vio;
  const bool fresh = progress.evaluation && progress.evaluation->step == progress.step;
  last_ = progress;
  if (!progress.applied) line_.keep(not_applied_text(progress));
  if (fresh || progress.step == progress.steps || !progress.applied) {
    line_.keep(progress_text(progress));
  } else {
    line_.show(progress_text(progress));
  }
}

void TrainReport::stopped(const std::string& resume_command) {
  if (json_) {
    print_json({{"stopped", true}, {"steps", last_.step}, {"resume", resume_command}});
    return;
  }
  fmt::print("stopped and saved after step {}; this goes on:\n  {}\n", last_.step, resume_command);
}

void TrainReport::end(TrainRun& run) {
  if (json_) {
    OrderedJson json{{"steps", run.trainer().state().step},
                     {"tokens", last_.tokens},
                     {"loss", last_.loss},
                     {"tokens_per_s", last_.tokens_per_s},
                     {"not_applied", last_.not_applied},
                     {"max_vio_first", first_max_vio_},
                     {"max_vio_last", last_.max_vio},
                     {"model", run.model_folder().string()}};
    if (run.before()) json["before"] = evaluation_json(*run.before());
    if (run.after()) json["after"] = evaluation_json(*run.after());
    print_json(json);
    return;
  }
  if (run.before() && run.after()) {
    fmt::print("held-out bits per byte  {:.4f} -> {:.4f}\n", run.before()->bits_per_byte,
               run.after()->bits_per_byte);
    const auto &before = run.before()->sources, &after = run.after()->sources;
    for (size_t i = 0; after.size() > 1 && i < after.size(); ++i) {
      fmt::print("  {:<21} {:.4f} -> {:.4f}\n", after[i].name, before[i].bits_per_byte,
                 after[i].bits_per_byte);
    }
    fmt::print("held-out worst MaxVio   {:.3f} -> {:.3f}\n", run.before()->max_vio,
               run.after()->max_vio);
    const auto &from = run.before()->loss_by_position, &to = run.after()->loss_by_position;
    const int64_t length = run.trainer().recipe().data.sequence_length;
    const auto parts = static_cast<int64_t>(to.size());
    for (int64_t i = 0; parts > 1 && i < parts; ++i) {
      const auto at = static_cast<size_t>(i);
      fmt::print("loss at {:<15} {:.4f} -> {:.4f}\n",
                 fmt::format("{}..{}", length * i / parts, length * (i + 1) / parts - 1), from[at],
                 to[at]);
    }
    if (!run.after()->mtp_loss.empty()) {
      fmt::print("MTP acceptance          {:.1f}% -> {:.1f}%\n", 100 * run.before()->acceptance,
                 100 * run.after()->acceptance);
    }
  }
  fmt::print("model                   {}\n", run.model_folder().string());
}

}  // namespace hadal

#include "train/ablation.h"

#include <algorithm>
#include <charconv>

#include "train/checkpoint.h"
#include "train/run_history.h"

namespace hadal {
namespace {

// Steps that the newest checkpoint of a run has behind it; not all of them before the model is
// written too.
int64_t steps_done(const AblationRun& run) {
  std::vector<std::string> passed_over;
  const auto newest = newest_checkpoint(run.recipe.run.out, passed_over);
  if (!newest) return 0;
  const std::string name = newest->filename().string();
  int64_t step = 0;
  std::from_chars(name.data() + name.rfind('-') + 1, name.data() + name.size(), step);
  const bool finished = fs::exists(fs::path(run.recipe.run.out) / "model" / "config.json");
  return finished ? step : std::min(step, run.recipe.run.steps - 1);
}

void run_slice(const AblationRun& run, int64_t until, const AblationEvents& events) {
  TrainRun training(run.recipe);
  std::vector<std::string> passed_over;
  training.resume(passed_over);
  if (events.prepare) events.prepare(training);
  training.train([&](const Progress& progress) {
    if (events.step) events.step(run, progress);
    return progress.step < until;
  });
}

double last_of(const RunHistory::Columns& columns, const char* name) {
  const auto found = columns.find(name);
  return found == columns.end() || found->second.empty() ? 0 : found->second.back();
}

// Of the median step: what disturbed the machine for a while does not count.
double rate_of(const RunHistory& history) {
  const auto found = history.steps.find("seconds");
  if (found == history.steps.end() || found->second.empty()) return 0;
  std::vector<double> seconds = found->second;
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size() / 2),
                   seconds.end());
  const double median = seconds[seconds.size() / 2];
  return median > 0 ? last_of(history.steps, "tokens") / last_of(history.steps, "step") / median
                    : 0;
}

// Complete: evaluated at its last step.
std::optional<RunHistory> complete_run(const AblationRun& run) {
  const fs::path folder = run.recipe.run.out;
  if (!fs::exists(folder / kMetricsFile)) return std::nullopt;
  RunHistory history = load_history(folder);
  const auto end = static_cast<double>(run.recipe.run.steps);
  if (last_of(history.evaluations, "step") != end) return std::nullopt;
  return history;
}

}  // namespace

bool run_ablation(const AblationPlan& plan, const std::vector<AblationRun>& runs,
                  const AblationEvents& events) {
  const size_t variants = plan.variants.size();
  std::vector<int64_t> done;
  int64_t longest = 0;
  for (const AblationRun& run : runs) {
    done.push_back(steps_done(run));
    longest = std::max(longest, run.recipe.run.steps);
  }
  size_t round = 0;
  for (int64_t until = plan.slice_steps; until - plan.slice_steps < longest;
       until += plan.slice_steps, ++round) {
    for (size_t i = 0; i < runs.size(); ++i) {
      const size_t at = i / variants * variants + (i + round) % variants;
      const int64_t target = std::min(until, runs[at].recipe.run.steps);
      if (done[at] >= target) continue;
      run_slice(runs[at], target, events);
      done[at] = target;
      const bool finished = at + 1 == runs.size() && target == longest;
      if (!finished && events.stop && events.stop()) return false;
    }
  }
  return true;
}

std::optional<double> final_loss(const AblationRun& run) {
  const std::optional<RunHistory> history = complete_run(run);
  if (!history) return std::nullopt;
  return last_of(history->evaluations, "loss");
}

std::vector<AblationRow> ablation_rows(const AblationPlan& plan,
                                       const std::vector<AblationRun>& runs) {
  const size_t variants = plan.variants.size();
  std::vector<std::optional<RunHistory>> histories;  // by seed and variant
  histories.reserve(runs.size());
  for (const AblationRun& run : runs) histories.push_back(complete_run(run));
  std::vector<AblationRow> rows(variants);
  for (size_t v = 0; v < variants; ++v) {
    AblationRow& row = rows[v];
    row.variant = plan.variants[v].name;
    std::vector<double> vios, acceptances, rates, first, mine;
    for (size_t s = 0; s < plan.seeds.size(); ++s) {
      const auto& history = histories[s * variants + v];
      if (!history) continue;
      row.losses.push_back(last_of(history->evaluations, "loss"));
      vios.push_back(last_of(history->evaluations, "max_vio"));
      acceptances.push_back(last_of(history->evaluations, "acceptance"));
      rates.push_back(rate_of(*history));
      row.parameters = history->facts.value("parameters", int64_t{0});
      row.kv_bytes_per_token = history->facts.value("kv_bytes_per_token", int64_t{0});
      if (!histories[s * variants]) continue;
      first.push_back(last_of(histories[s * variants]->evaluations, "loss"));
      mine.push_back(row.losses.back());
    }
    row.loss = mean_of(row.losses);
    row.spread = spread_of(row.losses);
    row.max_vio = mean_of(vios);
    row.acceptance = mean_of(acceptances);
    row.tokens_per_s = mean_of(rates);
    row.test = paired_test(first, mine);
  }
  judge(rows);
  return rows;
}

void judge(std::vector<AblationRow>& rows) {
  std::vector<double> chances;
  for (size_t i = 1; i < rows.size(); ++i) chances.push_back(rows[i].test.p);
  const std::vector<double> corrected = holm(chances);
  for (size_t i = 1; i < rows.size(); ++i) {
    rows[i].p = corrected[i - 1];
    rows[i].verdict = verdict_of(rows[i].test, rows[i].p);
  }
  if (!rows.empty()) rows[0].verdict = rows[0].losses.empty() ? "not complete" : "compared with";
}

std::string verdict_of(const PairedTest& test, double p) {
  if (test.pairs == 0) return "not complete";
  if (test.pairs == 1) return "one seed decides nothing";
  if (p >= kSignificance) return "no difference";
  return test.mean < 0 ? "better" : "worse";
}

}  // namespace hadal

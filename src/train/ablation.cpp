#include "train/ablation.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "model/inspect.h"
#include "train/checkpoint.h"
#include "train/run_history.h"
#include "train/run_schedule.h"

namespace hadal {
namespace {

// Steps that the newest checkpoint of a run has behind it.
int64_t steps_done(const AblationRun& run) {
  std::vector<std::string> passed_over;
  const auto newest = newest_checkpoint(run.recipe.run.out, passed_over);
  if (!newest) return 0;
  const std::string name = newest->filename().string();
  int64_t step = 0;
  std::from_chars(name.data() + name.rfind('-') + 1, name.data() + name.size(), step);
  return step;
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

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double spread_of(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values);
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
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

// Complete: evaluated at its last step. By seed and variant.
std::vector<std::optional<RunHistory>> complete_runs(const std::vector<AblationRun>& runs) {
  std::vector<std::optional<RunHistory>> out;
  for (const AblationRun& run : runs) {
    out.emplace_back();
    if (!fs::exists(fs::path(run.recipe.run.out) / kMetricsFile)) continue;
    RunHistory history = load_history(run.recipe.run.out);
    const auto end = static_cast<double>(run.recipe.run.steps);
    if (last_of(history.evaluations, "step") == end) out.back() = std::move(history);
  }
  return out;
}

std::string fixed(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string signed_text(double value) {
  return (value > 0 ? "+" : "") + fixed(value, 4);
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

std::vector<AblationRow> ablation_rows(const AblationPlan& plan,
                                       const std::vector<AblationRun>& runs) {
  const size_t variants = plan.variants.size();
  const auto histories = complete_runs(runs);
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
  // Holm: of m comparisons the smallest p counts m times, the next m - 1 times, ...
  std::vector<size_t> order;
  for (size_t i = 1; i < rows.size(); ++i) order.push_back(i);
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return rows[a].test.p < rows[b].test.p; });
  double least = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    AblationRow& row = rows[order[k]];
    const auto left = static_cast<double>(order.size() - k);
    least = std::max(least, std::min(1.0, left * row.test.p));
    row.p = least;
    if (row.test.pairs == 0) {
      row.verdict = "not complete";
    } else if (row.test.pairs == 1) {
      row.verdict = "one seed decides nothing";
    } else if (row.p < kSignificance) {
      row.verdict = row.test.mean < 0 ? "better" : "worse";
    } else {
      row.verdict = "no difference";
    }
  }
  if (!rows.empty()) rows[0].verdict = rows[0].losses.empty() ? "not complete" : "compared with";
}

std::string ablation_markdown(const AblationPlan& plan, const std::vector<AblationRun>& runs,
                              const std::vector<AblationRow>& rows) {
  bool routed = false, drafts = false;
  for (const AblationRow& row : rows) {
    routed = routed || row.max_vio > 0;
    drafts = drafts || row.acceptance > 0;
  }
  std::string out =
      str("# ", plan.name, "\n\n", plan.question, plan.question.empty() ? "" : "\n\n");
  out += "| variant | parameters | held-out loss | spread | beside " + rows[0].variant + " | p |";
  out += str(routed ? " MaxVio |" : "", drafts ? " MTP agreement |" : "",
             " KV bytes per token | tokens/s | verdict |\n|---|--:|--:|--:|--:|--:|",
             routed ? "--:|" : "", drafts ? "--:|" : "", "--:|--:|---|\n");
  for (size_t i = 0; i < rows.size(); ++i) {
    const AblationRow& row = rows[i];
    if (row.losses.empty()) {
      out += str("| ", row.variant, " |  |  |  |  |  |", routed ? "  |" : "", drafts ? "  |" : "",
                 "  |  | ", row.verdict, " |\n");
      continue;
    }
    const bool compared = i > 0 && row.test.pairs > 0;
    out += str("| ", row.variant, " | ", with_commas(row.parameters), " | ", fixed(row.loss, 4),
               " | ", fixed(row.spread, 4), " | ", compared ? signed_text(row.test.mean) : "",
               " | ", compared && row.test.pairs > 1 ? fixed(row.p, 3) : "", " | ");
    if (routed) out += fixed(row.max_vio, 2) + " | ";
    if (drafts) out += fixed(100 * row.acceptance, 1) + "% | ";
    out +=
        str(row.kv_bytes_per_token, " | ", fixed(row.tokens_per_s, 0), " | ", row.verdict, " |\n");
  }
  const TrainRecipe& r = runs[0].recipe;
  out +=
      str("\n", plan.seeds.size(), plan.seeds.size() == 1 ? " seed, " : " seeds, ",
          with_commas(RunSchedule(r).tokens_before(r.run.steps)),
          " tokens a run. Loss: nats per token of held-out text, mean over the seeds; spread: its "
          "standard deviation. p: of a paired t-test over the seeds, two-sided, after Holm's "
          "correction; \"better\" and \"worse\" are said below ",
          kSignificance, " only.\n");
  return out;
}

OrderedJson ablation_json(const std::vector<AblationRow>& rows) {
  OrderedJson out = OrderedJson::array();
  for (const AblationRow& row : rows) {
    out.push_back({{"variant", row.variant},
                   {"parameters", row.parameters},
                   {"losses", row.losses},
                   {"loss", row.loss},
                   {"spread", row.spread},
                   {"difference", row.test.mean},
                   {"p", row.p},
                   {"max_vio", row.max_vio},
                   {"acceptance", row.acceptance},
                   {"kv_bytes_per_token", row.kv_bytes_per_token},
                   {"tokens_per_s", row.tokens_per_s},
                   {"verdict", row.verdict}});
  }
  return out;
}

}  // namespace hadal

// What came out of an ablation, as Markdown and as JSON.
#include <cstdio>

#include "model/inspect.h"
#include "train/ablation.h"
#include "train/ablation_evaluate.h"
#include "train/run_schedule.h"

namespace hadal {
namespace {

std::string fixed(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string signed_text(double value) {
  return (value > 0 ? "+" : "") + fixed(value, 4);
}

std::string test_cells(const PairedTest& test, double p) {
  return str(" ", test.pairs > 0 ? signed_text(test.mean) : "", " | ",
             test.pairs > 1 ? fixed(p, 3) : "", " | ", verdict_of(test, p), " |");
}

OrderedJson test_json(const PairedTest& test, double p) {
  return {{"difference", test.mean}, {"p", p}, {"verdict", verdict_of(test, p)}};
}

}  // namespace

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

std::string evaluation_markdown(const std::vector<AblationEvaluation>& evaluations) {
  std::string out;
  for (const AblationEvaluation& e : evaluations) {
    out += str("\n## ", e.name, "\n\n", e.sets.empty() ? "" : "The finished models with ");
    for (const std::string& set : e.sets)
      out += str(&set == e.sets.data() ? "" : ", ", "`", set, "`");
    out += e.sets.empty() ? "" : ".\n\n";
    const bool several = e.rows.size() > 1;
    out += "| variant | held-out loss | spread | along the row | beside as trained | p | verdict |";
    if (several) out += " beside " + e.rows[0].variant + " | p | verdict |";
    out += str("\n|---|--:|--:|---|--:|--:|---|", several ? "--:|--:|---|" : "", "\n");
    for (const AblationEvaluation::Row& row : e.rows) {
      out += str("| ", row.variant, " | ", fixed(row.loss, 4), " | ", fixed(row.spread, 4), " |");
      for (const double loss : row.by_position) out += " " + fixed(loss, 3);
      out += " |" + test_cells(row.trained, row.trained_p);
      if (several)
        out +=
            &row == e.rows.data() ? "  |  | compared with |" : test_cells(row.first, row.first_p);
      out += "\n";
    }
  }
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

OrderedJson evaluation_json(const std::vector<AblationEvaluation>& evaluations) {
  OrderedJson out = OrderedJson::array();
  for (const AblationEvaluation& e : evaluations) {
    OrderedJson rows = OrderedJson::array();
    for (const AblationEvaluation::Row& row : e.rows) {
      rows.push_back({{"variant", row.variant},
                      {"losses", row.losses},
                      {"loss", row.loss},
                      {"spread", row.spread},
                      {"by_position", row.by_position},
                      {"beside_trained", test_json(row.trained, row.trained_p)},
                      {"beside_first", test_json(row.first, row.first_p)}});
    }
    out.push_back({{"name", e.name}, {"set", e.sets}, {"variants", rows}});
  }
  return out;
}

}  // namespace hadal

// hadal ablate: the same budget for several variants of a recipe, and what came out.
#include <fmt/format.h>

#include <chrono>
#include <iostream>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/report_html.h"
#include "cli/train_report.h"
#include "cli/train_watch.h"
#include "train/ablation_evaluate.h"

namespace hadal {
namespace {

struct AblateArguments {
  std::string plan, out;
  std::vector<std::string> sets;
  double minutes = 0;
  bool json = false;
};

std::vector<fs::path> begun(const std::vector<AblationRun>& runs) {
  std::vector<fs::path> folders;
  for (const AblationRun& run : runs) {
    if (fs::exists(fs::path(run.recipe.run.out) / kMetricsFile)) {
      folders.emplace_back(run.recipe.run.out);
    }
  }
  return folders;
}

bool train_all(const AblateArguments& o, const AblationPlan& plan,
               const std::vector<AblationRun>& runs) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  ProgressLine line;
  AblationEvents events;
  events.prepare = watch_run;
  events.step = [&](const AblationRun& run, const Progress& progress) {
    line.show(fmt::format("{}, seed {}: {}", plan.variants[run.variant].name, run.seed,
                          progress_text(progress)));
  };
  events.stop = [&] {
    const double minutes = std::chrono::duration<double>(Clock::now() - start).count() / 60;
    return o.minutes > 0 && minutes >= o.minutes;
  };
  return run_ablation(plan, runs, events);
}

std::vector<AblationEvaluation> evaluate_all(const AblationPlan& plan,
                                             const std::vector<AblationRun>& runs) {
  ProgressLine line;
  return evaluate_otherwise(plan, runs, [&](const auto& evaluation, const AblationRun& run) {
    line.show(
        fmt::format("{}: {}, seed {}", evaluation.name, plan.variants[run.variant].name, run.seed));
  });
}

int run_ablate(const AblateArguments& o) {
  const AblationPlan plan = load_plan(o.plan);
  const fs::path out = o.out.empty() ? fs::path("runs") / plan.name : fs::path(o.out);
  const std::vector<AblationRun> runs = ablation_runs(plan, out, o.sets);
  const bool complete = train_all(o, plan, runs);
  const std::vector<AblationRow> rows = ablation_rows(plan, runs);
  const auto evaluations = complete ? evaluate_all(plan, runs) : std::vector<AblationEvaluation>();
  const std::string table = ablation_markdown(plan, runs, rows) + evaluation_markdown(evaluations);
  write_file_atomically(out / "ablation.md", table);
  write_file_atomically(out / "report.html", report_html(load_histories(begun(runs)), plan.name));
  if (o.json) {
    print_json({{"complete", complete},
                {"variants", ablation_json(rows)},
                {"evaluations", evaluation_json(evaluations)}});
  } else {
    std::cout << table << "\n"
              << (out / "ablation.md").string() << "\n"
              << (out / "report.html").string() << "\n";
    if (!complete) std::cout << "Not complete; the same command goes on.\n";
  }
  return 0;
}

}  // namespace

void add_ablate(Cli& cli) {
  CLI::App* command = add_command(
      cli, "ablate", "train variants of a recipe at equal parameters and tokens, and compare",
      "  hadal ablate recipes/ablations/attention.toml --minutes 60\n"
      "  hadal ablate recipes/ablations/balance.toml --set run.steps=200 --out runs/balance\n"
      "Ends in DIR/ablation.md and DIR/report.html. The same command goes on with what is there;\n"
      "when all is trained it only compares again. What the plan asks under [[evaluate]] is asked\n"
      "of the trained models.\n");
  auto o = std::make_shared<AblateArguments>();
  add_option(command, "PLAN", o->plan, "plan, TOML").required();
  add_option(command, "--out", o->out, "folder of the runs (runs/NAME of the plan)")
      .type_name("DIR");
  add_option(command, "--minutes", o->minutes, "stop after the slice in which M minutes are over")
      .type_name("M")
      .real_range(0.01, 1e6);
  add_option(command, "--set", o->sets, "another value for a key of all recipes; repeatable")
      .type_name("KEY=VALUE")
      .repeatable();
  add_threads(command);
  add_json(command, o->json);
  on_run(cli, command, [o] { return run_ablate(*o); });
}

}  // namespace hadal

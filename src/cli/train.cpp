// hadal train: pre-training from a recipe.
#include <spdlog/spdlog.h>

#include <iostream>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/stop_signals.h"
#include "cli/train_report.h"
#include "cli/train_watch.h"
#include "core/parallel.h"
#include "train/run.h"

namespace hadal {
namespace {

struct TrainArguments {
  std::string recipe, out;
  std::vector<std::string> sets, allowed;
  bool resume = false, explain = false, json = false;
};

TrainRecipe recipe_of(const TrainArguments& o) {
  TrainRecipe recipe = load_recipe(o.recipe, o.sets);
  if (!o.out.empty()) recipe.run.out = o.out;
  return recipe;
}

int run_train(const TrainArguments& o, const Cli& cli) {
  const TrainRecipe recipe = recipe_of(o);
  if (o.explain) {
    std::cout << explain_recipe(recipe);
    return 0;
  }
  HADAL_CHECK(!recipe.run.out.empty(), kUsage,
              "where shall the run be written? Give --out DIR or set run.out");
  if (recipe.run.threads > 0) set_num_threads(recipe.run.threads);

  TrainReport report(o.json);
  TrainRun run(recipe, [&](const TokenizeProgress& progress) { report.tokenizing(progress); });
  for (const std::string& line : run.warnings()) spdlog::warn("{}", line);
  if (o.resume) {
    std::vector<std::string> passed_over;
    const std::optional<fs::path> from = run.resume(passed_over, o.allowed);
    for (const std::string& line : passed_over) spdlog::warn("{}", line);
    report.note(from ? "resumed from " + from->string() : "no checkpoint to resume from");
  } else {
    run.check_fresh();
  }
  watch_run(run);
  report.begin(run);
  const StopSignals stop;
  const bool finished = run.train([&](const Progress& progress) {
    report.step(progress);
    return !stop.requested();
  });
  finished ? report.end(run) : report.stopped(command_line(cli) + (o.resume ? "" : " --resume"));
  return 0;
}

}  // namespace

void add_train(Cli& cli) {
  CLI::App* command = add_command(
      cli, "train", "train a model as a recipe says",
      "  hadal train recipes/text_small.toml --out runs/text\n"
      "  hadal train recipes/text_small.toml --out runs/text --set run.steps=500 --resume\n"
      "  hadal train recipes/text_small.toml --explain\n"
      "The model ends in DIR/model, the log of every step in DIR/metrics.jsonl. Ctrl-C (SIGINT, "
      "SIGTERM)\n"
      "finishes the step, saves, and prints the command that goes on; twice stops at once.\n");
  auto o = std::make_shared<TrainArguments>();
  add_option(command, "RECIPE", o->recipe, "recipe, TOML").required();
  add_option(command, "--out", o->out, "folder of the run; default: the recipe's run.out")
      .type_name("DIR");
  add_option(command, "--set", o->sets, "another value for a key of the recipe; repeatable")
      .type_name("KEY=VALUE")
      .repeatable();
  add_flag(command, "--resume", o->resume, "go on from the newest checkpoint of the run");
  add_option(command, "--allow", o->allowed,
             "with --resume: this key of the recipe may differ from the checkpoint's; repeatable")
      .type_name("KEY")
      .repeatable();
  add_flag(command, "--explain", o->explain, "print every key, its value and meaning, and stop");
  add_json(command, o->json, "print one JSON object at the end");
  add_threads(command);
  on_run(cli, command, [o, &cli] { return run_train(*o, cli); });
}

}  // namespace hadal

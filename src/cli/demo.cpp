// hadal demo: a DeepSeek-V3 model from nothing to text, in minutes.
#include "cli/demo.h"

#include <fmt/format.h>

#include <iostream>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/train_report.h"

namespace hadal {
namespace {

struct DemoArguments {
  DemoOptions demo;
  bool json = false;
};

int run_demo(const DemoArguments& o) {
  ProgressLine line;
  const DemoEvents events{
      .say = [&](const std::string& text) { line.keep(text); },
      .step = [&](const Progress& p) { line.show(progress_text(p)); },
      .asked =
          [&](int64_t done, int64_t of) {
            line.show(fmt::format("questions about unseen stories: {} of {}", done, of));
          },
  };
  const DemoResult result = run_demo(o.demo, events);
  if (o.json) {
    print_json(demo_json(result));
    return 0;
  }
  for (const DemoSample& sample : result.samples) {
    std::cout << "\n[" << sample.prompt << "]" << sample.text << "\n";
  }
  std::cout << "\n" << demo_table(result) << std::flush;
  return 0;
}

}  // namespace

void add_demo(Cli& cli) {
  CLI::App* command = add_command(
      cli, "demo", "train a small model from nothing, save, load, generate, report",
      "  hadal demo\n"
      "  hadal demo --minutes 1 --out my-demo\n"
      "  hadal demo --steps 300 --seed 7 --json\n"
      "Writes its own corpus; needs no data. The same seed and steps give the same numbers on the\n"
      "same machine.\n");
  auto o = std::make_shared<DemoArguments>();
  add_option(command, "--seed", o->demo.seed, "of corpus, weights and order (1)");
  add_option(command, "--steps", o->demo.steps, "training steps (default: the recipe's)")
      .range(1, int64_t{1} << 30);
  add_option(command, "--minutes", o->demo.minutes, "as many steps as fit into M minutes")
      .type_name("M")
      .real_range(0.1, 10000)
      .excludes("--steps");
  add_option(command, "--out", o->demo.out, "folder to write (hadal-demo)").type_name("DIR");
  add_option(command, "--set", o->demo.sets,
             "another value for a key of recipes/demo.toml; repeatable")
      .type_name("KEY=VALUE")
      .repeatable();
  add_threads(command);
  add_json(command, o->json);
  on_run(cli, command, [o] { return run_demo(*o); });
}

}  // namespace hadal

// hadal inspect: what a config.json says of a model, without its weights.
#include "model/inspect.h"

#include <spdlog/spdlog.h>

#include <iostream>

#include "cli/command.h"
#include "cli/options.h"

namespace hadal {
namespace {

struct Options {
  std::string model;
  bool json = false;
};

int run(const Options& o) {
  ConfigWarnings warnings;
  const ModelConfig config = load_config(o.model, warnings);
  for (const std::string& line : warnings.lines) spdlog::warn("{}", line);
  const Inspection inspection = inspect_model(config);
  if (o.json) {
    print_json(inspection_json(inspection));
  } else {
    std::cout << inspection_text(inspection);
  }
  return 0;
}

}  // namespace

void add_inspect(Cli& cli) {
  CLI::App* command = add_command(
      cli, "inspect", "parameters, cache bytes and operations of a model, from its config alone",
      "  hadal inspect MODEL\n"
      "  hadal inspect config.json --json\n");
  auto o = std::make_shared<Options>();
  add_option(command, "MODEL", o->model, "model folder or config.json").required();
  add_json(command, o->json);
  on_run(cli, command, [o] { return run(*o); });
}

}  // namespace hadal

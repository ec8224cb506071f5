#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "cli/command.h"

namespace hadal {

// The program: its sub-commands and what it will exit with.
struct Cli {
  CLI::App app;
  std::function<int()> run;       // of the sub-command that was chosen
  std::vector<std::string> line;  // the command line, the program first
};

// Every sub-command registered.
void build_cli(Cli& cli);

// Parses, runs, and turns errors into `error: ...` on standard error and an exit code: 2 for a
// command line or recipe that asks for something impossible, 1 for everything else.
int run_cli(int argc, const char* const* argv);

}  // namespace hadal

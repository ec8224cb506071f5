#include "cli/app.h"

#include <cstdio>
#include <exception>
#include <iostream>

#include "core/error.h"
#include "core/log.h"
#include "core/version.h"

// The commands, in the order of --help. A new one: a file that defines add_NAME, and a name here.
#define HADAL_COMMANDS(X) \
  X(demo)                 \
  X(train)                \
  X(bench)                \
  X(bench_train)          \
  X(ablate)               \
  X(report)               \
  X(export)               \
  X(quantize)             \
  X(generate)             \
  X(chat)                 \
  X(inspect)              \
  X(logits)               \
  X(grad)                 \
  X(score)                \
  X(tokenize)             \
  X(detokenize)           \
  X(template)             \
  X(tokenizer)            \
  X(selftest)             \
  X(completion)

namespace hadal {

#define HADAL_DECLARE(name) void add_##name(Cli& cli);
HADAL_COMMANDS(HADAL_DECLARE)
#undef HADAL_DECLARE

namespace {

constexpr int kFailure = 1;
constexpr int kUsageFailure = 2;

constexpr const char* kExamples =
    "Examples:\n"
    "  hadal train recipes/text_small.toml --out runs/text\n"
    "  hadal train recipes/text_small.toml --set run.steps=50 --explain\n"
    "  hadal score runs/text/model story.txt\n"
    "  hadal logits runs/text/model --text \"Once upon\" --out logits.safetensors\n"
    "\n"
    "MODEL is a Hugging Face folder: config.json, *.safetensors, tokenizer.json.\n"
    "Results go to standard output, messages to standard error. Exit code 2: a command line or\n"
    "recipe asks for something impossible; 1: any other failure.\n";

std::string version_text() {
  const std::string git = kGitDescription;
  return std::string("hadal ") + kVersion + (git.empty() ? "" : " (" + git + ")");
}

int failed(const std::string& message, int code) {
  std::cout.flush();
  std::cerr << "error: " << message << std::endl;
  return code;
}

}  // namespace

void build_cli(Cli& cli) {
  cli.app.name("hadal");
  cli.app.description("Trains, evaluates and serves DeepSeek-V3-architecture models on CPUs.");
  cli.app.footer(kExamples);
  cli.app.set_version_flag("--version", version_text());
  cli.app.require_subcommand(1);
#define HADAL_ADD(name) add_##name(cli);
  HADAL_COMMANDS(HADAL_ADD)
#undef HADAL_ADD
}

int run_cli(int argc, const char* const* argv) {
  Cli cli;
  try {
    init_log();
    build_cli(cli);
    cli.line.assign(argv, argv + argc);
    cli.app.parse(argc, argv);
    const int code = cli.run ? cli.run() : 0;
    if (std::fflush(stdout) != 0 || !std::cout.flush()) {
      return failed("cannot write to standard output", kFailure);
    }
    return code;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return cli.app.exit(e);  // --help, --version
    return failed(std::string(e.what()) + " (hadal --help shows what there is)", kUsageFailure);
  } catch (const Error& e) {
    return failed(e.what(), e.kind() == ErrorKind::kUsage ? kUsageFailure : kFailure);
  } catch (const std::bad_alloc&) {
    return failed("out of memory", kFailure);
  } catch (const std::exception& e) {
    return failed(e.what(), kFailure);
  }
}

}  // namespace hadal

// hadal quantize: a model in another number format.
#include "model/quantize.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/stop_signals.h"
#include "core/error.h"

namespace hadal {
namespace {

struct QuantizeArguments {
  std::string model, out, format;
  bool json = false;
};

std::string bar(double share) {
  constexpr int kWidth = 30;
  const int full = static_cast<int>(share * kWidth);
  return "[" + std::string(static_cast<size_t>(full), '#') +
         std::string(static_cast<size_t>(kWidth - full), ' ') + "]";
}

int run_quantize(const QuantizeArguments& o) {
  const ModelFormat& format = find_model_format(o.format);
  ConfigWarnings warnings;
  ProgressLine progress;
  const StopSignals stop;
  QuantizeOptions options;
  options.progress = [&](int64_t done, int64_t total) {
    const double share = static_cast<double>(done) / static_cast<double>(total);
    progress.show(fmt::format("{} {:3.0f}%  {:.1f} of {:.1f} MB", bar(share), 100 * share,
                              static_cast<double>(done) / 1e6, static_cast<double>(total) / 1e6));
    return !stop.requested();
  };
  const Quantized result = quantize_model(o.model, o.out, format, options, warnings);
  const std::string line =
      fmt::format("{}  {:.1f} MB, {:.2f} bits per weight", o.out,
                  static_cast<double>(result.bytes) / 1e6, result.bits_per_weight());
  progress.keep(line);
  for (const std::string& warning : warnings.lines) spdlog::warn("{}", warning);
  if (o.json) {
    print_json({{"out", o.out},
                {"format", o.format},
                {"bytes", result.bytes},
                {"numbers", result.numbers},
                {"bits_per_weight", result.bits_per_weight()}});
  }
  return 0;
}

}  // namespace

void add_quantize(Cli& cli) {
  CLI::App* command = add_command(cli, "quantize", "write a model in another number format",
                                  "  hadal quantize MODEL OUT --format int8\n"
                                  "  hadal quantize MODEL OUT --format int4 --json\n"
                                  "OUT is a new Hugging Face folder, which every command takes as "
                                  "MODEL. int4 keeps attention,\n"
                                  "shared experts and the head in int8; int4-uniform does not.\n");
  auto o = std::make_shared<QuantizeArguments>();
  add_option(command, "MODEL", o->model, "model folder").required();
  add_option(command, "OUT", o->out, "folder to write").required();
  std::vector<std::string> names;
  for (const ModelFormat& f : model_formats()) names.emplace_back(f.name);
  add_option(command, "--format", o->format, fmt::format("{}", fmt::join(names, ", ")))
      .required()
      .type_name("F");
  add_threads(command);
  add_json(command, o->json);
  on_run(cli, command, [o] { return run_quantize(*o); });
}

}  // namespace hadal

// hadal export: a checkpoint of a run as a Hugging Face folder.
#include <spdlog/spdlog.h>

#include "cli/command.h"
#include "cli/options.h"
#include "core/files.h"
#include "model/pretrained.h"
#include "quant/formats.h"
#include "train/checkpoint.h"

namespace hadal {
namespace {

struct ExportArguments {
  std::string run, out, format = "fp32";
  int64_t step = -1;
  bool ema = false;
};

fs::path chosen(const ExportArguments& o) {
  if (o.step >= 0) return checkpoint_of_step(o.run, o.step);
  std::vector<std::string> passed_over;
  const std::optional<fs::path> newest = newest_checkpoint(o.run, passed_over);
  for (const std::string& line : passed_over) spdlog::warn("{}", line);
  HADAL_CHECK(newest.has_value(), kUsage, o.run, " has no checkpoint");
  return *newest;
}

int run_export(const ExportArguments& o) {
  const fs::path checkpoint = chosen(o);
  const auto model = load_fp32_model(checkpoint.string(), o.ema);
  if (o.ema) load_averages(*model, checkpoint);
  SaveOptions options;
  options.dtype = find_format(o.format).dtype;
  if (fs::exists(checkpoint / "tokenizer.json")) options.tokenizer = checkpoint;
  save_pretrained(*model, o.out, options);
  return 0;
}

}  // namespace

void add_export(Cli& cli) {
  CLI::App* command =
      add_command(cli, "export", "write a checkpoint of a run as a Hugging Face folder",
                  "  hadal export runs/text --step 200 --out model\n"
                  "  hadal export runs/text --out model --format bf16\n"
                  "  hadal export runs/text --step 200 --ema --out model\n");
  auto o = std::make_shared<ExportArguments>();
  add_option(command, "RUN", o->run, "folder of a run").required();
  add_option(command, "--step", o->step, "step of the checkpoint; default: the newest")
      .type_name("N");
  add_flag(command, "--ema", o->ema, "the averaged weights (optim.ema) instead of the last ones");
  add_option(command, "--out", o->out, "folder to write").required().type_name("DIR");
  add_option(command, "--format,--dtype", o->format, "how the weights are stored (default fp32)")
      .one_of({"fp32", "bf16", "fp8"});
  on_run(cli, command, [o] { return run_export(*o); });
}

}  // namespace hadal

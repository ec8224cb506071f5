// hadal bench-train: how fast is a recipe's training here, and what does it spend its time on?
#include <fmt/format.h>

#include <cmath>

#include "cli/command.h"
#include "cli/options.h"
#include "core/parallel.h"
#include "kernels/selftest.h"
#include "model/inspect.h"
#include "train/bench.h"

namespace hadal {
namespace {

struct BenchTrainArguments {
  std::string recipe;
  std::vector<std::string> sets;
  TrainBenchOptions bench;
  bool json = false;
};

// A measurement and the roofs around it.
struct Measured {
  TrainBench bench;
  Roofs before, after;
  std::string precision;

  double peak(const Roofs& r) const {
    return precision == "fp32" ? r.fp32_gflops.all_threads : r.bf16_gflops.all_threads;
  }
  // The better of both; shares mean little when they differ by more than a tenth.
  double peak() const { return std::max(peak(before), peak(after)); }
  bool unstable() const { return std::abs(peak(before) - peak(after)) > 0.1 * peak(); }
  double share_of_peak() const { return bench.gflops() / peak(); }
};

struct PartRow {
  const char* name;
  double seconds, flops;
};

std::vector<PartRow> part_rows(const TrainBench& b) {
  std::vector<PartRow> rows;
  for (size_t i = 0; i < kParts; ++i) {
    rows.push_back({part_name(static_cast<StepPart>(i)), b.parts[i].seconds, b.parts[i].flops});
  }
  rows.push_back({"elementwise", b.elementwise_seconds, 0});
  return rows;
}

OrderedJson roofs_json(const Roofs& r) {
  return {{"fp32_gflops", r.fp32_gflops.all_threads},
          {"bf16_gflops", r.bf16_gflops.all_threads},
          {"read_gb_per_s", r.read_gb_per_s.all_threads}};
}

OrderedJson bench_json(const Measured& m) {
  const TrainBench& b = m.bench;
  OrderedJson parts = OrderedJson::object();
  for (const PartRow& row : part_rows(b)) {
    parts[row.name] = {{"seconds", row.seconds}, {"flops", row.flops}};
  }
  return {{"engine", "hadal"},
          {"family", kernels().family},
          {"threads", b.threads},
          {"parameters", b.parameters},
          {"precision", m.precision},
          {"tokens_a_step", b.tokens_a_step},
          {"tokens_per_s", b.tokens_per_s},
          {"share_of_peak", m.share_of_peak()},
          {"flops_per_token", b.flops_per_token},
          {"peak_gflops", m.peak()},
          {"unstable", m.unstable()},
          {"loss", b.loss},
          {"max_vio", b.max_vio},
          {"seconds", b.seconds},
          {"parts", parts},
          {"peak_rss_bytes", b.peak_rss},
          {"memory",
           {{"weights", b.weights},
            {"gradients", b.gradients},
            {"moments", b.moments},
            {"activations", b.activations},
            {"packing", b.packing}}},
          {"roofs_before", roofs_json(m.before)},
          {"roofs_after", roofs_json(m.after)}};
}

void print_bench(const Measured& m) {
  const TrainBench& b = m.bench;
  fmt::print("{} parameters, {} tokens a step, {}, {} on {} threads\n", with_commas(b.parameters),
             with_commas(b.tokens_a_step), m.precision, kernels().family, b.threads);
  fmt::print("{:.0f} tokens/s = {:.0f} GFLOP/s, {:.0f}% of this machine's {:.0f}{}\n\n",
             b.tokens_per_s, b.gflops(), 100 * m.share_of_peak(), m.peak(),
             m.unstable() ? " (unstable: it changed by over 10%)" : "");
  fmt::print("{:<14}{:>8}{:>10}{:>10}\n", "part", "time", "GFLOP/s", "of peak");
  for (const PartRow& row : part_rows(b)) {
    fmt::print("{:<14}{:>7.1f}%", row.name, 100 * row.seconds / b.seconds);
    if (row.flops > 0) {
      const double rate = row.flops / row.seconds / 1e9;
      fmt::print("{:>10.0f}{:>9.0f}%", rate, 100 * rate / m.peak());
    }
    fmt::print("\n");
  }
  fmt::print("\n{:<14}{:>8}\n", "memory", "MB");
  const auto memory = [](const char* name, int64_t bytes) {
    fmt::print("{:<14}{:>8.0f}\n", name, static_cast<double>(bytes) / 1e6);
  };
  memory("weights", b.weights);
  memory("gradients", b.gradients);
  memory("moments", b.moments);
  memory("activations", b.activations);
  memory("packing", b.packing);
  memory("process, peak", b.peak_rss);
}

int run_bench_train(const BenchTrainArguments& o) {
  const TrainRecipe recipe = load_recipe(o.recipe, o.sets);
  if (recipe.run.threads > 0) set_num_threads(recipe.run.threads);
  Measured measured;
  measured.precision = recipe.run.precision;
  measured.before = measure_roofs();
  measured.bench = bench_train(recipe, o.bench);
  measured.after = measure_roofs();
  if (o.json) {
    print_json(bench_json(measured));
  } else {
    print_bench(measured);
  }
  return 0;
}

}  // namespace

void add_bench_train(Cli& cli) {
  CLI::App* command = add_command(
      cli, "bench-train", "time a recipe's training steps, by part, against this machine's roofs",
      "  hadal bench-train recipes/bench_45m.toml --set run.precision=bf16\n"
      "  hadal bench-train recipes/bench_45m.toml --json --threads 1\n"
      "The model of the recipe on random tokens; nothing is read or written but the tokenizer.\n");
  auto o = std::make_shared<BenchTrainArguments>();
  add_option(command, "RECIPE", o->recipe, "TOML file").required();
  add_option(command, "--set", o->sets, "KEY=VALUE: instead of what the recipe says").repeatable();
  add_option(command, "--steps", o->bench.steps, "steps that are timed").range(1, 1000000);
  add_option(command, "--warmup", o->bench.warmup, "steps before them").range(0, 1000000);
  add_option(command, "--max-vio", o->bench.max_vio,
             "make the experts' loads about so uneven (max / mean - 1)")
      .real_range(0, 1e6);
  add_json(command, o->json);
  add_threads(command);
  on_run(cli, command, [o] { return run_bench_train(*o); });
}

}  // namespace hadal

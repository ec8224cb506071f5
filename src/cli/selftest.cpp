// hadal selftest: are the kernels right on this CPU, and how fast may it be?
#include "kernels/selftest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/command.h"
#include "cli/options.h"

namespace hadal {
namespace {

OrderedJson rate_json(const Rate& rate) {
  return {{"one_thread", rate.one_thread}, {"all_threads", rate.all_threads}};
}

OrderedJson report_json(const SelftestReport& report) {
  OrderedJson kernels = OrderedJson::array();
  for (const KernelResult& r : report.kernels) {
    kernels.push_back(
        {{"family", r.family}, {"kernel", r.kernel}, {"worst", r.worst}, {"ok", r.ok()}});
  }
  OrderedJson reads = OrderedJson::array();
  for (const ReadRate& r : report.roofs.reads) {
    OrderedJson rate = rate_json(r.gigabytes_per_second);
    rate["streams"] = r.streams;
    reads.push_back(rate);
  }
  const KernelResult* failure = report.failure();
  return {{"ok", failure == nullptr},
          {"built", report.built},
          {"usable", report.usable},
          {"chosen", report.chosen},
          {"threads", report.threads},
          {"read_gb_per_s", rate_json(report.roofs.read_gb_per_s)},
          {"reads", reads},
          {"fp32_gflops", rate_json(report.roofs.fp32_gflops)},
          {"bf16_gflops", rate_json(report.roofs.bf16_gflops)},
          {"int8_gops", rate_json(report.roofs.int8_gops)},
          {"kernels", kernels}};
}

void print_report(const SelftestReport& report) {
  fmt::print("kernel families  built: {}\n", fmt::join(report.built, ", "));
  fmt::print("                 usable here: {}\n", fmt::join(report.usable, ", "));
  fmt::print("                 chosen: {}\n", report.chosen);
  for (const std::string_view family : report.usable) {
    int64_t right = 0, all = 0;
    for (const KernelResult& r : report.kernels) {
      if (r.family != family) continue;
      ++all;
      right += r.ok() ? 1 : 0;
      if (!r.ok()) {
        fmt::print("WRONG  {}: {} is {:.3g} times the allowed error off\n", r.family, r.kernel,
                   r.worst);
      }
    }
    fmt::print("{:<16} {} of {} kernels agree with double precision\n", family, right, all);
  }
  const auto row = [&](const char* name, const Rate& rate, const char* unit) {
    fmt::print("{:<16} {:8.1f} {:<7} {:8.1f} {} on {} threads\n", name, rate.one_thread, unit,
               rate.all_threads, unit, report.threads);
  };
  row("DRAM read", report.roofs.read_gb_per_s, "GB/s");
  row("FP32", report.roofs.fp32_gflops, "GFLOP/s");
  row("BF16", report.roofs.bf16_gflops, "GFLOP/s");
  row("int8", report.roofs.int8_gops, "GOP/s");
}

int run_selftest(bool json) {
  const SelftestReport report = selftest();
  if (json) {
    print_json(report_json(report));
  } else {
    print_report(report);
  }
  const KernelResult* failure = report.failure();
  if (failure == nullptr) return 0;
  throw Error(ErrorKind::kInternal,
              str("kernel ", failure->kernel, " of family ", failure->family, " is wrong here"));
}

}  // namespace

void add_selftest(Cli& cli) {
  CLI::App* command = add_command(
      cli, "selftest", "check the kernels of this machine and measure its roofs",
      "  hadal selftest --json\n"
      "Exit code 1 if a kernel of any family disagrees with the double-precision reference.\n");
  auto json = std::make_shared<bool>(false);
  add_json(command, *json);
  add_threads(command);
  on_run(cli, command, [json] { return run_selftest(*json); });
}

}  // namespace hadal

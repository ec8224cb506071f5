// hadal report: what became of runs, as one page.
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/report_html.h"

namespace hadal {
namespace {

struct ReportArguments {
  std::vector<std::string> runs;
  std::string out = "report.html", title = "Training report";
};

int run_report(const ReportArguments& o) {
  const std::vector<RunHistory> runs =
      load_histories(std::vector<fs::path>(o.runs.begin(), o.runs.end()));
  const std::string page = report_html(runs, o.title);
  write_file_atomically(o.out, page);
  fmt::print("{}  {} {}, {:.0f} KB\n", o.out, runs.size(), runs.size() == 1 ? "run" : "runs",
             static_cast<double>(page.size()) / 1e3);
  return 0;
}

}  // namespace

void add_report(Cli& cli) {
  CLI::App* command = add_command(
      cli, "report", "one page about runs: curves, loads of experts, texts, settings, speed",
      "  hadal report runs/a runs/b --out report.html\n"
      "The page is one file and needs no network. A run that still goes on may be looked at "
      "too.\n");
  auto o = std::make_shared<ReportArguments>();
  add_option(command, "RUN", o->runs, "folders of runs (hadal train --out)").required();
  add_option(command, "--out", o->out, "the page (report.html)").type_name("FILE");
  add_option(command, "--title", o->title, "its heading").type_name("TEXT");
  on_run(cli, command, [o] { return run_report(*o); });
}

}  // namespace hadal

#include "cli/report_html.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr const char* kAttack = "</script><img src=x onerror=alert(1)><!--<script>";

fs::path run_at(const fs::path& folder, const OrderedJson& line) {
  make_folder(folder);
  write_file_atomically(folder / "metrics.jsonl", line.dump() + "\n");
  return folder;
}

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

// A run's files may come from anywhere: a text of the model, a setting, a key, a folder's name.
TEST(ReportHtml, NothingOfARunIsMarkup) {
  const fs::path run =
      run_at(scratch_dir() / "a<b>&\"{{script}}",
             {{"step", 1},
              {kAttack, 1.5},
              {"samples", {{{"prompt", kAttack}, {"text", std::string("\u2028") + kAttack}}}}});
  write_file_atomically(run / "recipe.json", OrderedJson{{kAttack, kAttack}}.dump());
  const std::string plain =
      report_html(load_histories({run_at(scratch_dir() / "b", {{"step", 1}})}), "title");
  const std::string html = report_html(load_histories({run}), std::string("t") + kAttack);
  EXPECT_EQ(html.find(kAttack), std::string::npos);
  EXPECT_EQ(count(html, "onerror=alert(1)"), count(html, "\\u003cimg src=x onerror=alert(1)") + 1);
  EXPECT_EQ(count(html, "<title>t&lt;/script&gt;&lt;img"), 1u);
  for (const char* markup : {"<script", "</script", "<img", "<!--", "<title"}) {
    EXPECT_EQ(count(html, markup), count(plain, markup)) << markup;
  }
  EXPECT_EQ(html.find("\u2028"), std::string::npos);
  EXPECT_NE(html.find("a\\u003cb>&\\\"{{script}}"), std::string::npos);  // not filled in
}

TEST(ReportHtml, AsksNothingOfTheNetwork) {
  const std::string html =
      report_html(load_histories({run_at(scratch_dir() / "b", {{"step", 1}})}), "title");
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
  for (const char* part : {"src=", "href=", "@import", "url(http", "fetch(", "XMLHttpRequest",
                           "innerHTML", "insertAdjacentHTML", "document.write", "eval("}) {
    EXPECT_EQ(html.find(part), std::string::npos) << part;
  }
}

TEST(ReportHtml, RunsOfTheSameNameAreToldApart) {
  const fs::path folder = scratch_dir();
  const std::vector<RunHistory> runs = load_histories({run_at(folder / "x" / "run", {{"step", 1}}),
                                                       run_at(folder / "y" / "run", {{"step", 1}}),
                                                       run_at(folder / "z", {{"step", 1}})});
  EXPECT_EQ(runs[0].name, (folder / "x" / "run").string());
  EXPECT_EQ(runs[1].name, (folder / "y" / "run").string());
  EXPECT_EQ(runs[2].name, "z");
}

}  // namespace
}  // namespace hadal

#include "cli/report_html.h"

#include "cli/report_page.h"
#include "cli/report_script.h"
#include "cli/report_style.h"
#include "core/error.h"
#include "core/version.h"

namespace hadal {
namespace {

// In JSON, `<` can stand in strings only, where it may as well be written as \u003c: nothing in a
// run's texts can end the script element. U+2028 and U+2029 are line ends to older parsers.
std::string json_in_html(const OrderedJson& json) {
  const std::string text = json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') {
      out += "\\u003c";
    } else if (text.compare(i, 3, "\u2028") == 0 || text.compare(i, 3, "\u2029") == 0) {
      out += text.compare(i, 3, "\u2028") == 0 ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// What stands between two marks stays as it is: what was put in is not looked at again.
std::string filled(const std::string& page,
                   const std::vector<std::pair<std::string, std::string>>& parts) {
  std::string out;
  size_t from = 0;
  for (const auto& [mark, text] : parts) {
    const size_t at = page.find(mark, from);
    HADAL_CHECK(at != std::string::npos, kInternal, "the report's page has no ", mark);
    out += page.substr(from, at - from) + text;
    from = at + mark.size();
  }
  return out + page.substr(from);
}

}  // namespace

std::string report_html(const std::vector<RunHistory>& runs, const std::string& title) {
  OrderedJson data{{"title", title}, {"version", kVersion}, {"runs", OrderedJson::array()}};
  for (const RunHistory& run : runs) data["runs"].push_back(history_json(run));
  return filled(kReportPage, {{"{{title}}", escaped(title)},
                              {"{{style}}", kReportStyle},
                              {"{{data}}", json_in_html(data)},
                              {"{{script}}", kReportScript}});
}

std::vector<RunHistory> load_histories(const std::vector<fs::path>& folders) {
  std::vector<RunHistory> runs;
  for (const fs::path& folder : folders) runs.push_back(load_history(folder));
  std::vector<std::string> names;
  for (const RunHistory& run : runs) {
    int64_t same = 0;
    for (const RunHistory& other : runs) same += other.name == run.name ? 1 : 0;
    names.push_back(same > 1 ? run.folder.lexically_normal().string() : run.name);
  }
  for (size_t i = 0; i < runs.size(); ++i) runs[i].name = names[i];
  return runs;
}

}  // namespace hadal

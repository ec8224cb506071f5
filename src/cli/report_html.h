#pragma once
#include <string>
#include <vector>

#include "core/files.h"
#include "train/run_history.h"

namespace hadal {

// The page of `hadal report`: one file that needs no network. What comes from runs (names, texts,
// settings) stands in it as JSON in which no `<` is left, and the script puts it on the page as
// text, never as HTML.
std::string report_html(const std::vector<RunHistory>& runs, const std::string& title);

// Loads the runs; those whose folders have the same name are told apart by their parents' names.
std::vector<RunHistory> load_histories(const std::vector<fs::path>& folders);

}  // namespace hadal

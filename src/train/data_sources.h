#pragma once
#include <string>
#include <vector>

#include "core/json.h"

namespace hadal {

// One of several sources of text, a table of its own in a recipe:
//
//   [[data.source]]
//   name = "stories"                       # of its own; what is held out is reported under it
//   train = ["stories_*.jsonl.zst"]        # as data.train
//   valid = ["stories_valid.jsonl.zst"]    # as data.valid; may be left out
//   weight = 0.7                           # share of the rows, relative to the other sources'; 1
struct DataSource {
  std::string name;
  std::vector<std::string> train, valid;
  double weight = 1;
  bool operator==(const DataSource&) const = default;
};
using DataSources = std::vector<DataSource>;

// From a list of tables as above and back. Error{kUsage} begins with `where` and names table, key
// and value and what was expected.
DataSources parse_sources(const Json& list, const std::string& where);
OrderedJson sources_json(const DataSources& sources);

}  // namespace hadal

#include "train/data_sources.h"

#include <algorithm>

#include "core/error.h"

namespace hadal {
namespace {

std::vector<std::string> files_of(const Json& value, const std::string& where) {
  const bool list =
      value.is_array() &&
      std::all_of(value.begin(), value.end(), [](const Json& item) { return item.is_string(); });
  HADAL_CHECK(list, kUsage, where, " is ", json_brief(value), ", expected a list of file names");
  return value.get<std::vector<std::string>>();
}

void read_key(const std::string& key, const Json& value, const std::string& where,
              DataSource& source) {
  const std::string at = str(where, ".", key);
  if (key == "name") {
    HADAL_CHECK(value.is_string() && !value.get<std::string>().empty(), kUsage, at, " is ",
                json_brief(value), ", expected a name");
    source.name = value.get<std::string>();
  } else if (key == "train") {
    source.train = files_of(value, at);
  } else if (key == "valid") {
    source.valid = files_of(value, at);
  } else if (key == "weight") {
    const double weight = value.is_number() ? value.get<double>() : 0;
    HADAL_CHECK(weight > 0 && weight <= 1e9, kUsage, at, " is ", json_brief(value),
                ", expected a number above 0, up to 1e9");
    source.weight = weight;
  } else {
    throw Error(ErrorKind::kUsage,
                str(at, ": no such key; a source has name, train, valid and weight"));
  }
}

}  // namespace

DataSources parse_sources(const Json& list, const std::string& where) {
  HADAL_CHECK(list.is_array(), kUsage, where, " is ", json_brief(list),
              ", expected a list of tables, [[data.source]] each");
  DataSources sources;
  for (const Json& table : list) {
    const std::string at = str(where, "[", sources.size(), "]");
    HADAL_CHECK(table.is_object(), kUsage, at, " is ", json_brief(table), ", expected a table");
    DataSource source;
    for (const auto& [key, value] : table.items()) read_key(key, value, at, source);
    HADAL_CHECK(!source.name.empty(), kUsage, at, " has no name");
    HADAL_CHECK(!source.train.empty(), kUsage, at, ", \"", source.name, "\", has no train");
    for (const DataSource& other : sources) {
      HADAL_CHECK(other.name != source.name, kUsage, where, ": two sources are named \"",
                  source.name, "\"");
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

OrderedJson sources_json(const DataSources& sources) {
  OrderedJson list = OrderedJson::array();
  for (const DataSource& s : sources) {
    list.push_back(
        {{"name", s.name}, {"train", s.train}, {"valid", s.valid}, {"weight", s.weight}});
  }
  return list;
}

}  // namespace hadal

// Phases from a recipe's tables and back.
#include <array>
#include <cmath>

#include "core/error.h"
#include "train/nearest.h"
#include "train/schedule.h"

namespace hadal {
namespace {

constexpr double kLongest = 1e15;  // steps or tokens of a phase

struct ShapeName {
  Phase::Shape shape;
  const char* name;
};
constexpr std::array kShapes{ShapeName{Phase::Shape::kConstant, "constant"},
                             ShapeName{Phase::Shape::kLinear, "linear"},
                             ShapeName{Phase::Shape::kCosine, "cosine"}};
struct EndName {
  bool tokens, until;
  const char* name;
};
constexpr std::array kEnds{EndName{false, false, "steps"}, EndName{true, false, "tokens"},
                           EndName{false, true, "until_steps"},
                           EndName{true, true, "until_tokens"}};

std::vector<std::string> key_names() {
  std::vector<std::string> names;
  for (const ShapeName& s : kShapes) names.emplace_back(s.name);
  names.emplace_back("from");
  for (const EndName& e : kEnds) names.emplace_back(e.name);
  return names;
}

double value_of(const Json& value, const std::string& at, double min, double max) {
  HADAL_CHECK(value.is_number() && value.get<double>() >= min && value.get<double>() <= max, kUsage,
              at, " is ", json_brief(value), ", expected a number from ", min, " to ", max);
  return value.get<double>();
}

int64_t length_of(const Json& value, const std::string& at) {
  const double number = value.is_number() ? value.get<double>() : 0;
  HADAL_CHECK(number >= 1 && number <= kLongest && number == std::floor(number), kUsage, at, " is ",
              json_brief(value), ", expected a whole number from 1 to ", kLongest);
  return static_cast<int64_t>(number);
}

Phase parse_phase(const Json& table, const std::string& where, double min, double max) {
  HADAL_CHECK(table.is_object(), kUsage, where, " is ", json_brief(table),
              ", expected a table such as { linear = 1e-3, steps = 100 }");
  Phase phase;
  int shapes = 0, ends = 0;
  for (const auto& [key, value] : table.items()) {
    const std::string at = str(where, ".", key);
    bool known = key == "from";
    if (known) phase.from = value_of(value, at, min, max);
    for (const ShapeName& s : kShapes) {
      if (key != s.name) continue;
      known = true;
      ++shapes;
      phase.shape = s.shape;
      phase.to = value_of(value, at, min, max);
    }
    for (const EndName& e : kEnds) {
      if (key != e.name) continue;
      known = true;
      ++ends;
      phase.end = length_of(value, at);
      phase.tokens = e.tokens;
      phase.until = e.until;
    }
    HADAL_CHECK(known, kUsage, at, ": no such key; did you mean ", nearest(key, key_names()), "?");
  }
  HADAL_CHECK(shapes == 1, kUsage, where, " has ", shapes,
              " shapes, expected one of constant, linear, cosine");
  HADAL_CHECK(ends <= 1, kUsage, where, " has ", ends,
              " ends, expected one of steps, tokens, until_steps, until_tokens");
  HADAL_CHECK(phase.shape != Phase::Shape::kConstant || !phase.from, kUsage, where,
              ".from: a constant phase begins where it stays");
  return phase;
}

}  // namespace

Phases parse_phases(const Json& list, const std::string& where, double min, double max) {
  HADAL_CHECK(list.is_array(), kUsage, where, " is ", json_brief(list),
              ", expected a list of phases such as [{ linear = 1e-3, steps = 100 }]");
  Phases phases;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string at = str(where, "[", i, "]");
    phases.push_back(parse_phase(list[i], at, min, max));
    const bool last = i + 1 == list.size();
    HADAL_CHECK(phases.back().end > 0 || (last && phases.back().shape == Phase::Shape::kConstant),
                kUsage, at, " has no end: only a last, constant phase needs none");
  }
  return phases;
}

OrderedJson phases_json(const Phases& phases) {
  OrderedJson list = OrderedJson::array();
  for (const Phase& phase : phases) {
    OrderedJson table = OrderedJson::object();
    for (const ShapeName& s : kShapes) {
      if (s.shape == phase.shape) table[s.name] = phase.to;
    }
    if (phase.from) table["from"] = *phase.from;
    for (const EndName& e : kEnds) {
      if (phase.end > 0 && e.tokens == phase.tokens && e.until == phase.until) {
        table[e.name] = phase.end;
      }
    }
    list.push_back(table);
  }
  return list;
}

}  // namespace hadal

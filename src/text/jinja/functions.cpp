// Functions that templates call by name, and the arguments of every call.
#include <algorithm>

#include "text/jinja/library.h"

namespace hadal::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox has it

Value range(Context& context, const Args& args) {
  HADAL_CHECK(args.named.empty() && !args.positional.empty() && args.positional.size() <= 3,
              kFormat, "range takes 1 to 3 integers");
  for (const Value& value : args.positional) {
    require_defined(value);
    HADAL_CHECK(value.is_integer(), kFormat, "range of a value of type ", type_name(value),
                ", expected an integer");
  }
  const bool from_zero = args.positional.size() == 1;
  const int64_t begin = from_zero ? 0 : args.positional[0].integer();
  const int64_t end = args.positional[from_zero ? 0 : 1].integer();
  const int64_t step = args.positional.size() == 3 ? args.positional[2].integer() : 1;
  HADAL_CHECK(step != 0, kFormat, "range with step 0, expected another");
  // Differences without a sign cannot overflow.
  const auto far = [](int64_t to, int64_t from) {
    return static_cast<uint64_t>(to) - static_cast<uint64_t>(from);
  };
  const uint64_t span =
      step > 0 ? (end > begin ? far(end, begin) : 0) : (begin > end ? far(begin, end) : 0);
  const uint64_t by = step > 0 ? static_cast<uint64_t>(step) : far(0, step);
  const uint64_t count = span == 0 ? 0 : (span - 1) / by + 1;
  HADAL_CHECK(count <= static_cast<uint64_t>(kMaxRange), kFormat, "range of more than ", kMaxRange,
              " integers, expected fewer");
  std::vector<Value> items;
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i) items.push_back({begin + i * step});
  const std::string label = str("range(", begin, ", ", end, step == 1 ? "" : str(", ", step), ")");
  return make_list(std::move(items), context.budget, Sequence::Kind::kRange, label);
}

std::vector<std::pair<Value, Value>> entries(Context& context, const Args& args, const char* what) {
  std::vector<std::pair<Value, Value>> pairs;
  HADAL_CHECK(args.positional.size() <= 1, kFormat, what, " takes one dictionary and named values");
  if (!args.positional.empty()) {
    const auto* dict = args.positional[0].get<DictPtr>();
    if (dict != nullptr) {
      pairs = (*dict)->items;
    } else {
      const SequencePtr whole = iterate(args.positional[0], context.budget);
      for (const Value& item : whole->items) {
        const SequencePtr pair = iterate(item, context.budget);
        HADAL_CHECK(pair->items.size() == 2, kFormat, what, " of an item of ", pair->items.size(),
                    " values, expected pairs");
        pairs.emplace_back(pair->items[0], pair->items[1]);
      }
    }
  }
  for (const auto& [name, value] : args.named) {
    pairs.emplace_back(make_string(name, context.budget), value);
  }
  return pairs;
}

Value dict(Context& context, const Args& args) {
  return make_dict_from_pairs(entries(context, args, "dict"), context.budget);
}

Value make_namespace(Context& context, const Args& args) {
  const Value fields = make_dict_from_pairs(entries(context, args, "namespace"), context.budget);
  std::vector<std::pair<std::string, Value>> own;
  for (const auto& [name, value] : (*fields.get<DictPtr>())->items) {
    HADAL_CHECK(name.is_string() && !name.string().starts_with('_'), kFormat,
                "a field of a namespace begins with _ or is no string, expected another name");
    own.emplace_back(name.string(), value);
  }
  context.budget.make((own.size() + 1) * sizeof(Value));
  context.namespaces.push_back(std::move(own));
  return {NamespaceId{static_cast<int32_t>(context.namespaces.size()) - 1}};
}

Value raise_exception(Context& context, const Args& args) {
  const Parameters p("raise_exception", args, {"message"});
  throw Error(ErrorKind::kFormat, to_str(p.value(0), context.budget));
}

Value strftime_now(Context& context, const Args& args) {
  const Parameters p("strftime_now", args, {"format"});
  std::tm parts{};
  HADAL_CHECK(localtime_r(&context.now, &parts) != nullptr, kFormat,
              "strftime_now: the clock shows ", context.now, ", expected a time of the calendar");
  const std::string& format = p.string(0);
  HADAL_CHECK(format.size() <= 1000, kFormat, "strftime_now with a format of ", format.size(),
              " bytes, expected at most 1000");
  std::string text(format.size() * 64 + 64, '\0');  // no field is longer
  // A mark of its own tells an empty text from one that did not fit.
  text.resize(std::strftime(text.data(), text.size(), (format + "x").c_str(), &parts));
  if (!text.empty()) text.pop_back();
  return make_string(std::move(text), context.budget);
}

constexpr Function kFunctions[] = {
    {"range", range},
    {"dict", dict},
    {"namespace", make_namespace},
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
};

}  // namespace

const Function* find_function(const std::string& name) {
  const auto* found = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                                   [&](const Function& each) { return name == each.name; });
  return found == std::end(kFunctions) ? nullptr : found;
}

Parameters::Parameters(const char* function, const Args& args,
                       std::initializer_list<const char*> names)
    : function_(function), names_(names), values_(names.size(), nullptr) {
  HADAL_CHECK(args.positional.size() <= names_.size(), kFormat, function, " is given ",
              args.positional.size(), " arguments, expected at most ", names_.size());
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    HADAL_CHECK(found != names_.end(), kFormat, function, " has no argument ", name);
    const Value*& place = values_[static_cast<size_t>(found - names_.begin())];
    HADAL_CHECK(place == nullptr, kFormat, function, " is given ", name, " twice, expected once");
    place = &value;
  }
}

const Value& Parameters::value(size_t i) const {
  HADAL_CHECK(values_[i] != nullptr, kFormat, function_, " is not given ", names_[i]);
  return *values_[i];
}

const std::string& Parameters::string(size_t i) const {
  require_defined(value(i));
  HADAL_CHECK(value(i).is_string(), kFormat, function_, ": ", names_[i], " is of type ",
              type_name(value(i)), ", expected a string");
  return value(i).string();
}

std::string Parameters::string_or(size_t i, const char* otherwise) const {
  return values_[i] == nullptr ? otherwise : string(i);
}

int64_t Parameters::integer(size_t i) const {
  require_defined(value(i));
  HADAL_CHECK(value(i).is_integer(), kFormat, function_, ": ", names_[i], " is of type ",
              type_name(value(i)), ", expected an integer");
  return value(i).integer();
}

int64_t Parameters::integer_or(size_t i, int64_t otherwise) const {
  return values_[i] == nullptr ? otherwise : integer(i);
}

bool Parameters::truth_or(size_t i, bool otherwise) const {
  return values_[i] == nullptr ? otherwise : truth(*values_[i]);
}

}  // namespace hadal::jinja

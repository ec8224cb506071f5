// Methods of strings, dictionaries, lists and of loop.
#include <algorithm>

#include "text/jinja/library.h"
#include "text/jinja/python_text.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

struct MethodRow {
  const char* name;
  Value (*call)(Context&, const Value&, const Args&);
};

using Text = const std::string&;

Value strings(std::vector<std::string> parts, Context& context, Sequence::Kind kind) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (std::string& part : parts) items.push_back(make_string(std::move(part), context.budget));
  return make_list(std::move(items), context.budget, kind);
}

Value strip_method(Context& context, const Value& self, const Args& args, bool left, bool right) {
  const Parameters p("strip", args, {"chars"});
  std::optional<std::string_view> chars;
  if (p.has(0)) chars = p.string(0);
  context.budget.scan(self.string().size() * (chars ? 1 + chars->size() / 8 : 1));
  return make_string(std::string(strip(self.string(), chars, left, right)), context.budget);
}

Value split_method(Context& context, const Value& self, const Args& args, bool from_right) {
  const Parameters p("split", args, {"sep", "maxsplit"});
  std::optional<std::string_view> separator;
  if (p.has(0)) separator = p.string(0);
  return strings(
      (from_right ? rsplit : split)(self.string(), separator, p.integer_or(1, -1), context.budget),
      context, Sequence::Kind::kList);
}

// One text or a tuple of them.
Value affix(const char* name, const Value& self, const Args& args, bool begin) {
  const Parameters p(name, args, {"text"});
  const auto matches = [&](const Value& each) {
    HADAL_CHECK(each.is_string(), kFormat, name, " of a value of type ", type_name(each),
                ", expected a string");
    return begin ? self.string().starts_with(each.string())
                 : self.string().ends_with(each.string());
  };
  const auto* several = p.value(0).get<SequencePtr>();
  if (several == nullptr || (*several)->kind != Sequence::Kind::kTuple)
    return {matches(p.value(0))};
  return {std::any_of((*several)->items.begin(), (*several)->items.end(), matches)};
}

Value find_method(Context& context, const Value& self, const Args& args, bool from_right,
                  bool must) {
  const Parameters p("find", args, {"text"});
  const size_t at = from_right ? rfind_text(self.string(), p.string(0), context.budget)
                               : find_text(self.string(), p.string(0), 0, context.budget);
  HADAL_CHECK(at != std::string::npos || !must, kFormat, "index: the text is not there");
  if (at == std::string::npos) return {int64_t{-1}};
  return {count_characters(std::string_view(self.string()).substr(0, at))};
}

Value partition(Context& context, const Value& self, const Args& args, bool from_right) {
  const Parameters p("partition", args, {"separator"});
  Text text = self.string(), separator = p.string(0);
  HADAL_CHECK(!separator.empty(), kFormat, "partition with an empty separator, expected text");
  const size_t at = from_right ? rfind_text(text, separator, context.budget)
                               : find_text(text, separator, 0, context.budget);
  std::vector<std::string> parts{text, "", ""};
  if (at == std::string::npos) {
    if (from_right) std::swap(parts[0], parts[2]);
  } else {
    parts = {text.substr(0, at), separator, text.substr(at + separator.size())};
  }
  return strings(std::move(parts), context, Sequence::Kind::kTuple);
}

Value count_method(Context& context, const Value& self, const Args& args) {
  const Parameters p("count", args, {"text"});
  Text text = self.string(), needle = p.string(0);
  if (needle.empty()) return {count_characters(text) + 1};
  int64_t count = 0;
  for (size_t at = find_text(text, needle, 0, context.budget); at != std::string::npos;
       at = find_text(text, needle, at + needle.size(), context.budget)) {
    ++count;
  }
  return {count};
}

enum class Side { kLeft, kRight, kBoth };

// The text stands at `side` of a field this wide.
Value justify(Context& context, const Value& self, const Args& args, Side side) {
  const Parameters p("center", args, {"width", "fill"});
  const std::string fill = p.string_or(1, " ");
  HADAL_CHECK(count_characters(fill) == 1, kFormat, "the fill of a text is \"", fill.substr(0, 60),
              "\", expected one character");
  const int64_t size = count_characters(self.string());
  const int64_t room = std::max<int64_t>(p.integer(0) - size, 0);
  context.budget.make(static_cast<size_t>(std::min<int64_t>(room, int64_t{1} << 40)) * fill.size());
  // Python puts the odd one to the left where the width is odd.
  const int64_t before = side == Side::kLeft    ? 0
                         : side == Side::kRight ? room
                                                : room / 2 + (room & p.integer(0) & 1);
  std::string out;
  for (int64_t i = 0; i < before; ++i) out += fill;
  out += self.string();
  for (int64_t i = before; i < room; ++i) out += fill;
  return make_string(std::move(out), context.budget);
}

Value zfill(Context& context, const Value& self, const Args& args) {
  const Parameters p("zfill", args, {"width"});
  Text text = self.string();
  const int64_t room = std::max<int64_t>(p.integer(0) - count_characters(text), 0);
  context.budget.make(static_cast<size_t>(room));
  const bool sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  return make_string((sign ? text.substr(0, 1) : "") + std::string(static_cast<size_t>(room), '0') +
                         text.substr(sign ? 1 : 0),
                     context.budget);
}

Value join_method(Context& context, const Value& self, const Args& args) {
  const Parameters p("join", args, {"items"});
  require_defined(p.value(0));
  std::string out;
  bool first = true;
  const SequencePtr whole = iterate(p.value(0), context.budget);
  for (const Value& item : whole->items) {
    HADAL_CHECK(item.is_string(), kFormat, "join of a value of type ", type_name(item),
                ", expected strings");
    context.budget.make(item.string().size() + self.string().size());
    if (!first) out += self.string();
    first = false;
    out += item.string();
  }
  return make_string(std::move(out), context.budget);
}

Value replace_method(Context& context, const Value& self, const Args& args) {
  const Parameters p("replace", args, {"old", "new", "count"});
  return make_string(
      replace(self.string(), p.string(0), p.string(1), p.integer_or(2, -1), context.budget),
      context.budget);
}

template <std::string (*kChange)(std::string_view)>
Value changed(Context& context, const Value& self, const Args& args) {
  const Parameters none("the method", args, {});
  context.budget.make(4 * self.string().size());
  return make_string(kChange(self.string()), context.budget);
}

template <bool (*kIs)(char32_t)>
Value all_are(Context& context, const Value& self, const Args& args) {
  const Parameters none("the method", args, {});
  context.budget.scan(self.string().size());
  Text text = self.string();
  for (size_t at = 0; at < text.size(); at += utf8_length(static_cast<unsigned char>(text[at]))) {
    if (!kIs(utf8_char(text.data() + at))) return {false};
  }
  return {!text.empty()};
}

Value remove_affix(Context& context, const Value& self, const Args& args, bool begin) {
  const Parameters p("removeprefix", args, {"text"});
  std::string_view text = self.string();
  if (begin && text.starts_with(p.string(0))) text.remove_prefix(p.string(0).size());
  if (!begin && text.ends_with(p.string(0))) text.remove_suffix(p.string(0).size());
  return make_string(std::string(text), context.budget);
}

#define HADAL_METHOD(...) [](Context& c, const Value& s, const Args& a) -> Value { __VA_ARGS__; }

constexpr MethodRow kStringMethods[] = {
    {"capitalize", changed<capitalize>},
    {"center", HADAL_METHOD(return justify(c, s, a, Side::kBoth))},
    {"count", count_method},
    {"endswith", HADAL_METHOD((void)c; return affix("endswith", s, a, false))},
    {"find", HADAL_METHOD(return find_method(c, s, a, false, false))},
    {"index", HADAL_METHOD(return find_method(c, s, a, false, true))},
    {"isalnum", all_are<is_alnum>},
    {"isalpha", all_are<is_alpha>},
    {"isdigit", all_are<is_digit>},
    {"islower", HADAL_METHOD(Parameters("islower", a, {}); return {call_test(c, "lower", s, {})})},
    {"isspace", all_are<is_space>},
    {"isupper", HADAL_METHOD(Parameters("isupper", a, {}); return {call_test(c, "upper", s, {})})},
    {"join", join_method},
    {"ljust", HADAL_METHOD(return justify(c, s, a, Side::kLeft))},
    {"lower", changed<lower>},
    {"lstrip", HADAL_METHOD(return strip_method(c, s, a, true, false))},
    {"partition", HADAL_METHOD(return partition(c, s, a, false))},
    {"removeprefix", HADAL_METHOD(return remove_affix(c, s, a, true))},
    {"removesuffix", HADAL_METHOD(return remove_affix(c, s, a, false))},
    {"replace", replace_method},
    {"rfind", HADAL_METHOD(return find_method(c, s, a, true, false))},
    {"rindex", HADAL_METHOD(return find_method(c, s, a, true, true))},
    {"rjust", HADAL_METHOD(return justify(c, s, a, Side::kRight))},
    {"rpartition", HADAL_METHOD(return partition(c, s, a, true))},
    {"rsplit", HADAL_METHOD(return split_method(c, s, a, true))},
    {"rstrip", HADAL_METHOD(return strip_method(c, s, a, false, true))},
    {"split", HADAL_METHOD(return split_method(c, s, a, false))},
    {"splitlines",
     HADAL_METHOD(
         const Parameters p("splitlines", a, {"keepends"}); c.budget.make(s.string().size() * 2);
         return strings(split_lines(s.string(), p.truth_or(0, false)), c, Sequence::Kind::kList))},
    {"startswith", HADAL_METHOD((void)c; return affix("startswith", s, a, true))},
    {"strip", HADAL_METHOD(return strip_method(c, s, a, true, true))},
    {"swapcase", changed<swap_case>},
    {"title", changed<title>},
    {"upper", changed<upper>},
    {"zfill", zfill},
};

Value view(Context& context, const Dict& dict, bool keys, bool values) {
  std::vector<Value> items;
  for (const auto& [key, value] : dict.items) {
    items.push_back(keys && values ? make_list({key, value}, context.budget, Sequence::Kind::kTuple)
                    : keys         ? key
                                   : value);
  }
  const char* label = keys && values ? "dict_items" : keys ? "dict_keys" : "dict_values";
  return make_list(std::move(items), context.budget, Sequence::Kind::kView, label);
}

const Dict& dict_of(const Value& value) {
  return **value.get<DictPtr>();
}

Value dict_get(Context& context, const Value& self, const Args& args) {
  const Parameters p("get", args, {"key", "default"});
  if (const Value* found = find(dict_of(self), p.value(0), context.budget)) return *found;
  return p.get(1) == nullptr ? Value{None{}} : *p.get(1);
}

constexpr MethodRow kDictMethods[] = {
    {"get", dict_get},
    {"items", HADAL_METHOD(Parameters("items", a, {}); return view(c, dict_of(s), true, true))},
    {"keys", HADAL_METHOD(Parameters("keys", a, {}); return view(c, dict_of(s), true, false))},
    {"values", HADAL_METHOD(Parameters("values", a, {}); return view(c, dict_of(s), false, true))},
    {"copy", HADAL_METHOD(Parameters("copy", a, {}); (void)c; return s)},
};

Value list_count(Context& context, const Value& self, const Args& args) {
  const Parameters p("count", args, {"value"});
  int64_t count = 0;
  for (const Value& item : (*self.get<SequencePtr>())->items) {
    count += equal(item, p.value(0), context.budget) ? 1 : 0;
  }
  return {count};
}

Value list_index(Context& context, const Value& self, const Args& args) {
  const Parameters p("index", args, {"value"});
  const std::vector<Value>& items = (*self.get<SequencePtr>())->items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], p.value(0), context.budget)) return {static_cast<int64_t>(i)};
  }
  throw Error(ErrorKind::kFormat, "index: the value is not in the list");
}

constexpr MethodRow kListMethods[] = {{"count", list_count}, {"index", list_index}};

Value loop_cycle(Context&, const Value& self, const Args& args) {
  HADAL_CHECK(args.named.empty() && !args.positional.empty(), kFormat,
              "loop.cycle takes at least one value");
  const Loop& loop = **self.get<LoopPtr>();
  return args.positional[static_cast<size_t>(loop.index) % args.positional.size()];
}

constexpr MethodRow kLoopMethods[] = {{"cycle", loop_cycle}};
#undef HADAL_METHOD

// What Python has and this does not; the sandbox refuses what changes a value.
constexpr const char* kRefused[] = {
    "append",     "clear",      "extend",      "insert",      "pop",       "remove",   "reverse",
    "sort",       "setdefault", "update",      "popitem",     "fromkeys",  "casefold", "encode",
    "expandtabs", "format",     "isascii",     "isdecimal",   "isnumeric", "istitle",  "translate",
    "format_map", "maketrans",  "isprintable", "isidentifier"};

struct Rows {
  const MethodRow* begin;
  const MethodRow* end;
};

Rows methods_of(const Value& value) {
  if (value.is_string()) return {std::begin(kStringMethods), std::end(kStringMethods)};
  if (value.is<DictPtr>()) return {std::begin(kDictMethods), std::end(kDictMethods)};
  if (value.is<LoopPtr>()) return {std::begin(kLoopMethods), std::end(kLoopMethods)};
  if (const auto* list = value.get<SequencePtr>();
      list != nullptr && (*list)->kind <= Sequence::Kind::kTuple) {
    return {std::begin(kListMethods), std::end(kListMethods)};
  }
  return {nullptr, nullptr};
}

const MethodRow* find_method(const Value& value, const std::string& name) {
  const Rows rows = methods_of(value);
  const MethodRow* found =
      std::find_if(rows.begin, rows.end, [&](const MethodRow& row) { return name == row.name; });
  return found == rows.end ? nullptr : found;
}

bool is_refused(const Value& value, const std::string& name) {
  static const auto among = [](const std::string& word, int first, int last) {
    return std::any_of(kRefused + first, kRefused + last,
                       [&](const char* each) { return word == each; });
  };
  if (value.is_string()) return among(name, 12, std::size(kRefused));
  if (value.is<DictPtr>()) return name == "clear" || name == "pop" || among(name, 8, 12);
  const auto* list = value.get<SequencePtr>();
  return list != nullptr && (*list)->kind == Sequence::Kind::kList && among(name, 0, 8);
}

}  // namespace

bool has_method(const Value& value, const std::string& name) {
  return find_method(value, name) != nullptr || is_refused(value, name);
}

Value call_method(Context& context, const Method& method, const Args& args) {
  const MethodRow* row = find_method(method.self, method.name);
  HADAL_CHECK(row != nullptr, kFormat, "method ", method.name, " of a value of type ",
              type_name(method.self), " is not supported or changes the value");
  return row->call(context, method.self, args);
}

}  // namespace hadal::jinja

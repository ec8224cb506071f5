// Filters of lists and dictionaries, and the look-up of all filters.
#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/python_text.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

using SequenceKind = Sequence::Kind;

// map('map', ...) calls itself through arguments.
constexpr int kMaxFilterDepth = 16;

Value iterator(std::vector<Value> items, Context& context) {
  return make_list(std::move(items), context.budget, SequenceKind::kIterator);
}

// "a.b.0" of an item, or what an integer names.
Value attribute_of(Context& context, const Value& item, const Value& path) {
  if (!path.is_string()) return get_item(context, item, path);
  Value value = item;
  for (const std::string& part : split(path.string(), ".", -1, context.budget)) {
    const bool number =
        !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == part.npos;
    value = get_item(context, value,
                     number ? Value{int64_t{std::stoll(part)}} : make_string(part, context.budget));
  }
  return value;
}

Value folded(Context& context, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return make_string(lower(value.string()), context.budget);
}

Value first(Context& context, const Value& value, const Args& args) {
  const Parameters none("first", args, {});
  const auto* list = value.get<SequencePtr>();
  if (list != nullptr && (*list)->kind == SequenceKind::kIterator) {
    if ((*list)->used < (*list)->items.size()) return (*list)->items[(*list)->used++];
  } else if (value.is_string() && !value.string().empty()) {
    return get_item(context, value, {int64_t{0}});
  } else if (!value.is_string()) {
    const SequencePtr items = iterate(value, context.budget);
    if (!items->items.empty()) return items->items.front();
  }
  return undefined("there is no first item, the sequence is empty");
}

Value last(Context& context, const Value& value, const Args& args) {
  const Parameters none("last", args, {});
  const auto* list = value.get<SequencePtr>();
  HADAL_CHECK(list == nullptr || (*list)->kind != SequenceKind::kIterator, kFormat,
              "last of a generator, expected | list before it");
  require_defined(value);
  if (value.is_string() && !value.string().empty()) {
    return get_item(context, value, {int64_t{-1}});
  }
  const SequencePtr items = iterate(value, context.budget);
  if (items->items.empty()) return undefined("there is no last item, the sequence is empty");
  return items->items.back();
}

Value list(Context& context, const Value& value, const Args& args) {
  const Parameters none("list", args, {});
  return make_list(iterate(value, context.budget)->items, context.budget);
}

Value items(Context& context, const Value& value, const Args& args) {
  const Parameters none("items", args, {});
  if (value.is<Undefined>()) return iterator({}, context);
  const auto* dict = value.get<DictPtr>();
  HADAL_CHECK(dict != nullptr, kFormat, "items of a value of type ", type_name(value),
              ", expected a dictionary");
  std::vector<Value> pairs;
  for (const auto& [key, item] : (*dict)->items) {
    pairs.push_back(make_list({key, item}, context.budget, SequenceKind::kTuple));
  }
  return iterator(std::move(pairs), context);
}

Value join(Context& context, const Value& value, const Args& args) {
  const Parameters p("join", args, {"d", "attribute"});
  const std::string between = p.get(0) == nullptr ? "" : to_str(p.value(0), context.budget);
  std::string out;
  bool is_first = true;
  const SequencePtr whole = iterate(value, context.budget);
  for (const Value& item : whole->items) {
    context.budget.make(between.size());
    if (!is_first) out += between;
    is_first = false;
    append_str(out, p.has(1) ? attribute_of(context, item, p.value(1)) : item, context.budget);
  }
  return make_string(std::move(out), context.budget);
}

Value map(Context& context, const Value& value, const Args& args) {
  const SequencePtr given = iterate(value, context.budget);
  std::vector<Value> out;
  if (args.positional.empty()) {
    const Parameters p("map", args, {"attribute", "default"});
    for (const Value& item : given->items) {
      Value found = attribute_of(context, item, p.value(0));
      if (found.is<Undefined>() && p.has(1)) found = p.value(1);
      out.push_back(std::move(found));
    }
    return iterator(std::move(out), context);
  }
  HADAL_CHECK(args.positional[0].is_string(), kFormat,
              "map: the filter is no string, expected its name");
  Args rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
  HADAL_CHECK(has_filter(args.positional[0].string()), kFormat, "map: there is no filter '",
              args.positional[0].string().substr(0, 60), "'");
  for (const Value& item : given->items) {
    out.push_back(call_filter(context, args.positional[0].string(), item, rest));
  }
  return iterator(std::move(out), context);
}

// The items for which the test holds, or does not; `attribute`: of an attribute of theirs.
Value choose(Context& context, const Value& value, const Args& args, bool wanted, bool attribute) {
  std::vector<Value> out;
  if (!truth(value)) return iterator({}, context);
  const SequencePtr given = iterate(value, context.budget);
  const size_t off = attribute ? 1 : 0;
  HADAL_CHECK(args.positional.size() >= off, kFormat, "selectattr takes the name of an attribute");
  const bool tested = args.positional.size() > off;
  Args rest;
  if (tested) {
    HADAL_CHECK(args.positional[off].is_string(), kFormat,
                "select: the test is no string, expected its name");
    rest.positional.assign(args.positional.begin() + static_cast<int64_t>(off) + 1,
                           args.positional.end());
    rest.named = args.named;
  }
  for (const Value& item : given->items) {
    context.budget.spend(1);
    const Value seen = attribute ? attribute_of(context, item, args.positional[0]) : item;
    const bool holds =
        tested ? call_test(context, args.positional[off].string(), seen, rest) : truth(seen);
    if (holds == wanted) out.push_back(item);
  }
  return iterator(std::move(out), context);
}

Value reverse(Context& context, const Value& value, const Args& args) {
  const Parameters none("reverse", args, {});
  SequencePtr given = iterate(value, context.budget);
  std::vector<Value> out(given->items.rbegin(), given->items.rend());
  if (value.is_string()) {
    std::string text;
    for (const Value& c : out) text += c.string();
    return make_string(std::move(text), context.budget);
  }
  const auto* list = value.get<SequencePtr>();
  const bool consumed = list != nullptr && (*list)->kind == SequenceKind::kIterator;
  return make_list(std::move(out), context.budget,
                   consumed ? SequenceKind::kList : SequenceKind::kIterator);
}

// Items beside what they are ordered by.
using Keyed = std::vector<std::pair<Value, Value>>;

Keyed keyed(Context& context, const Value& value, const Value* attribute, bool case_sensitive) {
  std::vector<std::string> paths;
  if (attribute != nullptr && attribute->is_string()) {
    paths = split(attribute->string(), ",", -1, context.budget);
  }
  Keyed out;
  const SequencePtr whole = iterate(value, context.budget);
  for (const Value& item : whole->items) {
    std::vector<Value> key;
    if (attribute == nullptr || attribute->is<None>()) {
      key.push_back(folded(context, item, case_sensitive));
    } else if (paths.empty()) {
      key.push_back(folded(context, attribute_of(context, item, *attribute), case_sensitive));
    }
    for (const std::string& path : paths) {
      const Value each = attribute_of(context, item, make_string(path, context.budget));
      key.push_back(folded(context, each, case_sensitive));
    }
    out.emplace_back(make_list(std::move(key), context.budget), item);
  }
  return out;
}

std::vector<Value> sorted(Context& context, Keyed pairs, bool backwards) {
  std::stable_sort(pairs.begin(), pairs.end(), [&](const auto& a, const auto& b) {
    return backwards ? less(b.first, a.first, context.budget)
                     : less(a.first, b.first, context.budget);
  });
  std::vector<Value> out;
  for (auto& [key, item] : pairs) out.push_back(std::move(item));
  return out;
}

Value sort(Context& context, const Value& value, const Args& args) {
  const Parameters p("sort", args, {"reverse", "case_sensitive", "attribute"});
  return make_list(
      sorted(context, keyed(context, value, p.get(2), p.truth_or(1, false)), p.truth_or(0, false)),
      context.budget);
}

Value dictsort(Context& context, const Value& value, const Args& args) {
  const Parameters p("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = p.string_or(1, "key");
  HADAL_CHECK(by == "key" || by == "value", kFormat, "dictsort: by is \"", by.substr(0, 60),
              "\", expected key or value");
  const auto* dict = value.get<DictPtr>();
  HADAL_CHECK(dict != nullptr, kFormat, "dictsort of a value of type ", type_name(value),
              ", expected a dictionary");
  Keyed pairs;
  for (const auto& [key, item] : (*dict)->items) {
    pairs.emplace_back(folded(context, by == "key" ? key : item, p.truth_or(0, false)),
                       make_list({key, item}, context.budget, SequenceKind::kTuple));
  }
  return make_list(sorted(context, std::move(pairs), p.truth_or(2, false)), context.budget);
}

// What Python can look up in a set: no lists and dictionaries, nor tuples with them.
bool is_hashable(const Value& value) {
  if (value.is<DictPtr>()) return false;
  const auto* list = value.get<SequencePtr>();
  if (list == nullptr) return true;
  if ((*list)->kind == SequenceKind::kTuple) {
    return std::all_of((*list)->items.begin(), (*list)->items.end(), is_hashable);
  }
  return (*list)->kind != SequenceKind::kList;
}

Value unique(Context& context, const Value& value, const Args& args) {
  const Parameters p("unique", args, {"case_sensitive", "attribute"});
  std::vector<Value> seen, out;
  for (const auto& [key, item] : keyed(context, value, p.get(1), p.truth_or(0, false))) {
    const std::vector<Value>& parts = (*key.get<SequencePtr>())->items;
    HADAL_CHECK(std::all_of(parts.begin(), parts.end(), is_hashable), kFormat,
                "unique of items that are lists or dictionaries, expected strings or numbers");
    const bool known = std::any_of(seen.begin(), seen.end(), [&, &k = key](const Value& each) {
      return equal(each, k, context.budget);
    });
    if (known) continue;
    seen.push_back(key);
    out.push_back(item);
  }
  return iterator(std::move(out), context);
}

Value extreme(Context& context, const Value& value, const Args& args, bool largest) {
  const Parameters p("min", args, {"case_sensitive", "attribute"});
  const Keyed pairs = keyed(context, value, p.get(1), p.truth_or(0, false));
  if (pairs.empty())
    return undefined("there is no smallest or largest item, the sequence is empty");
  size_t best = 0;
  for (size_t i = 1; i < pairs.size(); ++i) {
    const Value &key = pairs[i].first, &least = pairs[best].first;
    if (largest ? less(least, key, context.budget) : less(key, least, context.budget)) best = i;
  }
  return pairs[best].second;
}

Value sum(Context& context, const Value& value, const Args& args) {
  const Parameters p("sum", args, {"attribute", "start"});
  Value total = p.get(1) == nullptr ? Value{int64_t{0}} : p.value(1);
  HADAL_CHECK(!total.is_string(), kFormat, "sum of strings, expected | join");
  const SequencePtr whole = iterate(value, context.budget);
  for (const Value& item : whole->items) {
    total =
        binary(context, Op::kAdd, total, p.has(0) ? attribute_of(context, item, p.value(0)) : item);
  }
  return total;
}

#define HADAL_CHOOSE(wanted, attribute)                                 \
  [](Context& context, const Value& value, const Args& args) -> Value { \
    return choose(context, value, args, wanted, attribute);             \
  }

constexpr Filter kSequenceFilters[] = {
    {"dictsort", dictsort},
    {"first", first},
    {"items", items},
    {"join", join},
    {"last", last},
    {"list", list},
    {"map", map},
    {"max", [](Context& c, const Value& v, const Args& a) { return extreme(c, v, a, true); }},
    {"min", [](Context& c, const Value& v, const Args& a) { return extreme(c, v, a, false); }},
    {"reject", HADAL_CHOOSE(false, false)},
    {"rejectattr", HADAL_CHOOSE(false, true)},
    {"reverse", reverse},
    {"select", HADAL_CHOOSE(true, false)},
    {"selectattr", HADAL_CHOOSE(true, true)},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};
#undef HADAL_CHOOSE

const Filter* find_filter(const std::string& name) {
  for (const auto rows : {scalar_filters(), sequence_filters()}) {
    for (const Filter& row : rows) {
      if (name == row.name) return &row;
    }
  }
  return nullptr;
}

}  // namespace

std::span<const Filter> sequence_filters() {
  return kSequenceFilters;
}

bool has_filter(const std::string& name) {
  return find_filter(name) != nullptr;
}

Value call_filter(Context& context, const std::string& name, const Value& value, const Args& args) {
  const Filter* filter = find_filter(name);
  HADAL_CHECK(filter != nullptr, kFormat, "there is no filter '", name.substr(0, 60), "'");
  HADAL_CHECK(context.filter_depth < kMaxFilterDepth, kFormat, "filters call each other more than ",
              kMaxFilterDepth, " deep, expected fewer");
  context.budget.spend(1);
  ++context.filter_depth;
  Value result = filter->call(context, value, args);
  --context.filter_depth;
  return result;
}

}  // namespace hadal::jinja

#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/python_text.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

constexpr size_t kValueBytes = sizeof(Value);

int32_t depth_of(const Value& value) {
  if (const auto* list = value.get<SequencePtr>()) return (*list)->depth;
  if (const auto* dict = value.get<DictPtr>()) return (*dict)->depth;
  if (const auto* loop = value.get<LoopPtr>()) return (*loop)->items->depth + 1;
  if (const auto* method = value.get<MethodPtr>()) return depth_of((*method)->self) + 1;
  return 0;
}

int32_t deeper(int32_t depth) {
  HADAL_CHECK(depth < kMaxValueDepth, kFormat, "values nest more than ", kMaxValueDepth,
              " levels deep, expected fewer");
  return depth + 1;
}

// Exact, as Python compares them.
int compare_numbers(const Value& a, const Value& b, bool& unordered) {
  if (a.is_integer() && b.is_integer()) {
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  }
  if (a.is_integer()) return -compare_numbers(b, a, unordered);
  const double x = a.number();
  if (std::isnan(x) || (b.is<double>() && std::isnan(b.number()))) {
    unordered = true;
    return 1;
  }
  if (b.is<double>()) return x < b.number() ? -1 : x > b.number();
  if (x >= 0x1p63) return 1;
  if (x < -0x1p63) return -1;
  const auto whole = static_cast<int64_t>(x);  // toward zero
  if (whole != b.integer()) return whole < b.integer() ? -1 : 1;
  const double rest = x - static_cast<double>(whole);
  return rest < 0 ? -1 : rest > 0;
}

bool is_key(const Value& key) {
  return key.is_string() || key.is_number() || key.is<None>();
}

bool same_key(const Value& a, const Value& b) {
  if (a.is_string()) return b.is_string() && a.string() == b.string();
  if (a.is<None>()) return b.is<None>();
  bool unordered = false;
  return b.is_number() && compare_numbers(a, b, unordered) == 0 && !unordered;
}

bool same_items(const Sequence& a, const Sequence& b, Budget& budget) {
  if (a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!equal(a.items[i], b.items[i], budget)) return false;
  }
  return true;
}

bool same_entries(const Dict& a, const Dict& b, Budget& budget) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    const Value* other = find(b, key, budget);
    if (other == nullptr || !equal(value, *other, budget)) return false;
  }
  return true;
}

SequencePtr characters(const std::string& text, Budget& budget) {
  std::vector<Value> items;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = utf8_length(static_cast<unsigned char>(text[at]));
    items.push_back(make_string(text.substr(at, bytes), budget));
    at += bytes;
  }
  return std::get<SequencePtr>(make_list(std::move(items), budget).data);
}

SequencePtr rest_of(const SequencePtr& iterator) {
  if (iterator->used == 0) {
    iterator->used = iterator->items.size();
    return iterator;
  }
  auto rest = std::make_shared<Sequence>(*iterator);
  rest->items.erase(rest->items.begin(), rest->items.begin() + int64_t(iterator->used));
  iterator->used = iterator->items.size();
  return rest;
}

}  // namespace

Value make_string(std::string text, Budget& budget) {
  budget.make(text.size() + kValueBytes);
  return {std::make_shared<const std::string>(std::move(text))};
}

Value make_list(std::vector<Value> items, Budget& budget, Sequence::Kind kind, std::string label) {
  budget.make((items.size() + 2) * kValueBytes);
  int32_t depth = 0;
  for (const Value& item : items) depth = std::max(depth, depth_of(item));
  return {std::make_shared<const Sequence>(
      Sequence{kind, std::move(items), std::move(label), deeper(depth), 0})};
}

Value make_dict(std::vector<std::pair<Value, Value>> items, Budget& budget) {
  budget.make((items.size() + 1) * 2 * kValueBytes);
  int32_t depth = 0;
  for (const auto& [key, value] : items) depth = std::max(depth, depth_of(value));
  return {std::make_shared<const Dict>(Dict{std::move(items), deeper(depth)})};
}

Value make_dict_from_pairs(std::vector<std::pair<Value, Value>> pairs, Budget& budget) {
  Dict dict;
  for (auto& [key, value] : pairs) {
    HADAL_CHECK(is_key(key), kFormat, "a key of a dictionary is of type ", type_name(key),
                ", expected a string, a number or none");
    if (const Value* present = find(dict, key, budget)) {
      const_cast<Value&>(*present) = std::move(value);
    } else {
      dict.items.emplace_back(std::move(key), std::move(value));
    }
  }
  return make_dict(std::move(dict.items), budget);
}

Value undefined(const std::string& why) {
  return {Undefined{std::make_shared<const std::string>(why)}};
}

Value from_json(const OrderedJson& json, Budget& budget) {
  switch (json.type()) {
    case OrderedJson::value_t::boolean:
      return {json.get<bool>()};
    case OrderedJson::value_t::number_integer:
      return {json.get<int64_t>()};
    case OrderedJson::value_t::number_unsigned:
      HADAL_CHECK(json.get<uint64_t>() <= uint64_t{INT64_MAX}, kFormat, "the integer ",
                  json.get<uint64_t>(), " is too large, expected one below 2^63");
      return {json.get<int64_t>()};
    case OrderedJson::value_t::number_float:
      return {json.get<double>()};
    case OrderedJson::value_t::string:
      return make_string(repair_utf8(json.get_ref<const std::string&>()), budget);
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      for (const OrderedJson& item : json) items.push_back(from_json(item, budget));
      return make_list(std::move(items), budget);
    }
    case OrderedJson::value_t::object: {
      std::vector<std::pair<Value, Value>> items;
      for (const auto& [key, item] : json.items()) {
        items.emplace_back(make_string(repair_utf8(key), budget), from_json(item, budget));
      }
      return make_dict(std::move(items), budget);
    }
    default:
      return {None{}};
  }
}

const char* type_name(const Value& value) {
  constexpr const char* kNames[] = {"Undefined", "NoneType", "bool",       "int",       "float",
                                    "str",       "sequence", "dict",       "Namespace", "Macro",
                                    "function",  "method",   "LoopContext"};
  static_assert(std::size(kNames) == std::variant_size_v<Value::Data>);
  if (const auto* list = value.get<SequencePtr>()) {
    constexpr const char* kKinds[] = {"list", "tuple", "view", "generator", "range"};
    return kKinds[static_cast<size_t>((*list)->kind)];
  }
  return kNames[value.data.index()];
}

bool truth(const Value& value) {
  if (value.is<Undefined>() || value.is<None>()) return false;
  if (value.is_integer()) return value.integer() != 0;
  if (value.is<double>()) return value.number() != 0;
  if (value.is_string()) return !value.string().empty();
  if (const auto* dict = value.get<DictPtr>()) return !(*dict)->items.empty();
  if (const auto* list = value.get<SequencePtr>()) {
    return (*list)->kind == Sequence::Kind::kIterator || !(*list)->items.empty();
  }
  return true;
}

void require_defined(const Value& value) {
  if (const auto* none = value.get<Undefined>()) throw Error(ErrorKind::kFormat, *none->why);
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.spend(1);
  if (a.is_number() && b.is_number()) {
    bool unordered = false;
    return compare_numbers(a, b, unordered) == 0 && !unordered;
  }
  if (a.data.index() != b.data.index()) return false;
  if (a.is_string()) {
    budget.scan(std::min(a.string().size(), b.string().size()));
    return a.string() == b.string();
  }
  if (const auto* x = a.get<SequencePtr>()) {
    const auto& y = *b.get<SequencePtr>();
    if (*x == y) return true;
    return (*x)->kind == y->kind && y->kind != Sequence::Kind::kIterator &&
           same_items(**x, *y, budget);
  }
  if (const auto* x = a.get<DictPtr>()) {
    return *x == *b.get<DictPtr>() || same_entries(**x, **b.get<DictPtr>(), budget);
  }
  if (const auto* x = a.get<NamespaceId>()) return x->id == b.get<NamespaceId>()->id;
  if (const auto* x = a.get<MacroId>()) return x->id == b.get<MacroId>()->id;
  if (const auto* x = a.get<const Function*>()) return *x == *b.get<const Function*>();
  if (const auto* x = a.get<LoopPtr>()) return *x == *b.get<LoopPtr>();
  return !a.is<MethodPtr>();  // two undefined values are equal, and so are none and none
}

int compare(const Value& a, const Value& b, Budget& budget, bool& unordered) {
  budget.spend(1);
  require_defined(a);
  require_defined(b);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b, unordered);
  if (a.is_string() && b.is_string()) {
    budget.scan(std::min(a.string().size(), b.string().size()));
    return a.string().compare(b.string());
  }
  const auto *x = a.get<SequencePtr>(), *y = b.get<SequencePtr>();
  const bool lists = x != nullptr && y != nullptr && (*x)->kind == (*y)->kind &&
                     ((*x)->kind == Sequence::Kind::kList || (*x)->kind == Sequence::Kind::kTuple);
  HADAL_CHECK(lists, kFormat, "values of type ", type_name(a), " and ", type_name(b),
              " have no order, expected two numbers or two strings");
  const size_t shared = std::min((*x)->items.size(), (*y)->items.size());
  for (size_t i = 0; i < shared; ++i) {
    if (equal((*x)->items[i], (*y)->items[i], budget)) continue;
    return compare((*x)->items[i], (*y)->items[i], budget, unordered);
  }
  return (*x)->items.size() < (*y)->items.size() ? -1 : (*x)->items.size() > (*y)->items.size();
}

bool less(const Value& a, const Value& b, Budget& budget) {
  bool unordered = false;
  return compare(a, b, budget, unordered) < 0 && !unordered;
}

const Value* find(const Dict& dict, const Value& key, Budget& budget) {
  budget.spend(1 + static_cast<int64_t>(dict.items.size() / 8));
  for (const auto& [name, value] : dict.items) {
    if (same_key(name, key)) return &value;
  }
  return nullptr;
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (container.is_string()) {
    require_defined(item);
    HADAL_CHECK(item.is_string(), kFormat, "'in' a string looks for a value of type ",
                type_name(item), ", expected a string");
    return find_text(container.string(), item.string(), 0, budget) != std::string::npos;
  }
  if (const auto* dict = container.get<DictPtr>()) {
    HADAL_CHECK(is_key(item) || item.is<Undefined>(), kFormat, "a value of type ", type_name(item),
                " cannot be a key of a dictionary, expected a string or a number");
    return find(**dict, item, budget) != nullptr;
  }
  const SequencePtr items = iterate(container, budget);
  return std::any_of(items->items.begin(), items->items.end(),
                     [&](const Value& each) { return equal(each, item, budget); });
}

SequencePtr iterate(const Value& value, Budget& budget) {
  if (const auto* list = value.get<SequencePtr>()) {
    return (*list)->kind == Sequence::Kind::kIterator ? rest_of(*list) : *list;
  }
  if (value.is_string()) return characters(value.string(), budget);
  if (value.is<Undefined>()) return std::make_shared<const Sequence>();
  const auto* dict = value.get<DictPtr>();
  HADAL_CHECK(dict != nullptr, kFormat, "a value of type ", type_name(value),
              " cannot be iterated over, expected a list, a dictionary or a string");
  std::vector<Value> keys;
  for (const auto& [key, unused] : (*dict)->items) keys.push_back(key);
  return std::get<SequencePtr>(make_list(std::move(keys), budget).data);
}

int64_t length(const Value& value, Budget& budget) {
  if (value.is_string()) {
    budget.scan(value.string().size());
    return count_characters(value.string());
  }
  if (value.is<Undefined>()) return 0;
  if (const auto* dict = value.get<DictPtr>()) return int64_t((*dict)->items.size());
  if (const auto* loop = value.get<LoopPtr>()) return int64_t((*loop)->items->items.size());
  const auto* list = value.get<SequencePtr>();
  HADAL_CHECK(list != nullptr && (*list)->kind != Sequence::Kind::kIterator, kFormat,
              "a value of type ", type_name(value),
              " has no length, expected a list, a dictionary or a string");
  return static_cast<int64_t>((*list)->items.size());
}

}  // namespace hadal::jinja

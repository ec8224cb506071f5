#include "core/json.h"

#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "core/error.h"

namespace hadal {
namespace {

constexpr size_t kMaxDepth = 512;

// An ordered object looks for a key among all it has: its keys are checked beforehand instead.
void add(OrderedJson& object, std::string key, OrderedJson value) {
  object.get_ref<OrderedJson::object_t&>().emplace_back(std::move(key), std::move(value));
}
void add(Json& object, std::string key, Json value) {
  object.emplace(std::move(key), std::move(value));
}

// Depth is bounded by the parser before this recursion begins.
template <class Tree>
Tree convert(simdjson::dom::element element, const std::string& name) {
  using simdjson::dom::element_type;
  switch (element.type()) {
    case element_type::OBJECT: {
      Tree object = Tree::object();
      std::unordered_set<std::string_view> keys;
      for (const auto& field : simdjson::dom::object(element)) {
        HADAL_CHECK(keys.insert(field.key).second, kFormat, name, ": key \"", field.key,
                    "\" stands twice in one object");
        add(object, std::string(field.key), convert<Tree>(field.value, name));
      }
      return object;
    }
    case element_type::ARRAY: {
      Tree array = Tree::array();
      for (simdjson::dom::element item : simdjson::dom::array(element)) {
        array.push_back(convert<Tree>(item, name));
      }
      return array;
    }
    case element_type::STRING:
      return std::string(std::string_view(element));
    case element_type::INT64:
      return int64_t(element);
    case element_type::UINT64:
      return uint64_t(element);
    case element_type::DOUBLE:
      return double(element);
    case element_type::BOOL:
      return bool(element);
    case element_type::NULL_VALUE:
      return nullptr;
  }
  throw Error(ErrorKind::kInternal, str(name, ": unknown JSON element"));
}

// simdjson says what is wrong but not where; this slower parser does. Nothing is built, and it
// keeps no stack of calls.
std::string position_of_error(std::string_view text) {
  constexpr size_t kTooLong = size_t{16} << 20;
  if (text.empty() || text.size() > kTooLong) return {};
  try {
    [[maybe_unused]] const Json nothing =
        Json::parse(text, [](int, Json::parse_event_t, Json&) { return false; });
  } catch (const Json::parse_error& e) {
    const std::string_view before = text.substr(0, e.byte == 0 ? 0 : e.byte - 1);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t newline = before.rfind('\n');
    const size_t column = before.size() - (newline == before.npos ? 0 : newline + 1) + 1;
    return str(" (line ", line, ", byte ", column, ")");
  } catch (const Json::exception&) {
  }
  return {};
}

template <class Tree>
Tree parse(std::string_view text, const std::string& name) {
  simdjson::dom::parser parser;
  auto error = parser.allocate(std::max<size_t>(text.size(), 1), kMaxDepth);
  HADAL_CHECK(!error, kResource, name, ": ", simdjson::error_message(error));
  const simdjson::padded_string padded(text);
  simdjson::dom::element root;
  error = parser.parse(padded).get(root);
  HADAL_CHECK(!error, kFormat, name, ": not valid JSON: ", simdjson::error_message(error),
              position_of_error(text));
  return convert<Tree>(root, name);
}

[[noreturn]] void wrong_type(const Json& value, const std::string& where, std::string_view wanted) {
  throw Error(ErrorKind::kFormat, str(where, " is ", json_brief(value), ", expected ", wanted));
}

}  // namespace

Json parse_json(std::string_view text, const std::string& name) {
  return parse<Json>(text, name);
}

OrderedJson parse_ordered_json(std::string_view text, const std::string& name) {
  return parse<OrderedJson>(text, name);
}

int64_t json_int(const Json& value, const std::string& where) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) {
    wrong_type(value, where, "an integer below 2^63");
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  // 1e4 and 10000.0 are integers in many writers' spelling.
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (number == std::floor(number) && std::abs(number) < 0x1p53) return int64_t(number);
  }
  wrong_type(value, where, "an integer");
}

double json_number(const Json& value, const std::string& where) {
  if (!value.is_number()) wrong_type(value, where, "a number");
  return value.get<double>();
}

bool json_bool(const Json& value, const std::string& where) {
  if (!value.is_boolean()) wrong_type(value, where, "true or false");
  return value.get<bool>();
}

const std::string& json_string(const Json& value, const std::string& where) {
  if (!value.is_string()) wrong_type(value, where, "a string");
  return value.get_ref<const std::string&>();
}

const Json& json_object(const Json& value, const std::string& where) {
  if (!value.is_object()) wrong_type(value, where, "an object");
  return value;
}

const Json& json_array(const Json& value, const std::string& where) {
  if (!value.is_array()) wrong_type(value, where, "an array");
  return value;
}

const Json& json_member(const Json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  HADAL_CHECK(found != object.end(), kFormat, where, ": key \"", key, "\" is missing");
  return *found;
}

const Json* json_member_or_null(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

bool json_bool_or(const Json& object, const char* key, bool otherwise, const std::string& where) {
  const Json* found = json_member_or_null(object, key);
  return found == nullptr ? otherwise : json_bool(*found, str(where, ".", key));
}

std::string json_brief(const Json& value) {
  // Large containers are not dumped whole only to be cut.
  if (value.is_object() && value.size() > 4) return str("an object of ", value.size(), " keys");
  if (value.is_array() && value.size() > 8) return str("an array of ", value.size(), " items");
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() <= 60) return text;
  size_t end = 57;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) --end;
  return text.substr(0, end) + "...";
}

}  // namespace hadal

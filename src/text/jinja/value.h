#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/json.h"
#include "text/jinja/budget.h"

namespace hadal::jinja {

// Containers nest at most this deep, so functions below may recurse over a value.
constexpr int32_t kMaxValueDepth = 512;

struct Sequence;
struct Dict;
struct Method;
struct Loop;
struct Function;
using StringPtr = std::shared_ptr<const std::string>;
using SequencePtr = std::shared_ptr<const Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using MethodPtr = std::shared_ptr<const Method>;
using LoopPtr = std::shared_ptr<const Loop>;

struct Undefined {
  StringPtr why;  // "'x' is undefined": the message when it is used
};
struct None {};
// Namespaces and macros belong to the machine, which gives them numbers: what can be changed is
// never owned by a value, so values form no cycles.
struct NamespaceId {
  int32_t id;
};
struct MacroId {
  int32_t id;
};

// A value of a template, as Python has them: immutable but for namespaces. Strings are UTF-8.
// Integers have 64 bits; what goes beyond is an error, not a wrong number.
struct Value {
  using Data = std::variant<Undefined, None, bool, int64_t, double, StringPtr, SequencePtr, DictPtr,
                            NamespaceId, MacroId, const Function*, MethodPtr, LoopPtr>;
  Data data = None{};

  template <class T>
  bool is() const {
    return std::holds_alternative<T>(data);
  }
  template <class T>
  const T* get() const {
    return std::get_if<T>(&data);
  }
  bool is_string() const { return is<StringPtr>(); }
  const std::string& string() const { return *std::get<StringPtr>(data); }
  bool is_integer() const { return is<int64_t>() || is<bool>(); }  // as Python: True is 1
  bool is_number() const { return is_integer() || is<double>(); }
  int64_t integer() const { return is<bool>() ? std::get<bool>(data) : std::get<int64_t>(data); }
  double number() const {
    return is<double>() ? std::get<double>(data) : static_cast<double>(integer());
  }
};

struct Sequence {
  // kView: of a dictionary; kIterator: what filters such as map give, to be read once.
  enum class Kind { kList, kTuple, kView, kIterator, kRange };
  Kind kind = Kind::kList;
  std::vector<Value> items;
  std::string label;  // how views and ranges are written: "dict_keys", "range(0, 3)"
  int32_t depth = 1;
  mutable size_t used = 0;  // kIterator: items already read
};

// In order of insertion. Keys are strings, numbers, booleans or none.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int32_t depth = 1;
};

struct Method {
  Value self;
  std::string name;
};

// The state of a for loop, seen as `loop`.
struct Loop {
  SequencePtr items;
  int64_t index = -1;
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

Value make_string(std::string text, Budget& budget);
Value make_list(std::vector<Value> items, Budget& budget,
                Sequence::Kind kind = Sequence::Kind::kList, std::string label = {});
Value make_dict(std::vector<std::pair<Value, Value>> items, Budget& budget);
// Keys that came twice count once, with the last value. Error for a key that Python cannot hash.
Value make_dict_from_pairs(std::vector<std::pair<Value, Value>> pairs, Budget& budget);
Value undefined(const std::string& why);
Value from_json(const OrderedJson& json, Budget& budget);

// "str", "int", ...: Python's name of the type, for messages.
const char* type_name(const Value& value);
bool truth(const Value& value);
// Error when the value is undefined, with why.
void require_defined(const Value& value);

bool equal(const Value& a, const Value& b, Budget& budget);
// <0, 0, >0; Error for values that have no order. NaN: `unordered` becomes true.
int compare(const Value& a, const Value& b, Budget& budget, bool& unordered);
bool less(const Value& a, const Value& b, Budget& budget);
bool contains(const Value& container, const Value& item, Budget& budget);
const Value* find(const Dict& dict, const Value& key, Budget& budget);

// What a for loop sees; characters of a string, keys of a dictionary. An iterator is used up.
// May make the list: a loop needs it in a variable, not `iterate(...)->items`.
SequencePtr iterate(const Value& value, Budget& budget);
int64_t length(const Value& value, Budget& budget);

// str(), repr() and json.dumps() of Python.
void append_str(std::string& out, const Value& value, Budget& budget);
std::string to_str(const Value& value, Budget& budget);
void append_repr(std::string& out, const Value& value, Budget& budget);
std::string float_repr(double value);

struct JsonStyle {
  bool ensure_ascii = false, sort_keys = false, indented = false;
  std::string indent, item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Value& value, const JsonStyle& style, Budget& budget);

}  // namespace hadal::jinja

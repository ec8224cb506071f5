#pragma once
#include <ctime>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "text/jinja/program.h"
#include "text/jinja/value.h"

namespace hadal::jinja {

// What the functions of one rendering share.
struct Context {
  Budget budget;
  std::time_t now;  // what strftime_now says
  std::vector<std::vector<std::pair<std::string, Value>>> namespaces = {};
  int filter_depth = 0;  // map calls filters by name, which may be map
};

// A function that templates call by its name.
struct Function {
  const char* name;
  Value (*call)(Context&, const Args&);
};
const Function* find_function(const std::string& name);  // null: there is none

// Error for a name there is not; compiled templates are checked by these before they run.
Value call_filter(Context& context, const std::string& name, const Value& value, const Args& args);
bool call_test(Context& context, const std::string& name, const Value& value, const Args& args);
bool has_filter(const std::string& name);
bool has_test(const std::string& name);

Value call_method(Context& context, const Method& method, const Args& args);
bool has_method(const Value& value, const std::string& name);

// a.name, a[key], a[begin:end:step]
Value get_attribute(Context& context, const Value& object, const std::string& name);
Value get_item(Context& context, const Value& object, const Value& key);
Value slice(Context& context, const Value& object, const Value& begin, const Value& end,
            const Value& step);
// Attributes of the loop variable.
Value loop_attribute(Context& context, const LoopPtr& loop, const std::string& name);

Value unary(Context& context, Op op, const Value& value);
Value binary(Context& context, Op op, const Value& a, const Value& b);

// The arguments of a call by the names of its parameters. Error for what there is no place for.
class Parameters {
 public:
  Parameters(const char* function, const Args& args, std::initializer_list<const char*> names);

  const Value* get(size_t i) const { return values_[i]; }
  bool has(size_t i) const { return values_[i] != nullptr && !values_[i]->is<None>(); }
  const Value& value(size_t i) const;  // Error when it is missing
  const std::string& string(size_t i) const;
  std::string string_or(size_t i, const char* otherwise) const;
  int64_t integer(size_t i) const;
  int64_t integer_or(size_t i, int64_t otherwise) const;
  bool truth_or(size_t i, bool otherwise) const;

 private:
  const char* function_;
  std::vector<const char*> names_;
  std::vector<const Value*> values_;
};

}  // namespace hadal::jinja

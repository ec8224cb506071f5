// What stands after `is`.
#include <algorithm>
#include <cmath>

#include "text/jinja/library.h"
#include "text/jinja/python_text.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

struct PlainTest {
  const char* name;
  bool (*holds)(const Value&);
};

bool is_iterable(const Value& v) {
  return v.is_string() || v.is<SequencePtr>() || v.is<DictPtr>() || v.is<Undefined>() ||
         v.is<LoopPtr>();
}

bool is_sequence(const Value& v) {
  if (const auto* list = v.get<SequencePtr>()) {
    return (*list)->kind != Sequence::Kind::kIterator && (*list)->kind != Sequence::Kind::kView;
  }
  return v.is_string() || v.is<DictPtr>() || v.is<Undefined>();
}

// All letters of one case, and at least one of them.
bool all_cased(const Value& v, bool (*right)(char32_t), bool (*wrong)(char32_t)) {
  if (!v.is_string()) return false;
  bool any = false;
  const std::string& text = v.string();
  for (size_t at = 0; at < text.size(); at += utf8_length(static_cast<unsigned char>(text[at]))) {
    const char32_t c = utf8_char(text.data() + at);
    if (wrong(c)) return false;
    any = any || right(c);
  }
  return any;
}

constexpr PlainTest kPlain[] = {
    {"defined", [](const Value& v) { return !v.is<Undefined>(); }},
    {"undefined", [](const Value& v) { return v.is<Undefined>(); }},
    {"none", [](const Value& v) { return v.is<None>(); }},
    {"boolean", [](const Value& v) { return v.is<bool>(); }},
    {"true", [](const Value& v) { return v.is<bool>() && v.integer() == 1; }},
    {"false", [](const Value& v) { return v.is<bool>() && v.integer() == 0; }},
    {"integer", [](const Value& v) { return v.is<int64_t>(); }},
    {"float", [](const Value& v) { return v.is<double>(); }},
    {"number", [](const Value& v) { return v.is_number(); }},
    {"string", [](const Value& v) { return v.is_string(); }},
    {"mapping", [](const Value& v) { return v.is<DictPtr>(); }},
    {"sequence", is_sequence},
    {"iterable", is_iterable},
    {"callable",
     [](const Value& v) {
       return v.is<const Function*>() || v.is<MethodPtr>() || v.is<MacroId>();
     }},
    {"lower", [](const Value& v) { return all_cased(v, is_lower, is_upper); }},
    {"upper", [](const Value& v) { return all_cased(v, is_upper, is_lower); }},
    {"escaped", [](const Value&) { return false; }},
};

struct Comparison {
  const char* name;
  Op op;
};
constexpr Comparison kComparisons[] = {
    {"eq", Op::kEqual},      {"equalto", Op::kEqual},   {"==", Op::kEqual},
    {"ne", Op::kNotEqual},   {"!=", Op::kNotEqual},     {"lt", Op::kLess},
    {"lessthan", Op::kLess}, {"<", Op::kLess},          {"le", Op::kLessEqual},
    {"<=", Op::kLessEqual},  {"gt", Op::kGreater},      {"greaterthan", Op::kGreater},
    {">", Op::kGreater},     {"ge", Op::kGreaterEqual}, {">=", Op::kGreaterEqual},
    {"in", Op::kIn},
};

bool same_object(const Value& a, const Value& b, Budget& budget) {
  if (a.data.index() != b.data.index()) return false;
  if (const auto* x = a.get<SequencePtr>()) return *x == *b.get<SequencePtr>();
  if (const auto* x = a.get<DictPtr>()) return *x == *b.get<DictPtr>();
  return equal(a, b, budget);
}

template <class Rows>
auto find_row(const Rows& rows, const std::string& name) {
  const auto* found = std::find_if(std::begin(rows), std::end(rows),
                                   [&](const auto& row) { return name == row.name; });
  return found == std::end(rows) ? nullptr : found;
}

constexpr const char* kOthers[] = {"divisibleby", "even", "odd", "sameas", "filter", "test"};

}  // namespace

bool has_test(const std::string& name) {
  return find_row(kPlain, name) != nullptr || find_row(kComparisons, name) != nullptr ||
         std::find(std::begin(kOthers), std::end(kOthers), name) != std::end(kOthers);
}

bool call_test(Context& context, const std::string& name, const Value& value, const Args& args) {
  HADAL_CHECK(has_test(name), kFormat, "there is no test '", name.substr(0, 60), "'");
  if (const auto* row = find_row(kPlain, name)) {
    const Parameters none(row->name, args, {});
    return row->holds(value);
  }
  if (const auto* row = find_row(kComparisons, name)) {
    const Parameters p(row->name, args, {"other"});
    return truth(binary(context, row->op, value, p.value(0)));
  }
  if (name == "filter" || name == "test") {
    const Parameters none("is filter", args, {});
    return value.is_string() && (name == "filter" ? has_filter : has_test)(value.string());
  }
  if (name == "even" || name == "odd") {
    const Parameters none("even", args, {});
    const Value rest = binary(context, Op::kModulo, value, {int64_t{2}});
    return equal(rest, {int64_t{name == "odd"}}, context.budget);
  }
  const Parameters p(name == "sameas" ? "sameas" : "divisibleby", args, {"other"});
  if (name == "sameas") return same_object(value, p.value(0), context.budget);
  return equal(binary(context, Op::kModulo, value, p.value(0)), {int64_t{0}}, context.budget);
}

}  // namespace hadal::jinja

// Operators, items, slices and attributes, as Python has them.
#include <cmath>

#include "text/jinja/library.h"
#include "text/jinja/python_text.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

[[noreturn]] void refuse(std::string_view what, const Value& a, const Value& b) {
  require_defined(a);
  require_defined(b);
  throw Error(ErrorKind::kFormat, str(what, " of values of type ", type_name(a), " and ",
                                      type_name(b), ", expected types it is defined for"));
}

[[noreturn]] void overflow(std::string_view what) {
  throw Error(ErrorKind::kFormat, str(what, " goes beyond integers of 64 bits, expected less"));
}

double finite_divisor(double x) {
  HADAL_CHECK(x != 0, kFormat, "division by zero, expected another divisor");
  return x;
}

Value add(Context& context, const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) {
    int64_t sum = 0;
    if (__builtin_add_overflow(a.integer(), b.integer(), &sum)) overflow("a sum");
    return {sum};
  }
  if (a.is_number() && b.is_number()) return {a.number() + b.number()};
  if (a.is_string() && b.is_string()) {
    context.budget.make(a.string().size() + b.string().size());
    return {std::make_shared<const std::string>(a.string() + b.string())};
  }
  const auto *x = a.get<SequencePtr>(), *y = b.get<SequencePtr>();
  if (x == nullptr || y == nullptr || (*x)->kind != (*y)->kind) refuse("+", a, b);
  if ((*x)->kind != Sequence::Kind::kList && (*x)->kind != Sequence::Kind::kTuple) {
    refuse("+", a, b);
  }
  std::vector<Value> items = (*x)->items;
  items.insert(items.end(), (*y)->items.begin(), (*y)->items.end());
  return make_list(std::move(items), context.budget, (*x)->kind);
}

Value subtract(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) {
    int64_t difference = 0;
    if (__builtin_sub_overflow(a.integer(), b.integer(), &difference)) overflow("a difference");
    return {difference};
  }
  if (!a.is_number() || !b.is_number()) refuse("-", a, b);
  return {a.number() - b.number()};
}

Value repeat(Context& context, const Value& a, int64_t times) {
  const size_t count = times < 0 ? 0 : static_cast<size_t>(times);
  const auto most = static_cast<size_t>(context.budget.limits().bytes);
  if (a.is_string()) {
    const std::string& text = a.string();
    context.budget.make(text.empty() ? 0 : count > most / text.size() ? most + 1 : 0);
    std::string out;
    if (!text.empty()) {
      context.budget.make(text.size() * count);
      out.reserve(text.size() * count);
      for (size_t i = 0; i < count; ++i) out += text;
    }
    return make_string(std::move(out), context.budget);
  }
  const Sequence& list = **a.get<SequencePtr>();
  std::vector<Value> out;
  if (!list.items.empty()) {
    context.budget.make(count > most / list.items.size() / sizeof(Value)
                            ? most + 1
                            : count * list.items.size() * sizeof(Value));
    for (size_t i = 0; i < count; ++i) {
      out.insert(out.end(), list.items.begin(), list.items.end());
    }
  }
  return make_list(std::move(out), context.budget, list.kind);
}

bool repeats(const Value& value) {
  const auto* list = value.get<SequencePtr>();
  return value.is_string() || (list != nullptr && ((*list)->kind == Sequence::Kind::kList ||
                                                   (*list)->kind == Sequence::Kind::kTuple));
}

Value multiply(Context& context, const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) {
    int64_t product = 0;
    if (__builtin_mul_overflow(a.integer(), b.integer(), &product)) overflow("a product");
    return {product};
  }
  if (a.is_number() && b.is_number()) return {a.number() * b.number()};
  if (repeats(a) && b.is_integer()) return repeat(context, a, b.integer());
  if (repeats(b) && a.is_integer()) return repeat(context, b, a.integer());
  refuse("*", a, b);
}

// Toward minus infinity; the remainder has the sign of the divisor.
Value floor_divide(const Value& a, const Value& b, bool remainder) {
  if (!a.is_number() || !b.is_number()) refuse(remainder ? "%" : "//", a, b);
  if (a.is_integer() && b.is_integer()) {
    const int64_t x = a.integer(), y = b.integer();
    HADAL_CHECK(y != 0, kFormat, "division by zero, expected another divisor");
    if (y == -1) return remainder ? Value{int64_t{0}} : subtract({int64_t{0}}, a);
    const bool down = x % y != 0 && ((x < 0) != (y < 0));
    if (remainder) return {x % y + (down ? y : 0)};
    return {x / y - (down ? 1 : 0)};
  }
  const double x = a.number(), y = finite_divisor(b.number());
  double rest = std::fmod(x, y);
  double quotient = (x - rest) / y;
  if (rest != 0) {
    if ((y < 0) != (rest < 0)) {
      rest += y;
      quotient -= 1;
    }
  } else {
    rest = std::copysign(0.0, y);
  }
  if (remainder) return {rest};
  if (quotient == 0) return {std::copysign(0.0, x / y)};
  const double whole = std::floor(quotient);
  return {quotient - whole > 0.5 ? whole + 1 : whole};
}

Value power(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) refuse("**", a, b);
  if (!a.is_integer() || !b.is_integer() || b.integer() < 0) {
    HADAL_CHECK(a.number() != 0 || b.number() >= 0, kFormat,
                "zero to a negative power, expected another base");
    const double result = std::pow(a.number(), b.number());
    HADAL_CHECK(!std::isnan(result) || std::isnan(a.number()) || std::isnan(b.number()), kFormat,
                "a power is no real number, expected another base or exponent");
    return {result};
  }
  int64_t result = 1, base = a.integer();
  for (int64_t left = b.integer(); left > 0; left >>= 1) {
    if ((left & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow("a power");
    if (left > 1 && __builtin_mul_overflow(base, base, &base)) overflow("a power");
  }
  return {result};
}

Value ordered(Context& context, Op op, const Value& a, const Value& b) {
  bool unordered = false;
  const int order = compare(a, b, context.budget, unordered);
  if (unordered) return {false};
  return {op == Op::kLess        ? order < 0
          : op == Op::kLessEqual ? order <= 0
          : op == Op::kGreater   ? order > 0
                                 : order >= 0};
}

// Python's rule for begin and end of a slice of `size` items, step not 0.
std::vector<int64_t> slice_indices(const Value& begin, const Value& end, const Value& step,
                                   int64_t size) {
  for (const Value* value : {&begin, &end, &step}) {
    require_defined(*value);
    HADAL_CHECK(value->is<None>() || value->is_integer(), kFormat, "a slice has a bound of type ",
                type_name(*value), ", expected an integer or none");
  }
  const int64_t by = step.is<None>() ? 1 : step.integer();
  HADAL_CHECK(by != 0, kFormat, "the step of a slice is 0, expected another");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1;
  const auto place = [&](const Value& value, int64_t otherwise) {
    if (value.is<None>()) return otherwise;
    const int64_t at = value.integer();
    return at < 0 ? std::max(at < -size ? low : at + size, low) : std::min(at, high);
  };
  const int64_t first = place(begin, by > 0 ? 0 : size - 1), last = place(end, by > 0 ? size : -1);
  std::vector<int64_t> out;
  if (by > 0) {
    for (int64_t i = first; i < last; i += std::min(by, size + 1)) out.push_back(i);
  } else {
    for (int64_t i = first; i > last; i -= by < -size ? size + 1 : -by) out.push_back(i);
  }
  return out;
}

}  // namespace

Value unary(Context& context, Op op, const Value& value) {
  if (op == Op::kNot) return {!truth(value)};
  require_defined(value);
  HADAL_CHECK(value.is_number(), kFormat, "the sign of a value of type ", type_name(value),
              ", expected a number");
  if (op == Op::kPlus) return value.is<bool>() ? Value{value.integer()} : value;
  return value.is_integer() ? binary(context, Op::kSubtract, {int64_t{0}}, value)
                            : Value{-value.number()};
}

Value binary(Context& context, Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::kAdd:
      return add(context, a, b);
    case Op::kSubtract:
      return subtract(a, b);
    case Op::kMultiply:
      return multiply(context, a, b);
    case Op::kDivide:
      if (!a.is_number() || !b.is_number()) refuse("/", a, b);
      return {a.number() / finite_divisor(b.number())};
    case Op::kFloorDivide:
    case Op::kModulo:
      return floor_divide(a, b, op == Op::kModulo);
    case Op::kPower:
      return power(a, b);
    case Op::kConcat: {
      std::string text = to_str(a, context.budget);
      append_str(text, b, context.budget);
      return make_string(std::move(text), context.budget);
    }
    case Op::kEqual:
      return {equal(a, b, context.budget)};
    case Op::kNotEqual:
      return {!equal(a, b, context.budget)};
    case Op::kIn:
      return {contains(b, a, context.budget)};
    case Op::kNotIn:
      return {!contains(b, a, context.budget)};
    default:
      return ordered(context, op, a, b);
  }
}

Value get_item(Context& context, const Value& object, const Value& key) {
  require_defined(object);
  if (const auto* dict = object.get<DictPtr>()) {
    if (const Value* found = find(**dict, key, context.budget)) return *found;
  } else if (key.is_integer()) {
    const auto* list = object.get<SequencePtr>();
    const bool items = list != nullptr && (*list)->kind != Sequence::Kind::kView &&
                       (*list)->kind != Sequence::Kind::kIterator;
    if (items || object.is_string()) {
      const int64_t size = length(object, context.budget);
      const int64_t at = key.integer() < 0 ? key.integer() + size : key.integer();
      if (at >= 0 && at < size) {
        if (items) return (*list)->items[static_cast<size_t>(at)];
        const std::string& text = object.string();
        const size_t begin = byte_offset(text, at);
        return make_string(text.substr(begin, utf8_length(static_cast<unsigned char>(text[begin]))),
                           context.budget);
      }
    }
  }
  if (key.is_string() && !object.is<DictPtr>()) return get_attribute(context, object, key.string());
  if (key.is_string() && has_method(object, key.string())) {
    return {std::make_shared<const Method>(Method{object, key.string()})};
  }
  return undefined(str("a value of type ", type_name(object), " has no item ",
                       key.is_string()    ? "'" + key.string().substr(0, 60) + "'"
                       : key.is_integer() ? std::to_string(key.integer())
                                          : std::string("of that key")));
}

Value get_attribute(Context& context, const Value& object, const std::string& name) {
  require_defined(object);
  if (const auto* loop = object.get<LoopPtr>()) return loop_attribute(context, *loop, name);
  if (const auto* id = object.get<NamespaceId>()) {
    const auto& fields = context.namespaces[static_cast<size_t>(id->id)];
    context.budget.spend(1 + static_cast<int64_t>(fields.size() / 8));
    for (const auto& [key, value] : fields) {
      if (key == name) return value;
    }
  } else if (has_method(object, name)) {
    context.budget.make(sizeof(Method) + name.size());
    return {std::make_shared<const Method>(Method{object, name})};
  } else if (const auto* dict = object.get<DictPtr>()) {
    const Value key{std::make_shared<const std::string>(name)};
    if (const Value* found = find(**dict, key, context.budget)) return *found;
  }
  return undefined(
      str("a value of type ", type_name(object), " has no attribute '", name.substr(0, 60), "'"));
}

Value slice(Context& context, const Value& object, const Value& begin, const Value& end,
            const Value& step) {
  require_defined(object);
  const auto* list = object.get<SequencePtr>();
  const bool items = list != nullptr && ((*list)->kind == Sequence::Kind::kList ||
                                         (*list)->kind == Sequence::Kind::kTuple);
  HADAL_CHECK(items || object.is_string(), kFormat, "a slice of a value of type ",
              type_name(object), ", expected a list, a tuple or a string");
  const int64_t size = length(object, context.budget);
  context.budget.make(static_cast<size_t>(size) * sizeof(int64_t));
  const std::vector<int64_t> places = slice_indices(begin, end, step, size);
  if (items) {
    std::vector<Value> out;
    for (const int64_t at : places) out.push_back((*list)->items[static_cast<size_t>(at)]);
    return make_list(std::move(out), context.budget, (*list)->kind);
  }
  const std::string& text = object.string();
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.size(); at += utf8_length(static_cast<unsigned char>(text[at]))) {
    starts.push_back(at);
  }
  starts.push_back(text.size());
  std::string out;
  for (const int64_t at : places) {
    out.append(text, starts[size_t(at)], starts[size_t(at) + 1] - starts[size_t(at)]);
  }
  return make_string(std::move(out), context.budget);
}

Value loop_attribute(Context& context, const LoopPtr& loop, const std::string& name) {
  const std::vector<Value>& items = loop->items->items;
  const int64_t index = loop->index;
  const auto size = static_cast<int64_t>(items.size());
  if (name == "index") return {index + 1};
  if (name == "index0") return {index};
  if (name == "revindex") return {size - index};
  if (name == "revindex0") return {size - index - 1};
  if (name == "first") return {index == 0};
  if (name == "last") return {index == size - 1};
  if (name == "length") return {size};
  if (name == "depth") return {int64_t{1}};  // more in recursive loops alone
  if (name == "depth0") return {int64_t{0}};
  if (name == "previtem") {
    return index == 0 ? undefined("there is no previous item")
                      : items[static_cast<size_t>(index - 1)];
  }
  if (name == "nextitem") {
    return index + 1 == size ? undefined("there is no next item")
                             : items[static_cast<size_t>(index + 1)];
  }
  if (name == "cycle") {
    context.budget.make(sizeof(Method));
    return {std::make_shared<const Method>(Method{{loop}, name})};
  }
  return undefined(str("loop has no attribute '", name.substr(0, 60), "'"));
}

}  // namespace hadal::jinja

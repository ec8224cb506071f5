// Filters of texts and numbers.
#include "text/jinja/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "text/jinja/python_text.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

template <std::string (*kChange)(std::string_view)>
Value filtered(Context& context, const Value& value, const Args& args) {
  const Parameters none("the filter", args, {});
  const std::string text = to_str(value, context.budget);
  context.budget.make(4 * text.size());
  return make_string(kChange(text), context.budget);
}

// Letters after one of these begin a word.
std::string title_of_words(std::string_view text) {
  std::string out, word;
  const auto end_word = [&] {
    const size_t first = word.empty() ? 0 : utf8_length(static_cast<unsigned char>(word[0]));
    out += upper(word.substr(0, first)) + lower(word.substr(first));
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = utf8_length(static_cast<unsigned char>(text[at]));
    const bool breaks = is_space(utf8_char(text.data() + at)) ||
                        std::string_view("-({[<").find(text[at]) != text.npos;
    if (breaks) end_word();
    (breaks ? out : word).append(text, at, bytes);
    at += bytes;
  }
  end_word();
  return out;
}

std::string unchanged(std::string_view text) {
  return std::string(text);
}

Value trim(Context& context, const Value& value, const Args& args) {
  const Parameters p("trim", args, {"chars"});
  const std::string text = to_str(value, context.budget);
  std::optional<std::string_view> chars;
  if (p.has(0)) chars = p.string(0);
  context.budget.scan(text.size() * (chars ? 1 + chars->size() / 8 : 1));
  return make_string(std::string(strip(text, chars, true, true)), context.budget);
}

Value filter_length(Context& context, const Value& value, const Args& args) {
  const Parameters none("length", args, {});
  return {length(value, context.budget)};
}

Value filter_default(Context&, const Value& value, const Args& args) {
  const Parameters p("default", args, {"default_value", "boolean"});
  if (!value.is<Undefined>() && (!p.truth_or(1, false) || truth(value))) return value;
  return p.get(0) == nullptr ? Value{std::make_shared<const std::string>()} : *p.get(0);
}

Value filter_replace(Context& context, const Value& value, const Args& args) {
  const Parameters p("replace", args, {"old", "new", "count"});
  const std::string text = to_str(value, context.budget);
  const std::string from = to_str(p.value(0), context.budget);
  const std::string to = to_str(p.value(1), context.budget);
  return make_string(replace(text, from, to, p.has(2) ? p.integer(2) : -1, context.budget),
                     context.budget);
}

Value absolute(Context& context, const Value& value, const Args& args) {
  const Parameters none("abs", args, {});
  require_defined(value);
  HADAL_CHECK(value.is_number(), kFormat, "abs of a value of type ", type_name(value),
              ", expected a number");
  if (value.is<double>()) return {std::abs(value.number())};
  return unary(context, value.integer() < 0 ? Op::kNegate : Op::kPlus, value);
}

// Digits that Python's int() and float() take: single underscores between them are left out.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  const auto digit = [&](size_t i) {
    return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i])) != 0;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || !digit(i - 1) || !digit(i + 1)) {
      return std::nullopt;
    }
  }
  return out;
}

std::optional<double> parse_float(std::string_view text) {
  const auto plain = without_underscores(strip(text, {}, true, true));
  if (!plain || plain->empty()) return std::nullopt;
  std::string word = lower(*plain);
  if (word[0] == '+' || word[0] == '-') word.erase(0, 1);
  const bool named = word == "inf" || word == "infinity" || word == "nan";
  if (!named && word.find_first_not_of("0123456789.e+-") != word.npos) return std::nullopt;
  char* end = nullptr;
  const double number = std::strtod(plain->c_str(), &end);
  if (end != plain->c_str() + plain->size()) return std::nullopt;
  return number;
}

std::optional<int64_t> parse_int(std::string_view text, int64_t base) {
  auto plain = without_underscores(strip(text, {}, true, true));
  if (!plain || plain->empty()) return std::nullopt;
  const bool negative = plain->front() == '-';
  if (negative || plain->front() == '+') plain->erase(0, 1);
  const std::string prefix = lower(plain->substr(0, 2));
  const int64_t named = prefix == "0x" ? 16 : prefix == "0o" ? 8 : prefix == "0b" ? 2 : 0;
  if (named != 0 && (base == named || base == 0)) {
    plain->erase(0, 2);
    base = named;
  } else if (base == 0) {
    base = 10;
  }
  if (plain->empty() || plain->front() == '-') return std::nullopt;
  int64_t number = 0;
  const char* last = plain->data() + plain->size();
  const auto [end, error] = std::from_chars(plain->data(), last, number, static_cast<int>(base));
  HADAL_CHECK(error != std::errc::result_out_of_range, kFormat, "int: \"", plain->substr(0, 60),
              "\" goes beyond integers of 64 bits");
  if (error != std::errc() || end != last) return std::nullopt;
  return negative ? -number : number;
}

std::optional<int64_t> whole_part(double number) {
  if (!std::isfinite(number)) return std::nullopt;
  HADAL_CHECK(std::abs(number) < 0x1p63, kFormat, "int: ", number,
              " goes beyond integers of 64 bits");
  return static_cast<int64_t>(number);
}

Value to_int(Context&, const Value& value, const Args& args) {
  const Parameters p("int", args, {"default", "base"});
  require_defined(value);
  const int64_t base = p.integer_or(1, 10);
  HADAL_CHECK(base == 0 || (base >= 2 && base <= 36), kFormat, "int: base is ", base,
              ", expected 0 or 2 to 36");
  std::optional<int64_t> number;
  if (value.is_integer()) {
    number = value.integer();
  } else if (value.is<double>()) {
    number = whole_part(value.number());
  } else if (value.is_string()) {
    number = parse_int(value.string(), base);
    if (!number) {
      if (const auto real = parse_float(value.string())) number = whole_part(*real);
    }
  }
  if (number) return {*number};
  return p.get(0) == nullptr ? Value{int64_t{0}} : *p.get(0);
}

Value to_float(Context&, const Value& value, const Args& args) {
  const Parameters p("float", args, {"default"});
  require_defined(value);
  if (value.is_number()) return {value.number()};
  if (value.is_string()) {
    if (const auto number = parse_float(value.string())) return {*number};
  }
  return p.get(0) == nullptr ? Value{0.0} : *p.get(0);
}

Value filter_round(Context&, const Value& value, const Args& args) {
  const Parameters p("round", args, {"precision", "method"});
  require_defined(value);
  HADAL_CHECK(value.is_number(), kFormat, "round of a value of type ", type_name(value),
              ", expected a number");
  const int64_t precision = p.integer_or(0, 0);
  const std::string method = p.string_or(1, "common");
  HADAL_CHECK(std::abs(precision) <= 300, kFormat, "round to ", precision,
              " digits, expected at most 300");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil" || method == "floor") {
    const double scaled = value.number() * scale;
    return {(method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale};
  }
  HADAL_CHECK(method == "common", kFormat, "round: method is \"", method.substr(0, 60),
              "\", expected common, ceil or floor");
  if (value.is_integer()) {
    HADAL_CHECK(precision >= 0, kFormat, "round of an integer to ", precision,
                " digits, expected none or more");
    return {value.integer()};
  }
  const double x = value.number();
  if (!std::isfinite(x)) return {x};
  if (precision < 0)
    return {std::nearbyint(x * std::pow(10.0, static_cast<double>(precision))) /
            std::pow(10.0, static_cast<double>(precision))};
  // Exact digits, halves to even, as Python does it.
  char buffer[700];
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), x);
  return {std::strtod(buffer, nullptr)};
}

Value indent(Context& context, const Value& value, const Args& args) {
  const Parameters p("indent", args, {"width", "first", "blank"});
  HADAL_CHECK(value.is_string(), kFormat, "indent of a value of type ", type_name(value),
              ", expected a string");
  std::string by;
  if (p.get(0) != nullptr && p.get(0)->is_string()) {
    by = p.string(0);
  } else {
    const int64_t width = p.integer_or(0, 4);
    context.budget.make(static_cast<size_t>(std::max<int64_t>(width, 0)));
    by.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  context.budget.make(value.string().size());
  const bool blank = p.truth_or(2, false);
  const std::vector<std::string> lines = split_lines(value.string() + "\n", false);
  std::string out = p.truth_or(1, false) ? by : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    context.budget.make(lines[i].size() + by.size() + 1);
    if (i > 0) {
      out += '\n';
      if (blank || !lines[i].empty()) out += by;
    }
    out += lines[i];
  }
  return make_string(std::move(out), context.budget);
}

Value truncate(Context& context, const Value& value, const Args& args) {
  const Parameters p("truncate", args, {"length", "killwords", "end", "leeway"});
  if (value.is<Undefined>()) return value;
  HADAL_CHECK(value.is_string(), kFormat, "truncate of a value of type ", type_name(value),
              ", expected a string");
  const std::string& text = value.string();
  const std::string end = p.string_or(2, "...");
  const int64_t most = p.integer_or(0, 255), leeway = p.has(3) ? p.integer(3) : 5;
  const int64_t kept = most - count_characters(end);
  HADAL_CHECK(kept >= 0 && leeway >= 0, kFormat, "truncate to ", most,
              " characters, expected as many as the end has, and a leeway not below 0");
  context.budget.scan(text.size());
  if (count_characters(text) - leeway <= most) return value;
  std::string out = text.substr(0, byte_offset(text, kept));
  if (!p.truth_or(1, false)) {
    if (const size_t space = out.rfind(' '); space != out.npos) out.resize(space);
  }
  return make_string(out + end, context.budget);
}

Value word_count(Context& context, const Value& value, const Args& args) {
  const Parameters none("wordcount", args, {});
  const std::string text = to_str(value, context.budget);
  int64_t count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size(); at += utf8_length(static_cast<unsigned char>(text[at]))) {
    const char32_t c = utf8_char(text.data() + at);
    const bool word = is_alnum(c) || c == '_';
    count += word && !inside ? 1 : 0;
    inside = word;
  }
  return {count};
}

Value tojson(Context& context, const Value& value, const Args& args) {
  const Parameters p("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = p.truth_or(0, false);
  style.sort_keys = p.truth_or(3, false);
  if (p.has(1)) {
    style.indented = true;
    style.item_separator = ",";
    if (p.get(1)->is_string()) {
      style.indent = p.string(1);
    } else {
      const int64_t width = std::max<int64_t>(p.integer(1), 0);
      context.budget.make(static_cast<size_t>(width));
      style.indent.assign(static_cast<size_t>(width), ' ');
    }
  }
  if (p.has(2)) {
    const SequencePtr pair = iterate(p.value(2), context.budget);
    HADAL_CHECK(pair->items.size() == 2 && pair->items[0].is_string() && pair->items[1].is_string(),
                kFormat, "tojson: separators are not two strings");
    style.item_separator = pair->items[0].string();
    style.key_separator = pair->items[1].string();
  }
  return make_string(to_json(value, style, context.budget), context.budget);
}

Value attribute(Context& context, const Value& value, const Args& args) {
  const Parameters p("attr", args, {"name"});
  if (value.is<DictPtr>() && !has_method(value, p.string(0))) {
    return undefined(str("a dictionary has no attribute '", p.string(0).substr(0, 60), "'"));
  }
  return get_attribute(context, value, p.string(0));
}

constexpr Filter kScalarFilters[] = {
    {"abs", absolute},
    {"attr", attribute},
    {"capitalize", filtered<capitalize>},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"float", to_float},
    {"indent", indent},
    {"int", to_int},
    {"length", filter_length},
    {"lower", filtered<lower>},
    {"replace", filter_replace},
    {"round", filter_round},
    {"safe", filtered<unchanged>},
    {"string", filtered<unchanged>},
    {"title", filtered<title_of_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", filtered<upper>},
    {"wordcount", word_count},
};

}  // namespace

std::span<const Filter> scalar_filters() {
  return kScalarFilters;
}

}  // namespace hadal::jinja

// Values as text: str(), repr() and json.dumps() of Python.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/python_text.h"
#include "text/jinja/value.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

constexpr char kHex[] = "0123456789abcdef";

void append_hex(std::string& out, const char* prefix, uint32_t value, int digits) {
  out += prefix;
  for (int i = digits - 1; i >= 0; --i) out += kHex[value >> (4 * i) & 15u];
}

void append_string_repr(std::string& out, const std::string& text, Budget& budget) {
  budget.make(text.size());
  const bool has_single = text.find('\'') != text.npos, has_double = text.find('"') != text.npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out += quote;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = utf8_char(text.data() + at);
    const size_t bytes = utf8_length(static_cast<unsigned char>(text[at]));
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c)) {
      out.append(text, at, bytes);
    } else if (c < 0x100) {
      append_hex(out, "\\x", c, 2);
    } else if (c < 0x10000) {
      append_hex(out, "\\u", c, 4);
    } else {
      append_hex(out, "\\U", c, 8);
    }
    at += bytes;
  }
  out += quote;
}

void append_items(std::string& out, const std::vector<Value>& items, Budget& budget) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(out, items[i], budget);
  }
}

void append_sequence(std::string& out, const Sequence& list, Budget& budget) {
  using Kind = Sequence::Kind;
  HADAL_CHECK(list.kind != Kind::kIterator, kFormat,
              "a generator has no text, expected | list or | join after the filter");
  if (list.kind == Kind::kRange) {
    out += list.label;
    return;
  }
  if (list.kind == Kind::kView) out += list.label + "(";
  out += list.kind == Kind::kTuple ? '(' : '[';
  append_items(out, list.items, budget);
  if (list.kind == Kind::kTuple && list.items.size() == 1) out += ',';
  out += list.kind == Kind::kTuple ? ')' : ']';
  if (list.kind == Kind::kView) out += ')';
}

void append_dict(std::string& out, const Dict& dict, Budget& budget) {
  out += '{';
  bool first = true;
  for (const auto& [key, value] : dict.items) {
    if (!first) out += ", ";
    first = false;
    append_repr(out, key, budget);
    out += ": ";
    append_repr(out, value, budget);
  }
  out += '}';
}

void append_json_string(std::string& out, const std::string& text, bool ensure_ascii,
                        Budget& budget) {
  budget.make(text.size());
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const char32_t c = utf8_char(text.data() + at);
    const size_t bytes = utf8_length(static_cast<unsigned char>(text[at]));
    constexpr std::string_view kShort = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
    const size_t known = c < 0x80 ? kShort.find(static_cast<char>(c)) : kShort.npos;
    if (known != kShort.npos) {
      out += '\\';
      out += kLetters[known];
    } else if (c < 0x20 || (ensure_ascii && c > 0x7e && c < 0x10000)) {
      append_hex(out, "\\u", c, 4);
    } else if (ensure_ascii && c >= 0x10000) {
      append_hex(out, "\\u", 0xd800 + ((c - 0x10000) >> 10), 4);
      append_hex(out, "\\u", 0xdc00 + ((c - 0x10000) & 0x3ffu), 4);
    } else {
      out.append(text, at, bytes);
    }
    at += bytes;
  }
  out += '"';
}

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Budget& budget) : style_(style), budget_(budget) {}

  void write(const Value& value) {
    budget_.make(8);
    if (value.is_string()) {
      append_json_string(out, value.string(), style_.ensure_ascii, budget_);
    } else if (const auto* list = value.get<SequencePtr>()) {
      write_list(**list);
    } else if (const auto* dict = value.get<DictPtr>()) {
      write_dict(**dict);
    } else {
      out += scalar(value);
    }
  }

  std::string out;

 private:
  static std::string scalar(const Value& value) {
    if (value.is<None>()) return "null";
    if (const bool* flag = value.get<bool>()) return *flag ? "true" : "false";
    if (value.is_integer()) return std::to_string(value.integer());
    require_defined(value);
    HADAL_CHECK(value.is<double>(), kFormat, "tojson of a value of type ", type_name(value),
                ", expected a list, a dictionary, a string, a number or none");
    const double x = value.number();
    if (std::isnan(x)) return "NaN";
    if (std::isinf(x)) return x > 0 ? "Infinity" : "-Infinity";
    return float_repr(x);
  }

  void write_list(const Sequence& list) {
    HADAL_CHECK(list.kind == Sequence::Kind::kList || list.kind == Sequence::Kind::kTuple, kFormat,
                "tojson of a value of type ", type_name({std::make_shared<Sequence>(list)}),
                ", expected | list before it");
    if (list.items.empty()) {
      out += "[]";
      return;
    }
    out += '[';
    open();
    for (size_t i = 0; i < list.items.size(); ++i) {
      separate(i == 0);
      write(list.items[i]);
    }
    close();
    out += ']';
  }

  void write_dict(const Dict& dict) {
    if (dict.items.empty()) {
      out += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> order;
    for (const auto& item : dict.items) order.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(order.begin(), order.end(), [this](const auto* a, const auto* b) {
        return less(a->first, b->first, budget_);
      });
    }
    out += '{';
    open();
    for (size_t i = 0; i < order.size(); ++i) {
      separate(i == 0);
      const Value& key = order[i]->first;
      append_json_string(out, key.is_string() ? key.string() : scalar(key), style_.ensure_ascii,
                         budget_);
      out += style_.key_separator;
      write(order[i]->second);
    }
    close();
    out += '}';
  }

  void open() {
    ++level_;
    new_line();
  }
  void close() {
    --level_;
    new_line();
  }
  void separate(bool first) {
    if (first) return;
    out += style_.item_separator;
    new_line();
  }
  void new_line() {
    if (!style_.indented) return;
    budget_.make(1 + size_t(level_) * style_.indent.size());
    out += '\n';
    for (int i = 0; i < level_; ++i) out += style_.indent;
  }

  const JsonStyle& style_;
  Budget& budget_;
  int level_ = 0;
};

}  // namespace

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  // The shortest digits that read back the same, then Python's choice between the two forms.
  const auto result =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string text(buffer, result.ptr);
  const size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  std::string digits = text.substr(0, e);
  const bool negative = digits[0] == '-';
  if (negative) digits.erase(0, 1);
  if (exponent < -4 || exponent >= 16) {
    const int size = std::abs(exponent);
    return (negative ? "-" : "") + digits + (exponent < 0 ? "e-" : "e+") + (size < 10 ? "0" : "") +
           std::to_string(size);
  }
  if (digits.size() > 1) digits.erase(1, 1);  // the point
  if (exponent < 0) {
    digits.insert(0, "0." + std::string(static_cast<size_t>(-exponent - 1), '0'));
  } else {
    const auto point = static_cast<size_t>(exponent) + 1;
    if (digits.size() < point + 1) digits.append(point + 1 - digits.size(), '0');
    digits.insert(point, ".");
  }
  return (negative ? "-" : "") + digits;
}

void append_repr(std::string& out, const Value& value, Budget& budget) {
  budget.make(8);
  if (value.is_string()) {
    append_string_repr(out, value.string(), budget);
  } else if (value.is<Undefined>()) {
    out += "Undefined";
  } else {
    append_str(out, value, budget);
  }
}

void append_str(std::string& out, const Value& value, Budget& budget) {
  budget.spend(1);
  if (value.is_string()) {
    budget.make(value.string().size());
    out += value.string();
  } else if (value.is<None>()) {
    out += "None";
  } else if (const bool* flag = value.get<bool>()) {
    out += *flag ? "True" : "False";
  } else if (value.is_integer()) {
    out += std::to_string(value.integer());
  } else if (value.is<double>()) {
    out += float_repr(value.number());
  } else if (const auto* list = value.get<SequencePtr>()) {
    append_sequence(out, **list, budget);
  } else if (const auto* dict = value.get<DictPtr>()) {
    append_dict(out, **dict, budget);
  } else {
    HADAL_CHECK(value.is<Undefined>(), kFormat, "a value of type ", type_name(value),
                " has no text, expected a string, a number, a list or a dictionary");
  }
}

std::string to_str(const Value& value, Budget& budget) {
  std::string out;
  append_str(out, value, budget);
  return out;
}

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  JsonWriter writer(style, budget);
  writer.write(value);
  return std::move(writer.out);
}

}  // namespace hadal::jinja

#include "text/pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "text/known_patterns.h"
#include "text/utf8.h"

namespace hadal {
namespace {

using Span = ClassRegex::Match;

// Steps of PCRE2 that a text may take: so many, and so many a byte. Patterns of linear time need a
// hundredth of it.
constexpr int64_t kBaseSteps = 200'000;
constexpr int64_t kStepsPerByte = 200;

SplitBehavior parse_behavior(const Json& value, const std::string& where) {
  const std::string& name = json_string(value, where);
  // Two spellings are in the world.
  constexpr std::pair<const char*, SplitBehavior> kNames[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  throw Error(
      ErrorKind::kFormat,
      str(where, " is ", json_brief(value),
          ", expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous"));
}

std::string escape_literal(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    const bool is_word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                         (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) >= 0x80;
    if (!is_word) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// Converts ascending positions in a text between bytes and characters.
class Ruler {
 public:
  explicit Ruler(std::string_view text) : text_(text) {}
  size_t to_byte(size_t character) {
    while (character_ < character) step();
    return byte_;
  }
  size_t to_char(size_t byte) {
    while (byte_ < byte) step();
    return character_;
  }

 private:
  void step() {
    byte_ += utf8_length(static_cast<unsigned char>(text_[byte_]));
    ++character_;
  }
  std::string_view text_;
  size_t byte_ = 0;
  size_t character_ = 0;
};

// The stretches of a piece and whether each matched, merged into what `behavior` makes of them.
class Joiner {
 public:
  Joiner(SplitBehavior behavior, std::vector<Span>& out) : behavior_(behavior), out_(out) {}

  void add(Span span, bool is_match) {
    const bool has_last = out_.size() > first_;
    switch (behavior_) {
      case SplitBehavior::kRemoved:
        if (!is_match) out_.push_back(span);
        break;
      case SplitBehavior::kIsolated:
        out_.push_back(span);
        break;
      case SplitBehavior::kContiguous:
        join_if(has_last && is_match == previous_, span);
        break;
      case SplitBehavior::kMergedWithPrevious:
        join_if(has_last && is_match && !previous_, span);
        break;
      case SplitBehavior::kMergedWithNext:
        join_if(has_last && !is_match && previous_, span);
        break;
    }
    previous_ = is_match;
  }

 private:
  void join_if(bool join, Span span) {
    if (join) {
      out_.back().end = span.end;
    } else {
      out_.push_back(span);
    }
  }

  SplitBehavior behavior_;
  std::vector<Span>& out_;
  size_t first_ = out_.size();
  bool previous_ = false;
};

}  // namespace

struct PreTokenizer::Impl {
  struct Stage {
    SplitStage split;
    std::string where;
    bool is_digits = false;  // one character of digits_numbers() instead of a pattern
  };
  std::vector<Stage> stages;  // ByteLevel's own regular expression is the last of them
  bool prefix_space = false;
  size_t stages_before_prefix = 0;

  KnownPattern known = KnownPattern::kNone;
  std::optional<CodePointClasses> classes;  // when the stages run through PCRE2
  std::vector<ClassRegex> regexes;

  void add(const Json& value, const std::string& where, bool is_last);
  void add_split(const Json& value, const std::string& where);
  void add_byte_level(const Json& value, const std::string& where);
  void compile();

  void classify(std::string_view text, std::vector<uint8_t>& out) const;
  void run_stage(size_t i, Scratch& scratch) const;
  void split_text(std::string_view text, size_t first, size_t last, Scratch& scratch) const;
};

void PreTokenizer::Impl::add(const Json& value, const std::string& where, bool is_last) {
  json_object(value, where);
  const std::string& type = json_string(json_member(value, "type", where), where + ".type");
  if (type == "Sequence") {
    const std::string inner = where + ".pretokenizers";
    const Json& list = json_array(json_member(value, "pretokenizers", where), inner);
    for (size_t i = 0; i < list.size(); ++i) {
      // A Sequence within a Sequence does not occur; refusing it bounds the depth.
      const std::string at = str(inner, "[", i, "]");
      HADAL_CHECK(list[i].value("type", "") != "Sequence", kFormat, at,
                  ".type is \"Sequence\", expected no Sequence within a Sequence");
      add(list[i], at, i + 1 == list.size());
    }
    HADAL_CHECK(!list.empty(), kFormat, inner, " is empty, expected ByteLevel as its last");
    return;
  }
  HADAL_CHECK((type == "ByteLevel") == is_last, kFormat, where, ".type is \"", type,
              is_last ? "\", expected ByteLevel as the last: this is not a byte-level tokenizer"
                      : "\", expected ByteLevel only as the last");
  if (type == "ByteLevel") return add_byte_level(value, where);
  if (type == "Split") return add_split(value, where);
  if (type == "Digits") {
    const bool individual = json_bool_or(value, "individual_digits", false, where);
    stages.push_back({.split = {}, .where = where, .is_digits = true});
    if (!individual) stages.back().split.behavior = SplitBehavior::kContiguous;
    return;
  }
  throw Error(ErrorKind::kFormat,
              str(where, ".type is \"", type, "\", expected Sequence, Split, Digits or ByteLevel"));
}

void PreTokenizer::Impl::add_split(const Json& value, const std::string& where) {
  const std::string inner = where + ".pattern";
  const Json& pattern = json_object(json_member(value, "pattern", where), inner);
  SplitStage split;
  if (const auto regex = pattern.find("Regex"); regex != pattern.end()) {
    split.pattern = json_string(*regex, inner + ".Regex");
  } else if (const auto text = pattern.find("String"); text != pattern.end()) {
    split.pattern = escape_literal(json_string(*text, inner + ".String"));
  } else {
    throw Error(ErrorKind::kFormat,
                str(inner, " is ", json_brief(pattern), ", expected {\"Regex\"} or {\"String\"}"));
  }
  split.behavior = parse_behavior(json_member(value, "behavior", where), where + ".behavior");
  split.invert = json_bool_or(value, "invert", false, where);
  stages.push_back({.split = std::move(split), .where = where});
}

void PreTokenizer::Impl::add_byte_level(const Json& value, const std::string& where) {
  prefix_space = json_bool_or(value, "add_prefix_space", true, where);
  stages_before_prefix = stages.size();
  if (json_bool_or(value, "use_regex", true, where)) {
    stages.push_back({.split = {.pattern = kGpt2Pattern}, .where = where});
  }
}

void PreTokenizer::Impl::compile() {
  std::vector<RegexSyntax> syntaxes;
  std::vector<CodePointSet> sets;
  for (const Stage& stage : stages) {
    RegexSyntax syntax;
    if (stage.is_digits) {
      syntax.items.push_back({"", 0});
      syntax.sets.push_back(digits_numbers());
    } else {
      syntax = parse_regex(stage.split.pattern, stage.where + ".pattern");
    }
    sets.insert(sets.end(), syntax.sets.begin(), syntax.sets.end());
    syntaxes.push_back(std::move(syntax));
  }
  classes = CodePointClasses::make(sets);
  HADAL_CHECK(classes, kFormat, stages.empty() ? "" : stages[0].where,
              ": the regular expressions tell more than 256 kinds of characters apart");
  int64_t first_set = 0;
  for (size_t i = 0; i < stages.size(); ++i) {
    regexes.emplace_back(syntaxes[i], *classes, first_set, stages[i].where + ".pattern");
    first_set += static_cast<int64_t>(syntaxes[i].sets.size());
  }
}

void PreTokenizer::Impl::classify(std::string_view text, std::vector<uint8_t>& out) const {
  out.clear();
  out.reserve(text.size());
  for (const char* p = text.data(); p != text.data() + text.size();) {
    out.push_back((*classes)(utf8_char(p)));
    p += utf8_length(static_cast<unsigned char>(*p));
  }
}

void PreTokenizer::Impl::run_stage(size_t i, Scratch& scratch) const {
  const SplitStage& split = stages[i].split;
  scratch.next_spans.clear();
  for (const Span piece : scratch.spans) {
    const size_t length = piece.end - piece.begin;
    scratch.matches.clear();
    regexes[i].find_all({scratch.classes.data() + piece.begin, length}, *scratch.regex,
                        scratch.matches);
    Joiner joiner(split.behavior, scratch.next_spans);
    size_t previous = 0;
    const auto add = [&](size_t begin, size_t end, bool is_match) {
      joiner.add({piece.begin + begin, piece.begin + end}, is_match != split.invert);
    };
    for (const Span match : scratch.matches) {
      if (match.begin != previous) add(previous, match.begin, false);
      add(match.begin, match.end, true);
      previous = match.end;
    }
    if (previous != length) add(previous, length, false);
  }
  std::erase_if(scratch.next_spans, [](Span span) { return span.begin == span.end; });
  scratch.spans.swap(scratch.next_spans);
}

// Leaves in scratch.spans, which are in bytes, what the stages [first, last) make of the spans.
void PreTokenizer::Impl::split_text(std::string_view text, size_t first, size_t last,
                                    Scratch& scratch) const {
  if (first == last) return;
  classify(text, scratch.classes);
  const bool is_ascii = scratch.classes.size() == text.size();
  if (!is_ascii) {
    Ruler ruler(text);
    for (Span& span : scratch.spans) span = {ruler.to_char(span.begin), ruler.to_char(span.end)};
  }
  for (size_t i = first; i < last; ++i) run_stage(i, scratch);
  if (!is_ascii) {
    Ruler ruler(text);
    for (Span& span : scratch.spans) span = {ruler.to_byte(span.begin), ruler.to_byte(span.end)};
  }
}

PreTokenizer::PreTokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

PreTokenizer PreTokenizer::from_json(const Json& value, const std::string& where, bool by_hand) {
  auto impl = std::make_unique<Impl>();
  impl->add(value, where, true);
  if (by_hand && !impl->prefix_space) {
    std::vector<SplitStage> splits;
    for (const auto& stage : impl->stages) splits.push_back(stage.split);
    impl->known = recognize_pattern(splits);
  }
  if (impl->known == KnownPattern::kNone) impl->compile();
  return PreTokenizer(std::move(impl));
}

bool PreTokenizer::is_by_hand() const {
  return impl_->known != KnownPattern::kNone;
}

void PreTokenizer::split(std::string_view text, Scratch& scratch,
                         std::vector<std::string_view>& words) const {
  if (text.empty()) return;
  if (is_by_hand()) return split_known(impl_->known, text, words);
  if (!scratch.regex) {
    scratch.regex.emplace(kBaseSteps + kStepsPerByte * static_cast<int64_t>(scratch.text_bytes));
  }
  scratch.spans.assign(1, {0, text.size()});
  const size_t middle = impl_->stages_before_prefix;
  impl_->split_text(text, 0, middle, scratch);
  if (impl_->prefix_space) {
    scratch.prefixed.clear();
    for (Span& span : scratch.spans) {
      const size_t begin = scratch.prefixed.size();
      if (text[span.begin] != ' ') scratch.prefixed += ' ';
      scratch.prefixed += text.substr(span.begin, span.end - span.begin);
      span = {begin, scratch.prefixed.size()};
    }
    text = scratch.prefixed;
  }
  impl_->split_text(text, middle, impl_->stages.size(), scratch);
  for (const Span span : scratch.spans) {
    words.push_back(text.substr(span.begin, span.end - span.begin));
  }
}

}  // namespace hadal

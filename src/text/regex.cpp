#include "text/regex.h"

#include <pcre2.h>

#include <algorithm>

#include "core/error.h"

namespace hadal {
namespace {

// What one match may put aside to come back to: some 30 bytes a turn of a group's repetition.
constexpr size_t kJitStackBytes = size_t{1} << 26, kJitStackStart = size_t{1} << 15;
constexpr uint32_t kHeapLimitKib = 1 << 18;  // the same without JIT

struct StepCount {
  int64_t left = 0;
  size_t base = 0;  // where the stretch that is being passed began
};

int count_step(pcre2_callout_block* block, void* data) {
  auto& count = *static_cast<StepCount*>(data);
  const size_t at = block->current_position;
  if (block->callout_number == kRegexStepNumber) {
    count.left -= 1 + static_cast<int64_t>(at - std::min(at, count.base));
  }
  count.base = at;
  return count.left < 0 ? PCRE2_ERROR_MATCHLIMIT : 0;
}

std::string pcre2_message(int code) {
  unsigned char text[256] = {};
  pcre2_get_error_message(code, text, sizeof(text));
  std::string message;
  for (const unsigned char* c = text; *c != 0; ++c) message += static_cast<char>(*c);
  return message;
}

std::string byte_escape(unsigned byte) {
  constexpr char kHex[] = "0123456789abcdef";
  return {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
}

// A set of class numbers in PCRE2's syntax.
std::string class_text(const std::vector<uint8_t>& members) {
  if (members.empty()) return "(?!)";
  if (members.size() == 1) return byte_escape(members[0]);
  std::string text = "[";
  for (size_t i = 0; i < members.size();) {
    size_t end = i + 1;
    while (end < members.size() && members[end] == members[i] + (end - i)) ++end;
    text += byte_escape(members[i]);
    if (end - i > 1) text += "-" + byte_escape(members[end - 1]);
    i = end;
  }
  return text + "]";
}

struct CodeFree {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDataFree {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextFree {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct JitStackFree {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

}  // namespace

struct ClassRegex::Impl {
  std::unique_ptr<pcre2_code, CodeFree> code;
  std::string where;
};

struct RegexScratch::Impl {
  std::unique_ptr<pcre2_match_data, MatchDataFree> data;
  std::unique_ptr<pcre2_match_context, MatchContextFree> context;
  std::unique_ptr<pcre2_jit_stack, JitStackFree> stack;
  int64_t steps = 0;
  StepCount count;
};

RegexScratch::RegexScratch(int64_t steps) : impl_(std::make_unique<Impl>()) {
  impl_->data.reset(pcre2_match_data_create(1, nullptr));
  impl_->context.reset(pcre2_match_context_create(nullptr));
  HADAL_CHECK(impl_->data && impl_->context, kResource, "out of memory for matching");
  impl_->steps = impl_->count.left = steps;
  pcre2_set_heap_limit(impl_->context.get(), kHeapLimitKib);
  pcre2_set_match_limit(impl_->context.get(),
                        static_cast<uint32_t>(std::min<int64_t>(steps, UINT32_MAX)));
  pcre2_set_callout(impl_->context.get(), count_step, &impl_->count);
}

RegexScratch::~RegexScratch() = default;

int64_t RegexScratch::steps_left() const {
  return impl_->count.left;
}

ClassRegex::ClassRegex(const RegexSyntax& syntax, const CodePointClasses& classes,
                       int64_t first_set, const std::string& where)
    : impl_(std::make_unique<Impl>()) {
  impl_->where = where;
  std::string pattern = "(?:";  // so that it is not empty
  for (const auto& item : syntax.items) {
    pattern += item.set < 0 ? item.text : class_text(classes.of_set(first_set + item.set));
  }
  pattern += ")";
  const std::vector<unsigned char> bytes(pattern.begin(), pattern.end());
  int error = 0;
  size_t offset = 0;
  impl_->code.reset(pcre2_compile(bytes.data(), bytes.size(), 0, &error, &offset, nullptr));
  HADAL_CHECK(impl_->code, kFormat, where,
              ": the regular expression does not compile: ", pcre2_message(error));
  // Without it (some systems forbid executable memory) pcre2_match interprets the pattern.
  pcre2_jit_compile(impl_->code.get(), PCRE2_JIT_COMPLETE);
}

ClassRegex::~ClassRegex() = default;
ClassRegex::ClassRegex(ClassRegex&&) noexcept = default;
ClassRegex& ClassRegex::operator=(ClassRegex&&) noexcept = default;

void ClassRegex::find_all(std::span<const uint8_t> subject, RegexScratch& scratch,
                          std::vector<Match>& matches) const {
  auto& s = *scratch.impl_;
  const size_t* ends = pcre2_get_ovector_pointer(s.data.get());
  size_t at = 0;
  size_t last_end = SIZE_MAX;
  while (at <= subject.size()) {
    const int found = pcre2_match(impl_->code.get(), subject.data(), subject.size(), at, 0,
                                  s.data.get(), s.context.get());
    if (found == PCRE2_ERROR_NOMATCH) return;
    if (found == PCRE2_ERROR_JIT_STACKLIMIT && !s.stack) {
      s.stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackBytes, nullptr));
      HADAL_CHECK(s.stack, kResource, "out of memory for matching");
      pcre2_jit_stack_assign(s.context.get(), nullptr, s.stack.get());
      continue;
    }
    HADAL_CHECK(found != PCRE2_ERROR_MATCHLIMIT, kResource, impl_->where,
                ": matching takes more than the ", s.steps,
                " steps that a text of this length may take");
    HADAL_CHECK(found >= 0, kResource, impl_->where, ": matching a text of ", subject.size(),
                " characters failed: ", pcre2_message(found));
    const Match match{ends[0], ends[1]};
    if (match.begin == match.end && match.end == last_end) {
      ++at;
      continue;
    }
    matches.push_back(match);
    at = last_end = match.end;
  }
}

}  // namespace hadal

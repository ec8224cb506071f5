#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/regex_syntax.h"

namespace hadal {

// A regular expression compiled by PCRE2 (JIT where the system allows it) to run over class
// numbers, one byte a character, instead of text: it needs no Unicode tables of its own.
// Immutable: any number of threads may use one, each with its own RegexScratch.
class ClassRegex {
 public:
  struct Match {
    size_t begin, end;  // in characters
  };

  // `first_set` is where the sets of `syntax` begin among those `classes` was made of.
  // Error{kFormat} begins with `where`.
  ClassRegex(const RegexSyntax& syntax, const CodePointClasses& classes, int64_t first_set,
             const std::string& where);
  ~ClassRegex();
  ClassRegex(ClassRegex&&) noexcept;
  ClassRegex& operator=(ClassRegex&&) noexcept;

  // All matches from left to right, as Oniguruma's iterator finds them: none overlap, an empty one
  // never stands where the one before ended. Error{kResource} when the steps of `scratch` run out.
  void find_all(std::span<const uint8_t> subject, class RegexScratch& scratch,
                std::vector<Match>& matches) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What matching needs besides the pattern: for one thread, reused from call to call.
class RegexScratch {
 public:
  // `steps` bounds all matching with it. Patterns of linear time need a few a character.
  explicit RegexScratch(int64_t steps);
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;
  int64_t steps_left() const;

 private:
  friend class ClassRegex;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal

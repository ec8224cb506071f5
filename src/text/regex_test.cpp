#include "text/regex.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/testing.h"
#include "text/utf8.h"

namespace hadal {
namespace {

struct Compiled {
  explicit Compiled(const std::string& pattern)
      : syntax(parse_regex(pattern, "pattern")),
        classes(*CodePointClasses::make(syntax.sets)),
        regex(syntax, classes, 0, "pattern") {}

  std::vector<ClassRegex::Match> find_all(const std::string& text) const {
    std::vector<uint8_t> subject;
    for (const char* p = text.data(); p != text.data() + text.size();) {
      subject.push_back(classes(utf8_char(p)));
      p += utf8_length(static_cast<unsigned char>(*p));
    }
    RegexScratch scratch(200'000 + 200 * int64_t(text.size()));
    std::vector<ClassRegex::Match> matches;
    regex.find_all(subject, scratch, matches);
    return matches;
  }

  RegexSyntax syntax;
  CodePointClasses classes;
  ClassRegex regex;
};

// "0-1 3-3": the matches, in characters.
std::string matches(const std::string& pattern, const std::string& text) {
  std::string result;
  for (const auto& match : Compiled(pattern).find_all(text)) {
    result += str(result.empty() ? "" : " ", match.begin, "-", match.end);
  }
  return result;
}

// What Oniguruma finds, as seen through Hugging Face's Split.
TEST(ClassRegex, FindsWhatOnigurumaFinds) {
  struct Case {
    const char *pattern, *text, *expected;
  };
  const Case cases[] = {
      {"a+", "aabaa", "0-2 3-5"},
      {"ab|a|b", "abba", "0-2 2-3 3-4"},
      {"[^a-c]", "axbyc", "1-2 3-4"},
      {R"(\p{L}+)", "é1中文 x", "0-1 2-4 5-6"},
      {R"(\P{L}+)", "é1中文 x", "1-2 4-5"},
      {R"(\p{^L}+)", "é1中文 x", "1-2 4-5"},
      {R"([\s\d]+)", "a 1\u0663\u00a0b", "1-5"},
      {R"(\S+)", "a \u0085b", "0-1 3-4"},
      {R"(\w+)", "a_1\u00b2-\u0301", "0-4 5-6"},
      {R"(\W)", "a-b", "1-2"},
      {R"(\D)", "1a2", "1-2"},
      {R"(\h+)", "xAf0g", "1-4"},
      {R"(\H)", "xA", "0-1"},
      {".", "a\r\n", "0-1 1-2"},
      {"^b|b$", "b\nb\nab\n", "0-1 2-3 5-6"},
      {"^", "a\nb\n", "0-0 2-2"},
      {"$", "a\nb\n", "1-1 3-3 4-4"},
      {R"(\Aa|a\z|b\Z)", "aba\nb\n", "0-1 4-5"},
      {R"(\bx)", "x xx-x", "0-1 2-3 5-6"},
      {R"(\Bx)", "x xx-x", "3-4"},
      {"x*", "axxb", "0-0 1-3 4-4"},  // no empty match right behind another
      {"", "ab", "0-0 1-1 2-2"},
      {"(?i:'s|'k)", "'S'\u017f'\u212a's", "0-2 2-4 4-6 6-8"},
      {"(?i)a(?-i:b)", "AbABab", "0-2 4-6"},
      {"(?i:[s-t])", "\u017fTu", "0-1 1-2"},
      {"(?i:[^s])", "\u017fsS1", "3-4"},
      {"a(?=b)", "abac", "0-1"},
      {"a(?!b)", "abac", "2-3"},
      {"(?<=a)b", "abb", "1-2"},
      {"(?<!a)b", "abb", "2-3"},
      {"(?>a+)a|b", "aab", "2-3"},
      {"a++a|a", "aa", "0-1 1-2"},
      {"a{2}", "aaaaa", "0-2 2-4"},
      {"a{,2}b", "aaab", "1-4"},
      {"a{2,}", "aaba", "0-2"},
      {"a{1,3}?", "aaa", "0-1 1-2 2-3"},
      {"{|}", "a{|}", "1-2 3-4"},
      {"[a&&[^a]b]", "ab", ""},
      {"[a-d&&[^b]]+", "abcd", "0-1 2-4"},
      {"[^\\n&&a]", "a\nb", "0-1 1-2 2-3"},
      {"[[a]b-c]+", "abcd", "0-3"},
      {R"([\]\-\\^]+)", "a]-\\^", "1-5"},
      {"[a-]+", "b-a", "1-3"},
      {R"(\x{4e2d}\u6587\x41\t)", "中文A\t", "0-4"},
      {R"(\_\.\/)", "_./", "0-3"},
      {"(a|b)+c", "abac", "0-4"},
      {"一{2}", "一一一", "0-2"},
      {R"([\p{Han}\p{Hiragana}ー]+)", "漢字かなカナー", "0-4 6-7"},
      {R"([^\p{L}]+)", "a\U0010ffff\u0378b", "1-3"},
  };
  for (const Case& c : cases) EXPECT_EQ(matches(c.pattern, c.text), c.expected) << c.pattern;
}

TEST(ParseRegex, RefusesByName) {
  struct Case {
    const char *pattern, *message;
  };
  const Case cases[] = {
      {"(a)\\1", "at byte 3 \"\\1\": this escape is not supported"},
      {"a(?<n>b)", "at byte 1 \"(?<n\": this kind of group is not supported"},
      {"(?m:a)", "this kind of group is not supported"},
      {"(?i)a|(?i)b", "this kind of group is not supported"},
      {"(?#x)", "this kind of group is not supported"},
      {"\\R", "this escape is not supported"},
      {"\\X", "this escape is not supported"},
      {"\\K", "this escape is not supported"},
      {"[[:alpha:]]", "POSIX brackets"},
      {"\\p{Greek}", "at byte 0 \"\\p{Greek}\": this property is not supported"},
      {"\\pL", "expected \\p{NAME}"},
      {"\\p{L", "expected \\p{NAME}"},
      {"*a", "at byte 0 \"*\": nothing before it to repeat"},
      {"a|+", "nothing before it to repeat"},
      {"a**", "a repetition of a repetition"},
      {"a{2}{3}", "a repetition of a repetition"},
      {"a{2}+", "a possessive count"},
      {"a{2}?", "a count that may be left out"},
      {"a{1001}", "expected 0 <= n <= m <= 1000"},
      {"a{3,2}", "expected 0 <= n <= m <= 1000"},
      {"a{99999999999999999999}", "expected 0 <= n <= m <= 1000"},
      {"^*", "repetition of an anchor"},
      {"(?=a)+", "repetition of an anchor or a look-around"},
      {"(a", "at byte 0 \"(\": a \"(\" without its \")\""},
      {"a)", "at byte 1 \")\": a \")\" without its \"(\""},
      {"[a", "a \"[\" without its \"]\""},
      {"[]a]", "an empty class"},
      {"[^]", "an empty class"},
      {"[b-a]", "a range that ends before it begins"},
      {"[a-\\d]", "a class as the end of a range"},
      {"[\\d-a]", "a class as the end of a range"},
      {"[a-[b]]", "an unclear \"-\""},
      {"\\", "the pattern ends too early"},
      {"\\xff", "a byte of a character"},
      {"\\x{110000}", "not the number of a character"},
      {"\\ud800", "not the number of a character"},
      {"\\x{41", "expected \\x{HEX}"},
      {"\\xg", "not the number of a character"},
      {"(?i:ss)", "fold together"},
      {"(?i:é)", "beyond ASCII under (?i)"},
      {"(?i:[é])", "beyond ASCII under (?i)"},
      {"\xff", "not UTF-8"},
  };
  for (const Case& c : cases) EXPECT_ERROR(parse_regex(c.pattern, "file: key"), kFormat, c.message);
  EXPECT_ERROR(parse_regex("\\R", "file: key"), kFormat, "file: key: ");
}

TEST(ParseRegex, BoundsWhatAPatternMayAskFor) {
  EXPECT_ERROR(parse_regex(std::string(40000, 'a'), "p"), kFormat, "40000 bytes");
  EXPECT_ERROR(parse_regex(std::string(60, '(') + std::string(60, ')'), "p"), kFormat, "50 deep");
  EXPECT_ERROR(parse_regex(std::string(12, '[') + "a" + std::string(12, ']'), "p"), kFormat,
               "8 deep");
  std::string many;
  for (char32_t c = 0x4e00; c < 0x4e00 + 300; ++c) append_utf8(many, c);
  EXPECT_ERROR(parse_regex(many, "p"), kFormat, "240 different character classes");
  // Repeats within repeats multiply until PCRE2 itself refuses.
  EXPECT_ERROR(Compiled("(?:(?:(?:a{1000}){1000}){1000}){1000}"), kFormat, "does not compile");
  EXPECT_ERROR(Compiled("(?<=a+)b"), kFormat, "does not compile");  // look-behind without a length
}

// Each of these takes more than linear time; all must end in an error, soon.
TEST(ClassRegex, CatastrophicPatternsEndInAnError) {
  // The end holds what the patterns want, so that PCRE2 cannot give up for the lack of it.
  const std::string text = std::string(20000, 'a') + "xbxcx";
  std::string optional, choices;
  for (int i = 0; i < 200; ++i) {
    optional += "a?";
    choices += "(?:a|a)";
  }
  const std::vector<std::string> patterns = {
      "(?:a|a)+b",     "(?:a+)+b",      "(?:a*)*b",
      "(?:a|aa)+[bc]", "a*a*b",         "a*a*a*[bc]",
      "a*?a*?c",       "a*[bc]",        "a{1,1000}a{1,1000}a{1,1000}[bc]",
      "(?:a?){1000}b", "(?=(?:a+)+b)a", "(?:(?:a|a)(?:a|a))*+b",
      "(?!a*a*[bc]).", "(?<!b)a*a*b",   "a*b|a*c|a+b",
      optional + "b",  choices + "b"};
  for (const std::string& pattern : patterns) {
    SCOPED_TRACE(pattern.substr(0, 40));
    EXPECT_ERROR(Compiled(pattern).find_all(text), kResource, "pattern: matching");
  }
}

TEST(ClassRegex, LongRunsAreFine) {
  const std::string text(1 << 20, 'a');
  for (const char* pattern : {"a+", "(?:a|b)+", "(?:ab?)+", "(?:[^b]|b)+", "(?:a(?!c))+"}) {
    EXPECT_EQ(matches(pattern, text), "0-1048576") << pattern;
  }
  EXPECT_EQ(matches("b|c", text), "");
}

}  // namespace
}  // namespace hadal

#include "infer/stop_strings.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

// Everything shown when `text` comes in pieces of `size`.
std::string shown(const std::vector<std::string>& stops, const std::string& text, size_t size) {
  StopStrings filter(stops);
  std::string out;
  for (size_t i = 0; i < text.size(); i += size) {
    out += filter.push(text.substr(i, size));
    EXPECT_EQ(text.find(out), 0u) << "something was shown that is not a beginning of the text";
  }
  return out + filter.flush();
}

TEST(stop_strings, cuts_at_the_first_one_however_the_text_arrives) {
  for (size_t size : {1, 2, 3, 7, 100}) {
    EXPECT_EQ(shown({"STOP"}, "one STO two STOP three", size), "one STO two ");
    EXPECT_EQ(shown({"\n\n", "end"}, "the en\nd and\n\nend", size), "the en\nd and");
    EXPECT_EQ(shown({"aab"}, "aaaab", size), "aa");
    EXPECT_EQ(shown({"xyz"}, "ends with xy", size), "ends with xy");
    EXPECT_EQ(shown({}, "nothing stops this", size), "nothing stops this");
  }
}

TEST(stop_strings, holds_back_no_more_than_it_must) {
  StopStrings filter({"</s>"});
  EXPECT_EQ(filter.push("abc<"), "abc");
  EXPECT_EQ(filter.push("b"), "<b");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.push("x</s>y"), "x");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("more"), "");
}

TEST(stop_strings, refuses_an_empty_one) {
  EXPECT_ERROR(StopStrings({"a", ""}), kUsage, "stop string is empty");
}

}  // namespace
}  // namespace hadal

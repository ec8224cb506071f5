#include "core/json.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

Json parse(std::string_view text) {
  return parse_json(text, "a.json");
}

TEST(ParseJson, reads_every_kind_of_value) {
  const Json j = parse(R"( {"i": -3, "u": 18446744073709551615, "d": 1.5e3, "b": [true, false],
                            "n": null, "s": "a\u00e9\ud83d\ude00\n", "o": {"k": []}} )");
  EXPECT_EQ(j["i"].get<int64_t>(), -3);
  EXPECT_EQ(j["u"].get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(j["d"].get<double>(), 1500);
  EXPECT_EQ(j["b"], Json::array({true, false}));
  EXPECT_TRUE(j["n"].is_null());
  EXPECT_EQ(j["s"].get<std::string>(), "a\xc3\xa9\xf0\x9f\x98\x80\n");
  EXPECT_TRUE(j["o"]["k"].is_array());
  EXPECT_EQ(j.size(), 7u);
  EXPECT_EQ(parse("3"), Json(3));
  EXPECT_EQ(parse("[[1],[2,3]]").dump(), "[[1],[2,3]]");
}

TEST(ParseJson, broken_text_is_refused_with_its_place) {
  EXPECT_ERROR(parse("{\n  \"a\": 1,\n  \"b\" 2\n}"), kFormat, "a.json: not valid JSON");
  EXPECT_ERROR(parse("{\n  \"a\": 1,\n  \"b\" 2\n}"), kFormat, "(line 3, byte 7)");
  for (std::string_view text : {"",
                                " ",
                                "{",
                                "[1,]",
                                "{\"a\":1,}",
                                "nul",
                                "1 2",
                                "{} {}",
                                "\"abc",
                                "'a'",
                                "[01]",
                                "+1",
                                ".5",
                                "NaN",
                                "[Infinity]",
                                "{a:1}",
                                "// c\n1",
                                "\"\\x\"",
                                "\"\t\"",
                                "\"\\ud800\"",
                                "{\"a\":1 \"b\":2}",
                                "[1 2]",
                                "]"}) {
    EXPECT_ERROR(parse(text), kFormat, "a.json: not valid JSON");
  }
}

TEST(ParseJson, bytes_that_are_not_utf8_are_refused) {
  for (std::string_view text : {"\"\xff\"", "\"\xc3\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
                                "\"\xf4\x90\x80\x80\"", "\"\x80\""}) {
    EXPECT_ERROR(parse(text), kFormat, "not valid JSON");
  }
}

TEST(ParseJson, numbers_that_do_not_fit_are_refused) {
  EXPECT_ERROR(parse("18446744073709551616"), kFormat, "not valid JSON");
  EXPECT_ERROR(parse("-9223372036854775809"), kFormat, "not valid JSON");
  EXPECT_ERROR(parse("1e400"), kFormat, "not valid JSON");
  EXPECT_EQ(parse("-9223372036854775808").get<int64_t>(), INT64_MIN);
}

TEST(ParseJson, depth_is_bounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse(nested(500)));
  EXPECT_ERROR(parse(nested(513)), kFormat, "a.json");
  EXPECT_ERROR(parse(nested(100'000)), kFormat, "a.json");
  EXPECT_ERROR(parse(std::string(100'000, '[')), kFormat, "a.json");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_ERROR(parse(objects), kFormat, "a.json");
}

TEST(ParseJson, a_key_that_stands_twice_is_refused_at_any_depth) {
  EXPECT_ERROR(parse(R"({"a": 1, "b": 2, "a": 1})"), kFormat,
               "a.json: key \"a\" stands twice in one object");
  EXPECT_ERROR(parse(R"([{"x": {"k": 1, "\u006b": 2}}])"), kFormat, "key \"k\" stands twice");
  EXPECT_NO_THROW(parse(R"({"a": {"a": 1}, "b": {"a": 1}})"));
}

TEST(JsonValue, integers) {
  EXPECT_EQ(json_int(parse("-5"), "f: k"), -5);
  EXPECT_EQ(json_int(parse("9223372036854775807"), "f: k"), INT64_MAX);
  EXPECT_EQ(json_int(parse("1e4"), "f: k"), 10000);
  EXPECT_EQ(json_int(parse("128.0"), "f: k"), 128);
  EXPECT_ERROR(json_int(parse("9223372036854775808"), "f: k"), kFormat,
               "f: k is 9223372036854775808, expected an integer below 2^63");
  EXPECT_ERROR(json_int(parse("1.5"), "f: k"), kFormat, "f: k is 1.5, expected an integer");
  EXPECT_ERROR(json_int(parse("1e300"), "f: k"), kFormat, "expected an integer");
  EXPECT_ERROR(json_int(parse("\"3\""), "f: k"), kFormat, "f: k is \"3\", expected an integer");
  EXPECT_ERROR(json_int(parse("true"), "f: k"), kFormat, "f: k is true");
}

TEST(JsonValue, other_types) {
  EXPECT_EQ(json_number(parse("3"), "w"), 3);
  EXPECT_EQ(json_number(parse("2.5"), "w"), 2.5);
  EXPECT_TRUE(json_bool(parse("true"), "w"));
  EXPECT_EQ(json_string(parse("\"s\""), "w"), "s");
  const Json array = parse("[1]"), object = parse("{}");
  EXPECT_EQ(&json_array(array, "w"), &array);
  EXPECT_EQ(&json_object(object, "w"), &object);
  EXPECT_ERROR(json_number(parse("null"), "w"), kFormat, "w is null, expected a number");
  EXPECT_ERROR(json_bool(parse("1"), "w"), kFormat, "w is 1, expected true or false");
  EXPECT_ERROR(json_string(parse("[]"), "w"), kFormat, "w is [], expected a string");
  EXPECT_ERROR(json_object(array, "w"), kFormat, "w is [1], expected an object");
  EXPECT_ERROR(json_array(object, "w"), kFormat, "w is {}, expected an array");
}

TEST(JsonBrief, is_short_and_never_cuts_a_character) {
  EXPECT_EQ(json_brief(parse(R"({"a": [1, 2]})")), R"({"a":[1,2]})");
  EXPECT_EQ(json_brief(parse("[1,2,3,4,5,6,7,8,9]")), "an array of 9 items");
  EXPECT_EQ(json_brief(parse(R"({"a":1,"b":2,"c":3,"d":4,"e":5})")), "an object of 5 keys");
  EXPECT_EQ(json_brief(Json(std::string(58, 'x'))).size(), 60u);
  EXPECT_EQ(json_brief(Json(std::string(59, 'x'))), '"' + std::string(56, 'x') + "...");
  for (size_t ascii = 0; ascii < 4; ++ascii) {
    std::string text(ascii, 'x');
    for (int i = 0; i < 40; ++i) text += "\xe6\xb7\xb1";  // three bytes each
    const std::string brief = json_brief(Json(text));
    EXPECT_LE(brief.size(), 60u);
    EXPECT_NO_THROW(parse('"' + brief.substr(1) + '"')) << "valid UTF-8: " << brief;
  }
}

}  // namespace
}  // namespace hadal

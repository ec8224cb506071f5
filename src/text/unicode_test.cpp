#include "text/unicode.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace hadal {
namespace {

TEST(CodePointSet, JoinsRangesThatOverlapOrTouch) {
  const CodePointSet set({{5, 7}, {1, 2}, {8, 9}, {6, 6}, {3, 3}, {20, 20}});
  const std::vector<CodePointSet::Range> expected = {{1, 3}, {5, 9}, {20, 20}};
  EXPECT_EQ(set.ranges(), expected);
  for (char32_t c = 0; c < 30; ++c) {
    EXPECT_EQ(set.contains(c), (c >= 1 && c <= 3) || (c >= 5 && c <= 9) || c == 20) << uint32_t(c);
  }
}

TEST(CodePointSet, SetAlgebra) {
  const CodePointSet a({{0, 10}, {20, 30}});
  const CodePointSet b({{5, 25}, {kMaxCodePoint, kMaxCodePoint}});
  for (const char32_t c :
       {0u, 4u, 5u, 10u, 11u, 19u, 20u, 25u, 26u, 30u, 31u, 0x10fffeu, 0x10ffffu}) {
    EXPECT_EQ((a | b).contains(c), a.contains(c) || b.contains(c)) << uint32_t(c);
    EXPECT_EQ((a & b).contains(c), a.contains(c) && b.contains(c)) << uint32_t(c);
    EXPECT_EQ((a ^ b).contains(c), a.contains(c) != b.contains(c)) << uint32_t(c);
    EXPECT_EQ((~a).contains(c), !a.contains(c)) << uint32_t(c);
  }
  EXPECT_EQ(~~a, a);
  EXPECT_EQ(~CodePointSet(), CodePointSet(0, kMaxCodePoint));
}

TEST(UnicodeProperty, KnowsCategoriesAndScripts) {
  EXPECT_TRUE(unicode_property("L")->contains(U'é'));
  EXPECT_TRUE(unicode_property("Lu")->contains(U'É'));
  EXPECT_FALSE(unicode_property("Lu")->contains(U'é'));
  EXPECT_TRUE(unicode_property("N")->contains(U'Ⅷ'));
  EXPECT_FALSE(unicode_property("Nd")->contains(U'Ⅷ'));
  EXPECT_TRUE(unicode_property("Cn")->contains(0x378));
  EXPECT_TRUE(unicode_property("Co")->contains(0x10fffd));
  EXPECT_TRUE(unicode_property("Cn")->contains(0x10ffff));
  EXPECT_TRUE(unicode_property("Han")->contains(U'中'));
  // Of Unicode 16, which PCRE2 10.42 does not know.
  EXPECT_TRUE(unicode_property("Lu")->contains(0x1c89));
  for (const char* unknown : {"", "X", "Lx", "Letter", "Greek", "Cs"}) {
    EXPECT_FALSE(unicode_property(unknown)) << unknown;
  }
}

TEST(UnicodeProperty, OneGeneralCategoryForEveryCodePoint) {
  std::vector<int> count(kMaxCodePoint + 1);
  for (const char* major : {"L", "M", "N", "P", "S", "Z", "C"}) {
    const auto set = unicode_property(major);
    for (const auto& range : set->ranges()) {
      for (char32_t c = range.first; c <= range.last; ++c) ++count[c];
    }
  }
  for (char32_t c = 0; c <= kMaxCodePoint; ++c) ASSERT_EQ(count[c], 1) << uint32_t(c);
}

TEST(UnicodeClasses, OfOtherPartsOfTheLibrary) {
  EXPECT_TRUE(white_space().contains(0x85));
  EXPECT_FALSE(white_space().contains(0x200b));
  EXPECT_TRUE(word_characters().contains(U'²'));
  EXPECT_FALSE(single_word_part().contains(U'²'));
  EXPECT_TRUE(single_word_part().contains(0x200d));
  EXPECT_TRUE(digits_numbers().contains(U'½'));
}

TEST(CodePointClasses, ArePreciselyTheSets) {
  const CodePointSet sets[] = {*unicode_property("L"), *unicode_property("Lu"),
                               white_space(),          CodePointSet('a', 'z'),
                               CodePointSet(),         ~CodePointSet('x', 'x')};
  const auto classes = CodePointClasses::make(sets);
  ASSERT_TRUE(classes);
  for (char32_t c = 0; c <= kMaxCodePoint; ++c) {
    for (int64_t i = 0; i < 6; ++i) {
      const auto& members = classes->of_set(i);
      const bool is_member =
          std::find(members.begin(), members.end(), (*classes)(c)) != members.end();
      ASSERT_EQ(is_member, sets[i].contains(c)) << uint32_t(c) << " set " << i;
    }
  }
  // Other letters, capitals, a..z without x, x, white space, the rest.
  EXPECT_EQ(classes->size(), 6);
}

TEST(CodePointClasses, NothingForMoreThanTheyCanNumber) {
  std::vector<CodePointSet> many;
  for (char32_t c = 0; c <= CodePointClasses::kMaxSets; ++c) many.emplace_back(c, c);
  EXPECT_FALSE(CodePointClasses::make(many));
  many.pop_back();
  EXPECT_TRUE(CodePointClasses::make(many));
  // 9 sets that cut 512 code points into as many classes.
  std::vector<CodePointSet> bits;
  for (int bit = 0; bit < 9; ++bit) {
    std::vector<CodePointSet::Range> ranges;
    for (char32_t c = 0; c < 512; ++c) {
      if ((c >> bit & 1) != 0) ranges.push_back({c, c});
    }
    bits.emplace_back(std::move(ranges));
  }
  EXPECT_FALSE(CodePointClasses::make(bits));
  bits.pop_back();
  EXPECT_EQ(CodePointClasses::make(bits)->size(), 256);
}

}  // namespace
}  // namespace hadal

#include "text/corpus.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

namespace hadal {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

TEST(corpus, is_a_function_of_seed_and_number) {
  EXPECT_EQ(make_story(1, 5).text, make_story(1, 5).text);
  EXPECT_NE(make_story(1, 5).text, make_story(2, 5).text);
  std::set<std::string> seen;
  for (uint64_t i = 0; i < 5000; ++i) seen.insert(make_story(1, i).text);
  EXPECT_EQ(seen.size(), 5000u) << "a story stands twice in the book";
}

TEST(corpus, every_answer_stands_where_it_is_said_to_and_follows_from_the_story) {
  for (uint64_t i = 0; i < 2000; ++i) {
    const Story story = make_story(3, i);
    ASSERT_GE(story.questions.size(), 5u);
    for (const Question& q : story.questions) {
      ASSERT_EQ(story.text.substr(q.answer_at, q.answer.size() + 2), " " + q.answer + ".");
      const std::string before = story.text.substr(0, q.answer_at);
      const auto words = words_of(before);
      const bool told = std::any_of(words.begin(), words.end(), [&](const std::string& word) {
        return word == q.answer || word == q.answer + ".";
      });
      EXPECT_TRUE(told) << "the answer \"" << q.answer << "\" was never told in: " << story.text;
    }
  }
}

// Whatever stands after a trade, a colour or a place the first time stands there ever after.
TEST(corpus, answers_are_what_was_told_first) {
  int checked = 0;
  for (uint64_t i = 0; i < 500; ++i) {
    const Story story = make_story(4, i);
    for (const Question& q : story.questions) {
      if (q.hops != 1) continue;
      const auto words = words_of(story.text.substr(0, q.answer_at));
      size_t first = 0;
      while (words[first] != words.back()) ++first;
      EXPECT_EQ(words[first + 1].substr(0, q.answer.size()), q.answer) << story.text;
      ++checked;
    }
  }
  EXPECT_GT(checked, 2000);
}

// The people of a two-fact question are introduced with what is asked.
TEST(corpus, two_facts_belong_to_one_person) {
  for (uint64_t i = 0; i < 500; ++i) {
    const Story story = make_story(8, i);
    for (const Question& q : story.questions) {
      if (q.hops != 2) continue;
      const auto words = words_of(story.text.substr(0, q.answer_at));
      const bool place = words[words.size() - 2] == "in";
      const std::string& name = words[words.size() - (place ? 4 : 3)];
      size_t w = 0;
      while (!(words[w] == name && words[w + 1] == "has")) ++w;
      EXPECT_EQ(words[w + (place ? 6 : 3)], q.answer) << story.text;
    }
  }
}

TEST(corpus, one_animal_sleeps_and_two_sleep) {
  int seen = 0;
  for (uint64_t i = 0; i < 500; ++i) {
    const auto words = words_of(make_story(5, i).text);
    for (size_t w = 2; w + 2 < words.size(); ++w) {
      if (words[w + 1] != "and" || words[w + 3] != "happy.") continue;
      const bool one = words[w - 2] == "One";
      EXPECT_EQ(words[w].back() == 's', one)
          << words[w - 2] << " " << words[w - 1] << " " << words[w];
      EXPECT_EQ(words[w + 2], one ? "looks" : "look");
      ++seen;
    }
  }
  EXPECT_GT(seen, 100);
}

// The text must be worth a model that reads: the two words before an answer are not enough.
TEST(corpus, a_trigram_model_answers_under_half) {
  std::map<std::pair<std::string, std::string>, std::map<std::string, int>> counts;
  for (uint64_t i = 0; i < 20000; ++i) {
    const auto words = words_of(make_story(6, i).text);
    for (size_t w = 2; w < words.size(); ++w) ++counts[{words[w - 2], words[w - 1]}][words[w]];
  }
  int right = 0, asked = 0;
  for (uint64_t i = 20000; i < 21000; ++i) {
    const Story story = make_story(6, i);
    for (const Question& q : story.questions) {
      const auto words = words_of(story.text.substr(0, q.answer_at));
      const auto& next = counts[{words[words.size() - 2], words.back()}];
      std::string best;
      int most = 0;
      for (const auto& [word, count] : next) {
        if (count > most) most = count, best = word;
      }
      ++asked;
      right += best == q.answer + "." ? 1 : 0;
    }
  }
  EXPECT_LT(right, asked / 2);
  EXPECT_GT(asked, 4000);
}

TEST(corpus, says_how_much_it_decided) {
  const Corpus corpus = make_corpus(7, 100, 50);
  EXPECT_EQ(corpus.stories.size(), 50u);
  EXPECT_EQ(corpus.stories[3].text, make_story(7, 103).text);
  EXPECT_GT(corpus.bits_per_byte(), 0.05);
  EXPECT_LT(corpus.bits_per_byte(), 1.0);
}

}  // namespace
}  // namespace hadal

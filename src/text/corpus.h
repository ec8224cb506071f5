#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/rng.h"

namespace hadal {

// A text written by rule, for training small models without any data at hand: short stories whose
// people, things and places stay consistent, questions about them with answers, counting on, and
// agreement in number. What the answers are cannot be told from the words just before them: the
// story must have been read.

// A question inside a story: the model is shown text[0, answer_at) and must go on with `answer`.
struct Question {
  size_t answer_at = 0;
  std::string answer;  // one word, without the space before it
  int hops = 1;        // facts that must be joined
};

struct Story {
  std::string text;
  std::vector<Question> questions;
  // Sum of log2(choices) over all random choices made: the text's information is at most this.
  double bits = 0;
};

// Story `number` of the endless book of this seed: a pure function of both.
Story make_story(uint64_t seed, uint64_t number);

// Stories first .. first+count-1, and their entropy in bits per byte.
struct Corpus {
  std::vector<Story> stories;
  int64_t bytes = 0;
  double bits = 0;
  double bits_per_byte() const { return bytes == 0 ? 0 : bits / double(bytes); }
};
Corpus make_corpus(uint64_t seed, uint64_t first, int64_t count);

}  // namespace hadal

#include "text/corpus.h"

#include <array>
#include <cmath>
#include <span>
#include <string_view>

#include "core/error.h"

namespace hadal {
namespace {

using Words = std::span<const std::string_view>;

// Few of each, so that a small model meets every word often; who has what where is new in every
// story.
constexpr std::array<std::string_view, 12> kPeople{"Anna", "Ben",   "Clara", "David",
                                                   "Emma", "Felix", "Grace", "Henry",
                                                   "Iris", "Jack",  "Lucy",  "Zoe"};
constexpr std::array<std::string_view, 12> kTrades{"baker",   "doctor", "farmer", "sailor",
                                                   "painter", "singer", "hunter", "tailor",
                                                   "judge",   "poet",   "cook",   "pilot"};
constexpr std::array<std::string_view, 12> kPlaces{"garden", "kitchen", "forest",  "harbor",
                                                   "market", "school",  "library", "castle",
                                                   "bridge", "valley",  "temple",  "station"};
constexpr std::array<std::string_view, 12> kMarks{"door",   "wall", "gate",   "lamp",
                                                  "bench",  "path", "clock",  "table",
                                                  "statue", "tree", "window", "pond"};
constexpr std::array<std::string_view, 12> kThings{"hats",  "books", "drums", "kites",
                                                   "keys",  "coins", "rings", "maps",
                                                   "bells", "boots", "flags", "stones"};
constexpr std::array<std::string_view, 12> kColors{"red",   "blue",   "green",  "white",
                                                   "black", "brown",  "grey",   "yellow",
                                                   "pink",  "golden", "silver", "orange"};
constexpr std::array<std::string_view, 20> kNumbers{
    "one",     "two",     "three",     "four",     "five",     "six",      "seven",
    "eight",   "nine",    "ten",       "eleven",   "twelve",   "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"};

struct Animal {
  std::string_view one, many;
};
constexpr std::array<Animal, 8> kAnimals{{{"cat", "cats"},
                                          {"dog", "dogs"},
                                          {"goat", "goats"},
                                          {"mouse", "mice"},
                                          {"bird", "birds"},
                                          {"horse", "horses"},
                                          {"fox", "foxes"},
                                          {"sheep", "sheep"}}};
struct Verb {
  std::string_view one, many;
};
constexpr std::array<Verb, 4> kVerbs{
    {{"sleeps", "sleep"}, {"runs", "run"}, {"eats", "eat"}, {"waits", "wait"}}};
constexpr std::array<std::string_view, 4> kOpenings{"It was a quiet morning.", "The sun was high.",
                                                    "Rain fell on the hills.",
                                                    "The evening was warm."};

constexpr int kMaxPeople = 3;

// The baker Anna has red hats near the kitchen door: one of each, different for every person.
struct Person {
  size_t trade, name, color, thing, place, mark;
};

class Writer {
 public:
  Writer(uint64_t seed, uint64_t number) : rng_(seed, number) {}

  Story write() {
    cast();
    say(kOpenings[choose(kOpenings.size())]);
    for (const Person& p : people_) introduce(p);
    for (size_t i = 0; i < 4 * people_.size(); ++i) {
      go_on();
      if (choose(8) == 0) aside();
    }
    ask_all();
    return std::move(story_);
  }

 private:
  size_t choose(size_t n) {
    story_.bits += std::log2(double(n));
    return size_t(rng_.below(int64_t(n)));
  }

  template <class T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[choose(i)]);
  }

  // k different ones of n.
  std::vector<size_t> pick(size_t n, size_t k) {
    std::vector<size_t> all(n);
    for (size_t i = 0; i < n; ++i) all[i] = i;
    for (size_t i = 0; i < k; ++i) std::swap(all[i], all[i + choose(n - i)]);
    all.resize(k);
    return all;
  }

  void cast() {
    const size_t count = 2 + choose(kMaxPeople - 1);
    const auto trades = pick(kTrades.size(), count), names = pick(kPeople.size(), count);
    const auto colors = pick(kColors.size(), count), things = pick(kThings.size(), count);
    const auto places = pick(kPlaces.size(), count), marks = pick(kMarks.size(), count);
    for (size_t i = 0; i < count; ++i) {
      people_.push_back({trades[i], names[i], colors[i], things[i], places[i], marks[i]});
    }
  }

  void say(std::string_view sentence) {
    if (!story_.text.empty()) story_.text += ' ';
    story_.text += sentence;
  }

  template <class... Parts>
  void say(std::string_view first, const Parts&... rest) {
    say(str(first, rest...));
  }

  static std::string who(const Person& p) { return str(kTrades[p.trade], " ", kPeople[p.name]); }
  static std::string what(const Person& p) { return str(kColors[p.color], " ", kThings[p.thing]); }
  static std::string where(const Person& p) { return str(kPlaces[p.place], " ", kMarks[p.mark]); }
  const Person& anyone() { return people_[choose(people_.size())]; }

  void introduce(const Person& p) {
    say("The ", who(p), " has ", what(p), " near the ", where(p), ".");
  }

  // What was introduced comes up again, and is what it was.
  void go_on() {
    const auto two = pick(people_.size(), 2);
    const Person &a = people_[two[0]], &b = people_[two[1]], &c = anyone();
    switch (choose(5)) {
      case 0:
        return say("The ", who(a), " finds the ", what(b), " near the ", where(c), ".");
      case 1:
        return say("The ", who(a), " brings the ", what(b), " to the ", where(c), ".");
      case 2:
        return say("The ", who(a), " shows the ", who(b), " the ", what(c), ".");
      case 3:
        return say("The ", who(a), " ", kVerbs[choose(kVerbs.size())].one, " near the ", where(c),
                   ".");
      default:
        return say("The ", what(a), " are near the ", where(c), ".");
    }
  }

  // Sentences that change nothing: number agreement and counting on.
  void aside() {
    if (choose(2) == 0) {
      const size_t count = 1 + choose(6);
      const Animal& animal = kAnimals[choose(kAnimals.size())];
      const Verb& verb = kVerbs[choose(kVerbs.size())];
      const bool one = count == 1;
      std::string number(kNumbers[count - 1]);
      number[0] = char(number[0] - 'a' + 'A');
      say(number, " ", one ? animal.one : animal.many, " ", one ? verb.one : verb.many, " and ",
          one ? "looks" : "look", " happy.");
      return;
    }
    const Person& p = people_[choose(people_.size())];
    const size_t from = choose(14), length = 4 + choose(3);
    std::string sentence = str(kPeople[p.name], " counts: ", kNumbers[from]);
    for (size_t i = 1; i < length && from + i < kNumbers.size(); ++i) {
      sentence += str(", ", kNumbers[from + i]);
    }
    say(sentence + ".");
  }

  // Writes "question? sentence answer." and remembers where the answer stands.
  void ask(std::string_view question, std::string_view stem, std::string_view answer, int hops) {
    say(question);
    say(stem);
    story_.text += ' ';
    story_.questions.push_back({story_.text.size() - 1, std::string(answer), hops});
    story_.text += str(answer, ".");
  }

  void ask_about(const Person& p, int kind) {
    const std::string_view trade = kTrades[p.trade], name = kPeople[p.name];
    const std::string_view color = kColors[p.color], place = kPlaces[p.place];
    switch (kind) {
      case 0:
        return ask(str("Who is the ", trade, "?"), str("The ", trade), name, 1);
      case 1:
        return ask(str("What is ", color, "?"), str("The ", color), kThings[p.thing], 1);
      case 2:
        return ask(str("What is in the ", place, "?"), str("The ", place), kMarks[p.mark], 1);
      case 3:
        return ask(str("What does ", name, " have?"), str(name, " has the"), kThings[p.thing], 2);
      default:
        return ask(str("Where does ", name, " wait?"), str(name, " waits in the"), place, 2);
    }
  }

  // Two thirds of the facts, in a random order, and after every third a question that joins two.
  void ask_all() {
    std::vector<std::pair<size_t, int>> one_hop, two_hops;
    for (size_t p = 0; p < people_.size(); ++p) {
      for (int kind = 0; kind < 3; ++kind) one_hop.emplace_back(p, kind);
      for (int kind = 3; kind < 5; ++kind) two_hops.emplace_back(p, kind);
    }
    shuffle(one_hop);
    shuffle(two_hops);
    for (size_t i = 0; i < 2 * people_.size(); ++i) {
      ask_about(people_[one_hop[i].first], one_hop[i].second);
      if (i % 3 == 2) ask_about(people_[two_hops[i / 3].first], two_hops[i / 3].second);
    }
  }

  Rng rng_;
  Story story_;
  std::vector<Person> people_;
};

}  // namespace

Story make_story(uint64_t seed, uint64_t number) {
  return Writer(seed, number).write();
}

Corpus make_corpus(uint64_t seed, uint64_t first, int64_t count) {
  HADAL_CHECK(count >= 0, kUsage, "corpus: ", count, " stories asked for");
  Corpus corpus;
  for (int64_t i = 0; i < count; ++i) {
    corpus.stories.push_back(make_story(seed, first + uint64_t(i)));
    corpus.bytes += int64_t(corpus.stories.back().text.size());
    corpus.bits += corpus.stories.back().bits;
  }
  return corpus;
}

}  // namespace hadal

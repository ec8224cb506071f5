#include "text/corpus.h"

#include <array>
#include <cmath>
#include <span>
#include <string_view>

#include "core/error.h"

namespace hadal {
namespace {

using Words = std::span<const std::string_view>;

constexpr std::array<std::string_view, 24> kNames{
    "Anna", "Ben",  "Clara", "David",  "Emma",  "Felix", "Grace", "Henry",
    "Iris", "Jack", "Kate",  "Leo",    "Mia",   "Noah",  "Olive", "Paul",
    "Ruth", "Sam",  "Tina",  "Victor", "Wendy", "Zoe",   "Oscar", "Lucy"};
constexpr std::array<std::string_view, 20> kPlaces{
    "garden", "kitchen", "forest",  "harbor", "market",  "school", "barn",
    "tower",  "library", "cave",    "meadow", "village", "castle", "cellar",
    "bridge", "valley",  "orchard", "temple", "station", "desert"};
constexpr std::array<std::string_view, 20> kThings{
    "lamp", "book", "drum",   "kite",  "key",  "hat",    "coin", "ring", "map",  "rope",
    "ball", "cup",  "basket", "knife", "bell", "mirror", "boot", "flag", "coat", "stone"};
constexpr std::array<std::string_view, 10> kColors{"red",   "blue", "green",  "white", "black",
                                                   "brown", "grey", "yellow", "pink",  "golden"};
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

constexpr int kMaxPeople = 4;

struct Person {
  size_t name, place, thing, color;  // where they are now, what they hold, and its colour
};

class Writer {
 public:
  Writer(uint64_t seed, uint64_t number) : rng_(seed, number) {}

  Story write() {
    cast();
    say(kOpenings[choose(kOpenings.size())]);
    std::vector<std::vector<int>> facts;  // (person, kind), told in a random order
    for (int p = 0; p < int(people_.size()); ++p) {
      for (int kind = 0; kind < 3; ++kind) facts.push_back({p, kind});
    }
    shuffle(facts);
    for (const auto& fact : facts) {
      tell(people_[size_t(fact[0])], fact[1]);
      if (choose(6) == 0) aside();
    }
    if (choose(2) == 0) move_somebody();
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
    const auto names = pick(kNames.size(), count), places = pick(kPlaces.size(), count);
    const auto things = pick(kThings.size(), count), colors = pick(kColors.size(), count);
    for (size_t i = 0; i < count; ++i)
      people_.push_back({names[i], places[i], things[i], colors[i]});
  }

  void say(std::string_view sentence) {
    if (!story_.text.empty()) story_.text += ' ';
    story_.text += sentence;
  }

  template <class... Parts>
  void say(std::string_view first, const Parts&... rest) {
    say(str(first, rest...));
  }

  void tell(const Person& p, int kind) {
    const std::string_view name = kNames[p.name], thing = kThings[p.thing];
    if (kind == 0) say(name, " is in the ", kPlaces[p.place], ".");
    if (kind == 1) say(name, " has the ", thing, ".");
    if (kind == 2) say("The ", thing, " is ", kColors[p.color], ".");
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
    std::string sentence = str(kNames[p.name], " counts: ", kNumbers[from]);
    for (size_t i = 1; i < length && from + i < kNumbers.size(); ++i) {
      sentence += str(", ", kNumbers[from + i]);
    }
    say(sentence + ".");
  }

  // Somebody leaves for a place where nobody is; from now on that is where they are.
  void move_somebody() {
    Person& p = people_[choose(people_.size())];
    std::vector<size_t> free;
    for (size_t i = 0; i < kPlaces.size(); ++i) {
      bool taken = false;
      for (const Person& other : people_) taken = taken || other.place == i;
      if (!taken) free.push_back(i);
    }
    p.place = free[choose(free.size())];
    say("Then ", kNames[p.name], " goes to the ", kPlaces[p.place], ".");
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
    const std::string_view name = kNames[p.name], thing = kThings[p.thing];
    const std::string_view place = kPlaces[p.place], color = kColors[p.color];
    switch (kind) {
      case 0:
        return ask(str("Where is ", name, "?"), str(name, " is in the"), place, 1);
      case 1:
        return ask(str("What does ", name, " have?"), str(name, " has the"), thing, 1);
      case 2:
        return ask(str("What color is the ", thing, "?"), str("The ", thing, " is"), color, 1);
      case 3:
        return ask(str("Where is the ", thing, "?"), str("The ", thing, " is in the"), place, 2);
      default:
        return ask(str("What color is the thing that ", name, " has?"), "It is", color, 2);
    }
  }

  // Each fact at most once, in a random order; three of four questions need one fact.
  void ask_all() {
    std::vector<std::pair<size_t, int>> one_hop, two_hops;
    for (size_t p = 0; p < people_.size(); ++p) {
      for (int kind = 0; kind < 3; ++kind) one_hop.emplace_back(p, kind);
      for (int kind = 3; kind < 5; ++kind) two_hops.emplace_back(p, kind);
    }
    shuffle(one_hop);
    shuffle(two_hops);
    const size_t count = std::min<size_t>(one_hop.size(), 4 + choose(3));
    for (size_t i = 0; i < count; ++i) {
      if (i % 4 == 3) {
        ask_about(people_[two_hops[i / 4].first], two_hops[i / 4].second);
      } else {
        ask_about(people_[one_hop[i].first], one_hop[i].second);
      }
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

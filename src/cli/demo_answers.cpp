#include "cli/demo_parts.h"
#include "core/error.h"

namespace hadal {
namespace {

constexpr int64_t kOneHopQuestions = 1000, kTwoHopQuestions = 250;

}  // namespace

void ask_demo_questions(TextGenerator& model, uint64_t seed, const DemoEvents& events,
                        DemoResult& result) {
  const GenerateOptions greedy{
      .sampling = {.temperature = 0}, .max_tokens = 6, .speculation = {Speculation::Mode::kOff, 0}};
  const int64_t all = kOneHopQuestions + kTwoHopQuestions;
  for (uint64_t s = 0; result.one_hop.asked + result.two_hops.asked < all; ++s) {
    const Story story = make_story(seed, kQuestionStories + s);
    for (const Question& q : story.questions) {
      DemoAnswers& answers = q.hops == 1 ? result.one_hop : result.two_hops;
      if (answers.asked == (q.hops == 1 ? kOneHopQuestions : kTwoHopQuestions)) continue;
      const GeneratedText out = model.generate(story.text.substr(0, q.answer_at), greedy, {"."},
                                               false, [](const std::string&) {});
      ++answers.asked;
      answers.right += out.text == " " + q.answer ? 1 : 0;
      events.asked(result.one_hop.asked + result.two_hops.asked, all);
    }
  }
}

std::vector<DemoSample> write_demo_samples(TextGenerator& model, uint64_t seed) {
  std::vector<DemoSample> samples;
  for (uint64_t s = 0; s < 3; ++s) {
    const Story story = make_story(seed, kPromptStories + s);
    DemoSample sample;
    sample.prompt = story.text.substr(0, story.text.find('.', story.text.size() / 4) + 1);
    GenerateOptions options{.sampling = {.temperature = 1, .seed = s},
                            .max_tokens = 80,
                            .speculation = {Speculation::Mode::kOff, 0}};
    const auto ignore = [](const std::string&) {};
    const GeneratedText plain = model.generate(sample.prompt, options, {}, false, ignore);
    options.speculation = {Speculation::Mode::kFixed, 1};
    const GeneratedText drafted = model.generate(sample.prompt, options, {}, false, ignore);
    HADAL_CHECK(plain.ids == drafted.ids, kInternal,
                "speculation changed the text that follows: ", sample.prompt);
    sample.text = plain.text;
    sample.plain = plain.stats;
    sample.speculative = drafted.stats;
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace hadal

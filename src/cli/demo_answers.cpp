#include "cli/demo_parts.h"
#include "core/error.h"

namespace hadal {
namespace {

constexpr int64_t kOneHopQuestions = 1000, kTwoHopQuestions = 250;

}  // namespace

void ask_demo_questions(TextGenerator& model, uint64_t seed, const DemoEvents& events,
                        DemoResult& result) {
  constexpr int64_t kAll = kOneHopQuestions + kTwoHopQuestions;
  TextRequest greedy;
  greedy.special = false;
  greedy.stops = {"."};
  greedy.request.sampling.temperature = 0;
  greedy.request.max_tokens = 6;
  greedy.request.speculation = {Speculation::Mode::kOff, 0};
  int64_t one_hop = 0, two_hops = 0, answered = 0;
  for (uint64_t s = 0; one_hop + two_hops < kAll; ++s) {
    const Story story = make_story(seed, kQuestionStories + s);
    for (const Question& q : story.questions) {
      int64_t& asked = q.hops == 1 ? one_hop : two_hops;
      if (asked == (q.hops == 1 ? kOneHopQuestions : kTwoHopQuestions)) continue;
      ++asked;
      greedy.prompt = story.text.substr(0, q.answer_at);
      DemoAnswers& answers = q.hops == 1 ? result.one_hop : result.two_hops;
      greedy.on_end = [&, right = " " + q.answer](int64_t, const GeneratedText& out) {
        ++answers.asked;
        answers.right += out.text == right ? 1 : 0;
        events.asked(++answered, kAll);
      };
      model.submit(greedy);
    }
  }
  model.run();
}

std::vector<DemoSample> write_demo_samples(TextGenerator& model, uint64_t seed) {
  std::vector<DemoSample> samples;
  for (uint64_t s = 0; s < 3; ++s) {
    const Story story = make_story(seed, kPromptStories + s);
    DemoSample sample;
    sample.prompt = story.text.substr(0, story.text.find('.', story.text.size() / 4) + 1);
    TextRequest request;
    request.prompt = sample.prompt;
    request.special = false;
    request.request.sampling.seed = s;
    request.request.max_tokens = 80;
    request.request.speculation = {Speculation::Mode::kOff, 0};
    const GeneratedText plain = model.generate(request);
    request.request.speculation = {Speculation::Mode::kFixed, 1};
    const GeneratedText drafted = model.generate(request);
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

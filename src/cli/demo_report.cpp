// What a demo's result looks like, to programs and to people.
#include <fmt/format.h>

#include "cli/demo.h"
#include "cli/progress.h"

namespace hadal {
namespace {

struct Speed {
  double tokens_per_s = 0, acceptance = 0;
};

// All samples together.
Speed speed_of(const DemoResult& r, SampleStats DemoSample::*which) {
  int64_t tokens = 0, drafted = 0, accepted = 0;
  double seconds = 0;
  for (const DemoSample& sample : r.samples) {
    const SampleStats& s = sample.*which;
    tokens += s.tokens;
    drafted += s.drafted;
    accepted += s.accepted;
    seconds += s.decode_seconds;
  }
  return {seconds > 0 ? double(tokens) / seconds : 0,
          drafted > 0 ? double(accepted) / double(drafted) : 0};
}

std::string row(const std::string& name, const std::string& value) {
  return fmt::format("  {:<44} {}\n", name, value);
}

}  // namespace

OrderedJson demo_json(const DemoResult& r) {
  const Speed plain = speed_of(r, &DemoSample::plain);
  const Speed drafted = speed_of(r, &DemoSample::speculative);
  OrderedJson samples = OrderedJson::array();
  for (const DemoSample& s : r.samples) {
    samples.push_back({{"prompt", s.prompt}, {"text", s.text}});
  }
  return {{"steps", r.steps},
          {"parameters", r.parameters},
          {"train_seconds", r.train_seconds},
          {"train_tokens_per_s", r.train_tokens_per_s},
          {"bits_per_byte_before", r.bits_before},
          {"bits_per_byte_after", r.bits_after},
          {"bits_per_byte_generator", r.bits_of_generator},
          {"one_hop_right", r.one_hop.share()},
          {"one_hop_asked", r.one_hop.asked},
          {"two_hops_right", r.two_hops.share()},
          {"two_hops_asked", r.two_hops.asked},
          {"max_vio_first", r.max_vio_first},
          {"max_vio_last", r.max_vio_last},
          {"acceptance", r.acceptance},
          {"generation_acceptance", drafted.acceptance},
          {"tokens_per_s_plain", plain.tokens_per_s},
          {"tokens_per_s_speculative", drafted.tokens_per_s},
          {"kv_bytes_per_token", r.kv_bytes},
          {"kv_bytes_per_token_mha", r.kv_bytes_mha},
          {"model", r.model},
          {"report", r.report},
          {"samples", samples}};
}

std::string demo_table(const DemoResult& r) {
  const Speed plain = speed_of(r, &DemoSample::plain);
  const Speed drafted = speed_of(r, &DemoSample::speculative);
  std::string t;
  t += row("held-out bits per byte, before -> after",
           fmt::format("{:.3f} -> {:.3f}   (the generator's own entropy: at most {:.3f})",
                       r.bits_before, r.bits_after, r.bits_of_generator));
  t += row("questions about unseen stories, one fact",
           fmt::format("{:.1f}% of {} right", 100 * r.one_hop.share(), r.one_hop.asked));
  t += row("questions that join two facts",
           fmt::format("{:.1f}% of {} right", 100 * r.two_hops.share(), r.two_hops.asked));
  t += row("worst layer's MaxVio, first step -> held-out",
           fmt::format("{:.2f} -> {:.2f}", r.max_vio_first, r.max_vio_last));
  t += row("MTP: held-out greedy agreement", fmt::format("{:.1f}%", 100 * r.acceptance));
  t += row("generation, plain -> speculative",
           fmt::format("{:.0f} -> {:.0f} tokens/s, {:.0f}% of drafts accepted, the same text",
                       plain.tokens_per_s, drafted.tokens_per_s, 100 * drafted.acceptance));
  t += row("KV cache per token, MLA against MHA",
           fmt::format("{} against {} bytes", r.kv_bytes, r.kv_bytes_mha));
  t += row("training", fmt::format("{} steps in {}, {:.0f} tokens/s", r.steps,
                                   duration_text(r.train_seconds), r.train_tokens_per_s));
  t += row("the model, a Hugging Face folder", r.model);
  t += row("the training, a page for the browser", r.report);
  t += fmt::format(
      "\nTry next:\n"
      "  ./run generate {0} -p \"The baker Anna has red hats near the kitchen door. Who is the "
      "baker?\" -n 60\n"
      "  ./run inspect {0}\n"
      "  ./run score {0} {1}\n",
      r.model, r.held_out);
  return t;
}

}  // namespace hadal

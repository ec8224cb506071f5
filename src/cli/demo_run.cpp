#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cli/demo.h"
#include "cli/demo_parts.h"
#include "cli/demo_recipe.h"
#include "cli/report_html.h"
#include "cli/train_watch.h"
#include "train/run.h"

namespace hadal {
namespace {

constexpr int64_t kHeldOutStories = 300;
constexpr const char* kMarker = "demo.json";  // a folder with this in it may be written over

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Demo {
 public:
  Demo(const DemoOptions& options, const DemoEvents& events)
      : options_(options), events_(events), out_(options.out) {}

  DemoResult run() {
    prepare_folder();
    write_tokenizer();
    write_validation();
    choose_steps();
    train();
    TextGenerator stranger(result_.model);
    measure_cache(stranger.model());
    ask_demo_questions(stranger, options_.seed, events_, result_);
    result_.samples = write_demo_samples(stranger, options_.seed);
    write_file_atomically(out_ / kMarker, demo_json(result_).dump(1) + "\n");
    return result_;
  }

 private:
  TrainRecipe recipe(int64_t steps) const {
    TrainRecipe r = parse_recipe(kDemoRecipe, "recipes/demo.toml", options_.sets);
    r.run.out = out_.string();
    r.run.seed = static_cast<int64_t>(options_.seed);
    if (steps > 0) r.run.steps = steps;
    r.data.train = {(out_ / "corpus" / "train.jsonl").string()};
    r.data.valid = {(out_ / "corpus" / "valid.jsonl").string()};
    r.data.tokenizer = (out_ / "tokenizer").string();
    r.data.cache = (out_ / "cache").string();
    return r;
  }

  void prepare_folder() {
    make_folder(out_);
    const bool ours = fs::exists(out_ / kMarker);
    HADAL_CHECK(ours || fs::is_empty(out_), kUsage, out_.string(),
                " is not empty and was not made by hadal demo; give another --out");
    write_file_atomically(out_ / kMarker, "{}\n");
    for (const char* part : {"model", "checkpoints", "tensorboard", "cache", kMetricsFile}) {
      fs::remove_all(out_ / part);
    }
    for (const char* part : {"corpus", "tokenizer"}) make_folder(out_ / part);
  }

  void write_tokenizer() {
    const DemoTokenizer made = write_demo_tokenizer(options_.seed, out_ / "tokenizer");
    tokens_per_story_ = made.tokens_per_story;
    events_.say(
        fmt::format("tokenizer: {} ids, {:.2f} bytes a token", made.ids, made.bytes_per_token));
  }

  void write_validation() {
    result_.held_out = (out_ / "corpus" / "valid.jsonl").string();
    result_.bits_of_generator =
        write_demo_stories(options_.seed, kValidStories, kHeldOutStories, result_.held_out)
            .bits_per_byte();
  }

  // Enough stories that none is read twice.
  void write_training(int64_t steps) {
    const TrainRecipe r = recipe(steps);
    const auto tokens =
        static_cast<double>(r.run.steps * r.batch.sequences * r.data.sequence_length);
    const auto stories = static_cast<int64_t>(1.02 * tokens / tokens_per_story_) + 200;
    const Corpus train =
        write_demo_stories(options_.seed, 0, stories, out_ / "corpus" / "train.jsonl");
    events_.say(fmt::format("corpus: {} stories, {:.1f} MB, written from seed {}", stories,
                            static_cast<double>(train.bytes) / 1e6, options_.seed));
  }

  void choose_steps() {
    result_.steps = options_.steps > 0 ? options_.steps : recipe(0).run.steps;
    if (options_.minutes <= 0) return;
    constexpr int64_t kWarm = 3, kTimed = 12;
    write_training(kWarm + kTimed);
    TrainRun probe(recipe(kWarm + kTimed));
    for (int64_t i = 0; i < kWarm; ++i) probe.trainer().step();
    const auto start = Clock::now();
    for (int64_t i = 0; i < kTimed; ++i) probe.trainer().step();
    const double rate = kTimed / seconds_since(start);
    result_.steps =
        std::max<int64_t>(20, static_cast<int64_t>(0.93 * rate * 60 * options_.minutes));
    events_.say(fmt::format("{:.2f} steps a second here; the same run again: --steps {}", rate,
                            result_.steps));
  }

  void train() {
    write_training(result_.steps);
    TrainRun run(recipe(result_.steps));
    watch_run(run);
    result_.parameters = run.model().params().count();
    result_.model = run.model_folder().string();
    events_.say(
        fmt::format("model: {} parameters, training {} steps", result_.parameters, result_.steps));
    int64_t tokens = 0;
    const auto start = Clock::now();
    run.train([&](const Progress& p) {
      if (p.step == 1) result_.max_vio_first = p.max_vio;
      tokens = p.tokens;
      events_.step(p);
      return true;
    });
    result_.train_seconds = seconds_since(start);
    result_.train_tokens_per_s = static_cast<double>(tokens) / result_.train_seconds;
    result_.bits_before = run.before()->bits_per_byte;
    result_.bits_after = run.after()->bits_per_byte;
    result_.acceptance = run.after()->acceptance;
    result_.max_vio_last = run.after()->max_vio;
    result_.report = (out_ / "report.html").string();
    write_file_atomically(result_.report, report_html(load_histories({out_}), "Hadal demo"));
  }

  void measure_cache(const Transformer& model) {
    const ModelConfig& c = model.config();
    result_.kv_bytes = KvCache(model.cache_specs(), DType::kBF16).bytes_per_token();
    const int64_t layers = c.num_hidden_layers + c.num_nextn_predict_layers;
    result_.kv_bytes_mha = layers * c.num_attention_heads * (c.qk_head_dim() + c.v_head_dim) *
                           dtype_size(DType::kBF16);
  }

  DemoOptions options_;
  const DemoEvents& events_;
  fs::path out_;
  double tokens_per_story_ = 0;
  DemoResult result_;
};

}  // namespace

DemoResult run_demo(const DemoOptions& options, const DemoEvents& events) {
  return Demo(options, events).run();
}

}  // namespace hadal

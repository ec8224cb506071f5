// Runs the program itself: what a user or another program sees of the commands.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "core/files.h"
#include "core/json.h"
#include "io/safetensors.h"
#include "tests/e2e/program.h"

namespace hadal {
namespace {

std::string golden(const std::string& name) {
  return (source_dir() / "tests" / "golden" / name).string();
}

std::vector<float> numbers(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo* info = file.find(name);
  if (info == nullptr) return {};
  std::vector<float> out(static_cast<size_t>(info->size()));
  file.read(*info, 0, std::as_writable_bytes(std::span(out)));
  return out;
}

TEST(Commands, HelpAndVersion) {
  const Outcome help = hadal("--help");
  EXPECT_EQ(help.code, 0);
  for (const char* name : {"train", "export", "chat", "template", "quantize", "logits", "grad",
                           "score", "tokenize", "selftest"}) {
    EXPECT_NE(help.out.find(name), std::string::npos) << name;
    EXPECT_EQ(hadal(std::string(name) + " --help").code, 0) << name;
  }
  EXPECT_EQ(hadal("--version").out.rfind("hadal ", 0), 0u);
}

TEST(Commands, ErrorsHaveACodeAndOneLine) {
  const Outcome usage = hadal("logits nowhere --ids 1 --text x --out y");
  EXPECT_EQ(usage.code, 2);
  EXPECT_EQ(usage.err.rfind("error: ", 0), 0u) << usage.err;
  EXPECT_EQ(hadal("frobnicate").code, 2);
  EXPECT_EQ(hadal("").code, 2);
  const Outcome missing = hadal("logits nowhere --ids 1 --out y");
  EXPECT_EQ(missing.code, 1);
  EXPECT_NE(missing.err.find("nowhere"), std::string::npos);
  const Outcome range = hadal("logits " + golden("v3_mtp") + " --ids 1,99999999 --out y");
  EXPECT_EQ(range.code, 2);
  EXPECT_NE(range.err.find("99999999"), std::string::npos) << range.err;
}

TEST(Commands, LogitsAndGradientsHaveTheirNames) {
  const std::string out = (scratch_dir() / "x.safetensors").string();
  ASSERT_EQ(hadal("logits " + golden("v3_mtp") + " --ids 1,2,3,4 --out " + out).code, 0);
  const SafetensorsFile logits(out);
  ASSERT_NE(logits.find("logits"), nullptr);
  EXPECT_EQ(logits.find("logits")->shape[0], 4);
  EXPECT_EQ(logits.find("mtp_logits")->shape[0], 3);

  const std::string grad = (scratch_dir() / "g.safetensors").string();
  ASSERT_EQ(hadal("grad " + golden("v3_mtp") + " --ids 1,2,3,4 --threads 2 --out " + grad).code, 0);
  const SafetensorsFile gradients(grad);
  // The loss is that of the logits.
  const std::vector<float> rows = numbers(logits, "logits");
  const size_t vocab = rows.size() / 4;
  double loss = 0;
  for (size_t t = 0; t < 3; ++t) {
    double sum = 0;
    for (size_t i = 0; i < vocab; ++i) sum += std::exp(double(rows[t * vocab + i]));
    loss += (std::log(sum) - double(rows[t * vocab + t + 2])) / 3;
  }
  EXPECT_NEAR(numbers(gradients, "loss").at(0), loss, 1e-4);
  double head = 0;
  for (const float g : numbers(gradients, "grad.lm_head.weight")) head += std::abs(double(g));
  EXPECT_GT(head, 0);
}

TEST(Commands, CompletionListsTheCommands) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Outcome script = hadal(std::string("completion ") + shell);
    EXPECT_EQ(script.code, 0);
    EXPECT_NE(script.out.find("tokenize"), std::string::npos);
    EXPECT_NE(script.out.find(std::string(shell) == "fish" ? "-l threads" : "--threads"),
              std::string::npos);
  }
  EXPECT_EQ(hadal("completion tcsh").code, 2);
  EXPECT_EQ(std::system(("bash -n <<'EOF'\n" + hadal("completion bash").out + "EOF\n").c_str()), 0);
}

// Several sources with all that is done to them; one without text ends the run before it begins.
TEST(Commands, TrainOnSourcesAndRefuseBadText) {
  const fs::path folder = scratch_dir();
  for (const char* name : {"cats", "dogs"}) {
    std::ofstream text(folder / (std::string(name) + ".jsonl"));
    for (int i = 0; i < 60; ++i) {
      text << Json{{"text", std::string(name) + " sit on mat " + std::to_string(i)}}.dump() << "\n";
    }
  }
  const auto file = [&](const std::string& name) { return (folder / name).string(); };
  const std::string tokenizer = file("tokenizer.json");
  ASSERT_EQ(hadal("tokenizer train --fim --vocab-size 300 --input " + file("*.jsonl") + " --out " +
                  tokenizer)
                .code,
            0);
  const auto train = [&](const std::string& sources, const std::string& more) {
    return hadal("train " + (source_dir() / "recipes" / "text_small.toml").string() +
                 " --set data.tokenizer=" + tokenizer +
                 " --set 'data.train=[]' --set 'data.valid=[]' --set 'data.source=[" + sources +
                 "]' --set data.sequence_length=32 --set batch.sequences=2 --set batch.micro=2"
                 " --set model.num_hidden_layers=1 --set model.hidden_size=32 --set run.steps=2"
                 " --threads 1 --json --out " +
                 file("run") + more);
  };
  const auto source = [&](const std::string& name, const std::string& more) {
    return "{name=\"" + name + "\",train=[\"" + file(name + ".jsonl") + "\"]" + more + "},";
  };
  std::ofstream(folder / "empty.jsonl");
  const Outcome bad = train(source("cats", "") + source("empty", ""), "");
  EXPECT_EQ(bad.code, 1);
  EXPECT_NE(bad.err.find("empty.jsonl is empty"), std::string::npos) << bad.err;
  EXPECT_EQ(bad.err.find("step 1"), std::string::npos) << bad.err;

  const Outcome good = train(source("cats", ",weight=3") + source("dogs", ""),
                             " --set data.valid_share=0.1 --set data.fim_rate=0.5"
                             " --set data.document_mask=true");
  ASSERT_EQ(good.code, 0) << good.err;
  EXPECT_NE(good.err.find("tokenising ["), std::string::npos) << good.err;
  const Json after = Json::parse(good.out)["after"];
  EXPECT_GT(after["sources"]["cats"]["bits_per_byte"], 0.1);
  EXPECT_GT(after["sources"]["dogs"]["bits_per_byte"], 0.1);
}

// A conversation of two turns through pipes.
void chat_with(const fs::path& model) {
  std::ofstream(model.parent_path() / "in.txt")
      << "/system Be kind.\nThe cat\n/nonsense\nsat on\n/save "
      << (model.parent_path() / "chat").string() << "\n/exit\nnot read\n";
  const std::string command = "chat " + model.string() + " -n 4 --seed 1 --threads 1 < " +
                              (model.parent_path() / "in.txt").string();
  const Outcome without = hadal(command);
  EXPECT_EQ(without.code, 2);
  EXPECT_NE(without.err.find("has no chat template"), std::string::npos) << without.err;

  std::ofstream(model / "chat_template.jinja")
      << "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
         "{% if add_generation_prompt %}assistant:{% endif %}";
  const Outcome chat = hadal(command);
  EXPECT_EQ(chat.code, 1);  // one line was no command
  EXPECT_NE(chat.err.find("no command /nonsense"), std::string::npos) << chat.err;
  EXPECT_NE(chat.err.find("context "), std::string::npos) << chat.err;
  const OrderedJson saved = OrderedJson::parse(read_file(model.parent_path() / "chat"));
  ASSERT_EQ(saved["messages"].size(), 5u);
  EXPECT_EQ(saved["messages"][0]["content"], "Be kind.");
  EXPECT_EQ(saved["messages"][3]["content"], "sat on");
  EXPECT_EQ(chat.out, saved["messages"][2]["content"].get<std::string>() + "\n" +
                          saved["messages"][4]["content"].get<std::string>() + "\n");

  const Outcome text =
      hadal("template " + model.string() + " --jsonl " + (model.parent_path() / "chat").string());
  ASSERT_EQ(text.code, 0) << text.err;
  const auto first = Json::parse(text.out).get<std::string>();
  EXPECT_EQ(first.rfind("system: Be kind.\nuser: The cat\nassistant: ", 0), 0u) << first;
  fs::remove(model / "chat_template.jinja");
}

// A second stage: longer rows with YaRN from a finished run's model; its average is another model.
void extend(const fs::path& folder, const std::string& model, const std::string& text) {
  const std::string recipe = (folder / "extend.toml").string(), run = (folder / "long").string();
  std::ofstream(recipe) << "[run]\ninit_from = '" << model << "'\nsteps = 2\neval_buckets = 4\n"
                        << "[data]\ntrain = ['" << text << "']\nvalid_share = 0.1\n"
                        << "sequence_length = 64\n[batch]\nsequences = 2\n"
                        << "[optim]\nlr_phases = [{ constant = 1e-3 }]\nema = 0.5\n"
                        << "[model]\nmax_position_embeddings = 4096\n[model.rope_scaling]\n"
                        << "type = 'yarn'\nfactor = 4\noriginal_max_position_embeddings = 1024\n";
  const Outcome trained = hadal("train " + recipe + " --json --threads 1 --out " + run);
  ASSERT_EQ(trained.code, 0) << trained.err;
  const Json result = Json::parse(trained.out);
  EXPECT_EQ(result["after"]["loss_by_position"].size(), 4u);
  const auto exported = [&](const std::string& options) {
    const std::string to = (folder / "exported").string();
    const Outcome outcome = hadal("export " + run + options + " --out " + to);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return read_file(fs::path(to) / "model.safetensors");
  };
  const std::string last = exported(""), average = exported(" --step 2 --ema");
  EXPECT_EQ(last.size(), average.size());
  EXPECT_NE(last, average);
}

// Other formats of a model, which every command takes, and what they cost.
void quantize_and_compare(const fs::path& folder, const std::string& model,
                          const std::string& text) {
  for (const char* format : {"int8", "int4", "int4-uniform"}) {
    SCOPED_TRACE(format);
    const std::string out = (folder / format).string();
    const Outcome made = hadal("quantize " + model + " " + out + " --format " + format + " --json");
    ASSERT_EQ(made.code, 0) << made.err;
    const Json facts = Json::parse(made.out);
    EXPECT_GT(facts["bits_per_weight"], 4.5);
    EXPECT_LT(facts["bits_per_weight"], 16);
    EXPECT_EQ(Json::parse(hadal("inspect " + out + " --json").out)["format"], format);
    const Outcome against = hadal("score " + out + " " + text + " --against " + model + " --json");
    ASSERT_EQ(against.code, 0) << against.err;
    const Json far = Json::parse(against.out);
    EXPECT_GT(far["tokens"], 200);
    EXPECT_GE(far["p99_kl"], far["mean_kl"]);
    EXPECT_LT(far["mean_kl"], std::string(format) == "int8" ? 5e-4 : 0.1);
    EXPECT_GT(far["top1_agreement"], 0.2);
    const Outcome words = hadal("generate " + out + " -p 'The cat' -n 4 --temperature 0 --json");
    EXPECT_EQ(words.code, 0) << words.err;
    const Outcome paged = hadal("generate " + out +
                                " -p 'The cat' -n 4 --temperature 0 --json --allow-paging "
                                "--cache-tokens 1000000000000");
    EXPECT_EQ(Json::parse(paged.out)["ids"], Json::parse(words.out)["ids"]) << paged.err;
    EXPECT_EQ(hadal("score " + out + " " + text).code, 0);
    EXPECT_EQ(hadal("logits " + out + " --ids 5,6 --out " + out + ".safetensors").code, 0);
    EXPECT_EQ(hadal("quantize " + model + " " + out + " --format int8").code, 2);  // it is there
  }
  EXPECT_EQ(hadal("quantize " + model + " " + (folder / "x").string() + " --format int3").code, 2);
  EXPECT_EQ(hadal("score " + model + " " + text + " --against /nowhere").code, 1);
  // More cache than any machine has memory.
  const Outcome large =
      hadal("generate " + model + " -p 'The cat' -n 4 --cache-tokens 1000000000000");
  EXPECT_EQ(large.code, 1);
  for (const char* part : {"--allow-paging", "KV cache", "routed experts", "it does not fit"}) {
    EXPECT_NE(large.err.find(part), std::string::npos) << part << " in\n" << large.err;
  }
}

void bench_at_depth(const std::string& model) {
  const std::string command =
      "bench " + model + " --prefill 0 --decode 2 --depth 8 --batch 1 --json";
  const Outcome timed = hadal(command + " --cache-dtype fp8");
  ASSERT_EQ(timed.code, 0) << timed.err;
  const Json facts = Json::parse(timed.out);
  EXPECT_EQ(facts["cache_dtype"], "F8_E4M3");
  ASSERT_EQ(facts["rows"].size(), 1u);
  EXPECT_EQ(facts["rows"][0]["synthetic_cache"], true);
  EXPECT_GT(facts["rows"][0]["tokens_per_s"], 0);
  EXPECT_GT(facts["rows"][0]["peak_rss_bytes"], 0);
  EXPECT_EQ(hadal(command + " --cache-dtype int3").code, 2);
}

// From text to a tokenizer, a trained model, a resumed run, an export, a score, a second stage.
TEST(Commands, TrainFromNothing) {
  const fs::path folder = scratch_dir();
  {
    std::ofstream text(folder / "text.jsonl");
    for (int i = 0; i < 200; ++i) {
      text << Json{{"text", "The cat number " + std::to_string(i) + " sat on the mat."}}.dump()
           << "\n";
    }
  }
  const std::string text = (folder / "text.jsonl").string();
  const std::string tokenizer = (folder / "tok" / "tokenizer.json").string();
  const Outcome made =
      hadal("tokenizer train --input " + text + " --vocab-size 300 --out " + tokenizer);
  ASSERT_EQ(made.code, 0) << made.err;

  const std::string recipe = (source_dir() / "recipes" / "text_small.toml").string();
  const std::string run = (folder / "run").string();
  const std::string settings =
      " --set data.tokenizer=" + tokenizer + " --set 'data.train=[\"" + text +
      "\"]' --set 'data.valid=[]' --set data.valid_share=0.1 --set data.sequence_length=32"
      " --set batch.sequences=4 --set batch.micro=2 --set run.checkpoint_every=2"
      " --set model.num_hidden_layers=2 --set model.hidden_size=64 --threads 1 --json --out " +
      run;
  const Outcome first = hadal("train " + recipe + settings + " --set run.steps=4");
  ASSERT_EQ(first.code, 0) << first.err;
  const Json result = Json::parse(first.out);
  EXPECT_EQ(result["steps"], 4);
  EXPECT_LT(result["after"]["bits_per_byte"], result["before"]["bits_per_byte"]);
  EXPECT_EQ(hadal("train " + recipe + settings).code, 2);  // a run is there already

  // As if it had been interrupted: from step 2 on, in the middle of a line and of a checkpoint.
  fs::remove_all(fs::path(run) / "checkpoints" / "step-4");
  fs::create_directories(fs::path(run) / "checkpoints" / "step-4.tmp-1");
  std::ofstream(fs::path(run) / "metrics.jsonl", std::ios::app) << "{\"step\": 5, \"lo";
  const Outcome more = hadal("train " + recipe + settings + " --resume --set run.steps=6");
  ASSERT_EQ(more.code, 0) << more.err;
  EXPECT_EQ(Json::parse(more.out)["steps"], 6);
  EXPECT_FALSE(fs::exists(fs::path(run) / "checkpoints" / "step-4.tmp-1"));
  std::istringstream log(read_file(fs::path(run) / "metrics.jsonl"));
  int64_t lines = 0;  // that of step 0 is the evaluation before
  for (std::string line; std::getline(log, line);) EXPECT_EQ(Json::parse(line)["step"], lines++);
  EXPECT_EQ(lines, 7);

  chat_with(folder / "run" / "model");

  const std::string exported = (folder / "model").string();
  ASSERT_EQ(hadal("export " + run + " --step 6 --out " + exported).code, 0);
  EXPECT_EQ(read_file(fs::path(exported) / "model.safetensors"),
            read_file(folder / "run" / "model" / "model.safetensors"));
  const Outcome score = hadal("score " + exported + " " + text + " --json");
  ASSERT_EQ(score.code, 0) << score.err;
  const Json numbers = Json::parse(score.out);
  EXPECT_EQ(numbers["documents"], 200);
  EXPECT_GT(numbers["bits_per_byte"], 0.1);
  EXPECT_LT(numbers["bits_per_byte"], 8);

  quantize_and_compare(folder, exported, text);
  bench_at_depth(exported);

  const Outcome ids = hadal("tokenize " + exported + " --jsonl " + text);
  ASSERT_EQ(ids.code, 0) << ids.err;
  const Json line = Json::parse(ids.out.substr(0, ids.out.find('\n')));
  std::ofstream(folder / "ids.jsonl") << Json{{"ids", line}}.dump() << "\n";
  const Outcome back =
      hadal("detokenize " + exported + " --jsonl " + (folder / "ids.jsonl").string());
  EXPECT_EQ(Json::parse(back.out), "The cat number 0 sat on the mat.");
  EXPECT_EQ(hadal("export " + run + " --ema --out " + exported).code, 2);  // it kept none
  extend(folder, run + "/model", text);
}

}  // namespace
}  // namespace hadal

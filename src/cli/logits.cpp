// hadal logits: the logits of every position, for comparison with other engines.
#include "cli/command.h"
#include "cli/options.h"
#include "io/safetensors.h"

namespace hadal {
namespace {

struct LogitsArguments {
  std::string model, out;
  TokenInput input;
  Precision precision = Precision::kFp32;
};

std::span<const std::byte> bytes_of(const Tensor<float, 2>& t) {
  return std::as_bytes(std::span(t.data(), static_cast<size_t>(t.size())));
}

int run_logits(const LogitsArguments& o) {
  const auto model = load_fp32_model(o.model, false);
  const std::vector<int32_t> ids = token_ids(o.input, o.model, model->config(), 1);
  const auto length = static_cast<int64_t>(ids.size());
  const int64_t vocab = model->config().vocab_size;
  const bool mtp = model->mtp_depth() > 0 && length > 1;

  const Tensor<float, 2> main({length, vocab});
  Tensor<float, 2> drafts;
  if (mtp) drafts = Tensor<float, 2>({length - 1, vocab});
  model->logits({ids.data(), {length}}, o.precision, main,
                mtp ? std::vector<Out2>{drafts} : std::vector<Out2>{});

  std::vector<TensorSpec> specs{{"logits", DType::kF32, {length, vocab}}};
  if (mtp) specs.push_back({"mtp_logits", DType::kF32, {length - 1, vocab}});
  SafetensorsWriter writer(o.out, specs);
  writer.write("logits", bytes_of(main));
  if (mtp) writer.write("mtp_logits", bytes_of(drafts));
  writer.finish();
  return 0;
}

}  // namespace

void add_logits(Cli& cli) {
  CLI::App* command = add_command(
      cli, "logits", "write the logits of every position into a safetensors file",
      "  hadal logits MODEL --ids 1,2,3 --out logits.safetensors\n"
      "Tensors: logits [T, V]; mtp_logits [T-1, V] when the model has an MTP module.\n");
  auto o = std::make_shared<LogitsArguments>();
  add_option(command, "MODEL", o->model, "model folder").required();
  add_token_input(command, o->input);
  add_option(command, "--out", o->out, "file to write").required().type_name("FILE");
  add_precision(command, o->precision);
  add_threads(command);
  on_run(cli, command, [o] { return run_logits(*o); });
}

}  // namespace hadal

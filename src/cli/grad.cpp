// hadal grad: loss and gradients of every tensor, for comparison with other engines.
#include "cli/command.h"
#include "cli/options.h"
#include "io/safetensors.h"

namespace hadal {
namespace {

struct GradArguments {
  std::string model, out;
  TokenInput input;
  Precision precision = Precision::kFp32;
};

// MTP modules take no part in this loss; router biases have no gradient.
bool takes_part(const Param& p, const ModelConfig& config) {
  return p.gradient != nullptr && p.layer < config.num_hidden_layers;
}

int run_grad(const GradArguments& o) {
  const auto model = load_fp32_model(o.model, true);
  const ModelConfig& config = model->config();
  const std::vector<int32_t> ids = token_ids(o.input, o.model, config, 2);
  const auto length = static_cast<int64_t>(ids.size());

  TrainOptions options;
  options.precision = o.precision;
  options.mtp = false;
  const Batch batch = make_batch({ids.data(), {1, length}}, length - 1, 0);
  const CrossEntropy sum = model->forward_backward(batch, options).main;
  const auto loss = static_cast<float>(sum.loss_sum / static_cast<double>(sum.count));

  std::vector<TensorSpec> specs{{"loss", DType::kF32, {1}}};
  for (const Param& p : model->params().all()) {
    if (takes_part(p, config)) specs.push_back({"grad." + p.name, DType::kF32, p.shape});
  }
  SafetensorsWriter writer(o.out, specs);
  writer.write("loss", std::as_bytes(std::span(&loss, 1)));
  for (const Param& p : model->params().all()) {
    if (!takes_part(p, config)) continue;
    writer.write("grad." + p.name,
                 std::as_bytes(std::span(p.gradient, static_cast<size_t>(p.size()))));
  }
  writer.finish();
  return 0;
}

}  // namespace

void add_grad(Cli& cli) {
  CLI::App* command = add_command(
      cli, "grad", "write the loss and its gradients into a safetensors file",
      "  hadal grad MODEL --ids 1,2,3 --out grad.safetensors\n"
      "Tensors: loss [1], the mean cross-entropy of positions 1..T-1 given their past without\n"
      "auxiliary terms; grad.NAME for every tensor of the checkpoint, one per expert.\n");
  auto o = std::make_shared<GradArguments>();
  add_option(command, "MODEL", o->model, "model folder").required();
  add_token_input(command, o->input);
  add_option(command, "--out", o->out, "file to write").required().type_name("FILE");
  add_precision(command, o->precision);
  add_threads(command);
  on_run(cli, command, [o] { return run_grad(*o); });
}

}  // namespace hadal

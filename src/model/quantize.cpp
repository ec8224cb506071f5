#include "model/quantize.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "model/pretrained.h"
#include "model/weights.h"

namespace hadal {
namespace {

constexpr int64_t kPieceNumbers = int64_t{1} << 20;

constexpr std::array kModelFormats{
    ModelFormat{"fp32", nullptr, nullptr},       ModelFormat{"bf16", nullptr, nullptr},
    ModelFormat{"fp16", nullptr, nullptr},       ModelFormat{"fp8", "fp8", "fp8"},
    ModelFormat{"int8", "int8", "int8"},         ModelFormat{"int4", "int4", "int8"},
    ModelFormat{"int4-uniform", "int4", "int4"},
};

bool of_experts(const Param& p) {
  return p.name.find(".mlp.") != std::string::npos &&
         p.name.find(".shared_experts.") == std::string::npos;
}

struct StoredTensor {
  const Param* param;
  const Format* format;
};

void write_tensor(const Checkpoint& checkpoint, const StoredTensor& t, BlockShape fp8_block,
                  CheckpointWriter& writer, const std::function<void(int64_t)>& written) {
  const Param& p = *t.param;
  const int64_t cols = p.cols(), rows = p.rows();
  // Pieces begin at whole blocks of what is read and of what is written.
  const int64_t step = std::lcm(weight_row_step(checkpoint, p.name, fp8_block),
                                std::max<int64_t>(1, t.format->block.rows));
  const int64_t piece =
      std::max<int64_t>(1, kPieceNumbers / std::max<int64_t>(1, cols * step)) * step;
  std::vector<float> numbers(static_cast<size_t>(std::min(piece, rows) * cols));
  for (int64_t r = 0; r < rows; r += piece) {
    const Out2 part(numbers.data(), {std::min(piece, rows - r), cols});
    read_rows(checkpoint, p.name, p.shape, r, part, fp8_block);
    write_rows(writer, p.name, *t.format, part);
    written(part.size());
  }
}

// OUT.partial, removed unless it became OUT.
class PartialFolder {
 public:
  explicit PartialFolder(const fs::path& out) : out_(out), path_(out.string() + ".partial") {
    std::error_code ignored;
    const bool free = !fs::exists(fs::symlink_status(out, ignored)) ||
                      (fs::is_directory(out, ignored) && list_folder(out).empty());
    HADAL_CHECK(free, kUsage, out.string(), " exists already, expected a new folder");
    remove_folder(path_);
    make_folder(path_);
  }
  ~PartialFolder() {
    if (done_) return;
    try {
      remove_folder(path_);
    } catch (const Error&) {  // what ended the work is the message
    }
  }
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;
  const fs::path& path() const { return path_; }
  void finish() {
    rename_folder(path_, out_);
    done_ = true;
  }

 private:
  fs::path out_, path_;
  bool done_ = false;
};

ModelConfig config_in(ModelConfig config, const ModelFormat& format) {
  config.weight_block_size.clear();
  config.scale_fmt.clear();
  config.hadal_format.clear();
  if (is_own(format)) {
    config.hadal_format = format.name;
  } else if (format.experts != nullptr) {
    config.weight_block_size = {kFp8Block.rows, kFp8Block.cols};
  } else {
    config.dtype = find_format(format.name).dtype;
  }
  return config;
}

fs::path without_slash(const fs::path& folder) {
  return folder.has_filename() ? folder : folder.parent_path();
}

}  // namespace

bool is_own(const ModelFormat& f) {
  return f.experts != nullptr && find_format(f.experts).block_bytes > 0;
}

std::span<const ModelFormat> model_formats() {
  return kModelFormats;
}

const ModelFormat& find_model_format(std::string_view name) {
  std::string known;
  for (const ModelFormat& f : kModelFormats) {
    if (f.name == name) return f;
    known += (known.empty() ? "" : ", ") + std::string(f.name);
  }
  throw Error(ErrorKind::kUsage, str("format \"", name, "\" is unknown; expected one of ", known));
}

const ModelFormat& stored_format(const ModelConfig& config) {
  if (!config.hadal_format.empty()) return find_model_format(config.hadal_format);
  if (!config.weight_block_size.empty()) return find_model_format("fp8");
  return find_model_format(format_of(config.dtype)->name);
}

std::string own_model_formats() {
  std::string names;
  for (const ModelFormat& f : kModelFormats) {
    if (is_own(f)) names += (names.empty() ? "" : ", ") + std::string(f.name);
  }
  return names;
}

const Format& format_in(const ModelFormat& model, const Param& p, DType stored) {
  if (p.group == ParamGroup::kRouterBias) return find_format("fp32");
  if (model.experts == nullptr) return find_format(model.name);
  const char* name = of_experts(p) ? model.experts : model.others;
  const Format& format = find_format(name);
  const bool fits = format.block_bytes > 0 ? p.packable() : p.fp8_matrix();
  if (fits) return format;
  const bool matrix = p.group == ParamGroup::kMatrix || p.group == ParamGroup::kEmbedding ||
                      p.group == ParamGroup::kHead;
  return find_format(matrix || stored != DType::kF32 ? "bf16" : "fp32");
}

Quantized quantize_model(const fs::path& in, const fs::path& to, const ModelFormat& format,
                         const QuantizeOptions& options, ConfigWarnings& warnings) {
  const fs::path out = without_slash(to);
  ModelConfig config = load_config(in, warnings);
  const Checkpoint checkpoint = Checkpoint::open(in);
  config.num_nextn_predict_layers = stored_modules(config, checkpoint);
  const Transformer model(config);
  check_tensors(model, checkpoint, warnings);
  const BlockShape fp8_block = stored_fp8_block(config);

  Quantized result;
  std::vector<StoredTensor> tensors;
  std::vector<TensorSpec> specs;
  for (const Param& p : model.params().all()) {
    tensors.push_back({&p, &format_in(format, p, checkpoint.at(p.name).dtype)});
    for (TensorSpec& s : weight_specs(p.name, p.shape, *tensors.back().format)) {
      result.bytes += s.bytes();
      specs.push_back(std::move(s));
    }
    result.numbers += p.size();
  }

  PartialFolder partial(out);
  CheckpointWriter writer(partial.path(), specs, options.shard_bytes);
  int64_t done = 0;
  const auto written = [&](int64_t numbers) {
    done += numbers;
    const double share = static_cast<double>(done) / static_cast<double>(result.numbers);
    const auto bytes = static_cast<int64_t>(share * static_cast<double>(result.bytes));
    HADAL_CHECK(!options.progress || options.progress(bytes, result.bytes), kUsage, out.string(),
                ": stopped before it was whole; nothing is left of it");
  };
  for (const StoredTensor& t : tensors) write_tensor(checkpoint, t, fp8_block, writer, written);
  checkpoint.check_intact();
  writer.finish();
  const ModelConfig written_config = config_in(config, format);
  write_model_files(written_config, in, partial.path());
  partial.finish();
  return result;
}

}  // namespace hadal

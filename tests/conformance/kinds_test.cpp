// What every attention and FFN kind must keep, over the registry and its options.
#include <algorithm>

#include "model/pretrained.h"
#include "tests/conformance/variants.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

struct Row {
  std::vector<int32_t> ids;
  KvCache::Sequence sequence;
};

class Kinds : public testing::TestWithParam<Variant> {
 protected:
  std::unique_ptr<Transformer> model_ = make_model(GetParam());

  // Hidden rows of `ids` at `first` of their sequences, all in one call of the path.
  Matrix step(Path path, KvCache& cache, const std::vector<Row>& rows, int64_t first) {
    std::vector<int32_t> ids, positions;
    std::vector<StepSpan> spans;
    for (const Row& row : rows) {
      const auto begin = int64_t(ids.size()), n = int64_t(row.ids.size());
      spans.push_back({begin, begin + n, row.sequence, first});
      cache.extend(row.sequence, n);
      ids.insert(ids.end(), row.ids.begin(), row.ids.end());
      for (int64_t i = 0; i < n; ++i) positions.push_back(int32_t(first + i));
    }
    Arena scratch;
    StepPass pass{path, cache, scratch, view(positions), spans, Precision::kFp32};
    Matrix h({int64_t(ids.size()), 32});
    model_->step(view(ids), pass, h);
    return h;
  }

  Losses train(const std::vector<int32_t>& tokens, int64_t sequences, TrainOptions options) {
    const View<const int32_t, 2> rows(tokens.data(),
                                      {sequences, int64_t(tokens.size()) / sequences});
    return model_->forward_backward(make_batch(rows, rows.dim(1) - 2, model_->mtp_depth()),
                                    options);
  }

  std::vector<float> gradients() {
    std::vector<float> all;
    for (const Param& p : model_->params().all()) {
      if (p.gradient != nullptr) all.insert(all.end(), p.gradient, p.gradient + p.size());
    }
    return all;
  }
};

TEST_P(Kinds, prompt_equals_token_by_token) {
  const auto ids = some_ids(21, 1);
  KvCache cache(model_->cache_specs(), DType::kF32);
  const Matrix prompt = step(Path::kPrompt, cache, {{ids, cache.add_sequence()}}, 0);
  const auto other = cache.add_sequence();
  for (int64_t t = 0; t < 21; ++t) {
    const Matrix one = step(Path::kGenerated, cache, {{{ids[size_t(t)]}, other}}, t);
    EXPECT_TRUE(close(one, to_double(prompt.view().rows(t, t + 1)), 2e-5)) << "token " << t;
  }
}

TEST_P(Kinds, a_row_never_depends_on_the_other_rows) {
  for (Path path : {Path::kPrompt, Path::kGenerated}) {
    KvCache cache(model_->cache_specs(), DType::kBF16);
    std::vector<Row> rows;
    std::vector<Matrix> alone;
    for (uint64_t s = 0; s < 5; ++s) {
      const auto ids = some_ids(3, 20 + s);
      alone.push_back(step(path, cache, {{ids, cache.add_sequence()}}, 0));
      rows.push_back({ids, cache.add_sequence()});
    }
    const Matrix together = step(path, cache, rows, 0);
    for (int64_t s = 0; s < 5; ++s) {
      EXPECT_TRUE(same_bits(alone[size_t(s)], together.view().rows(3 * s, 3 * s + 3)));
    }
  }
}

TEST_P(Kinds, a_prompt_in_pieces_gives_the_same_bits) {
  const auto ids = some_ids(30, 4);
  KvCache cache(model_->cache_specs(), DType::kBF16);
  const Matrix whole = step(Path::kPrompt, cache, {{ids, cache.add_sequence()}}, 0);
  for (int64_t piece : {1, 7, 16}) {
    const auto sequence = cache.add_sequence();
    for (int64_t first = 0; first < 30; first += piece) {
      const int64_t end = std::min<int64_t>(first + piece, 30);
      const Matrix part =
          step(Path::kPrompt, cache, {{{ids.begin() + first, ids.begin() + end}, sequence}}, first);
      EXPECT_TRUE(same_bits(part, whole.view().rows(first, end))) << "pieces of " << piece;
    }
  }
}

TEST_P(Kinds, training_gives_the_same_bits_on_any_number_of_threads) {
  const auto tokens = some_ids(4 * 20, 5);
  const TrainOptions options{.mtp_lambda = 0.3f, .sequence_alpha = 0.01f};
  std::vector<float> first;
  for (int64_t threads : {1, 2, 3}) {
    const ScopedThreads scope(threads);
    model_->params().zero_gradients();
    train(tokens, 4, options);
    if (first.empty()) first = gradients();
    EXPECT_EQ(gradients(), first) << threads << " threads";
  }
}

TEST_P(Kinds, micro_batches_add_up_to_the_whole_batch) {
  const auto tokens = some_ids(4 * 20, 6);
  TrainOptions options{.mtp_lambda = 0.3f, .sequence_alpha = 0.01f};
  train(tokens, 4, options);
  const auto whole = gradients();
  model_->params().zero_gradients();
  options.weight = 0.25;
  for (int64_t b = 0; b < 4; ++b) {
    train({tokens.begin() + 20 * b, tokens.begin() + 20 * (b + 1)}, 1, options);
  }
  const auto parts = gradients();
  double error = 0, norm = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    error += double(parts[i] - whole[i]) * (parts[i] - whole[i]);
    norm += double(whole[i]) * whole[i];
  }
  EXPECT_LT(std::sqrt(error / norm), 1e-5);
}

// Documents of 5, 1 and 8 tokens in one row, each without a look at the others.
class PackedDocuments {
 public:
  PackedDocuments() {
    packed.documents = {0, 5, 6};
    for (int64_t d = 0; d < 2; ++d) {
      packed.mtp_ids.emplace_back();
      packed.mtp_targets.emplace_back();
    }
    for (const int64_t length : {5, 1, 8}) {
      const auto ids = some_ids(length, uint64_t(10 + length));
      alone.push_back(make_batch({ids.data(), {1, length}}, length, 2));
      append(alone.back());
    }
  }
  Batch packed{1, 14, {}, {}, {}, {}};
  std::vector<Batch> alone;

 private:
  static void join(const std::vector<int32_t>& from, std::vector<int32_t>& to) {
    to.insert(to.end(), from.begin(), from.end());
  }
  void append(const Batch& b) {
    join(b.ids, packed.ids);
    join(b.targets, packed.targets);
    for (size_t d = 0; d < 2; ++d) {
      join(b.mtp_ids[d], packed.mtp_ids[d]);
      join(b.mtp_targets[d], packed.mtp_targets[d]);
    }
  }
};

// What the model says of each token of a batch: losses of the main model, then of the modules.
std::vector<double> losses_by_token(Transformer& model, const Batch& batch) {
  std::vector<double> out;
  for (size_t i = 0; i < batch.ids.size(); ++i) {
    Batch one = batch;
    const auto keep = [&](std::vector<int32_t>& targets) {
      for (size_t j = 0; j < targets.size(); ++j) targets[j] = j == i ? targets[j] : kIgnored;
    };
    keep(one.targets);
    for (auto& targets : one.mtp_targets) keep(targets);
    const Losses losses = model.evaluate(one, {});
    out.push_back(losses.main.loss_sum);
    for (const CrossEntropy& m : losses.mtp) out.push_back(m.loss_sum);
  }
  return out;
}

TEST_P(Kinds, a_masked_document_is_what_it_is_alone) {
  const PackedDocuments documents;
  std::vector<double> alone;
  for (const Batch& batch : documents.alone) {
    for (const double loss : losses_by_token(*model_, batch)) alone.push_back(loss);
  }
  EXPECT_EQ(losses_by_token(*model_, documents.packed), alone);
  Batch unmasked = documents.packed;
  unmasked.documents.clear();
  EXPECT_NE(model_->evaluate(unmasked, {}).main.loss_sum,
            model_->evaluate(documents.packed, {}).main.loss_sum);
}

TEST_P(Kinds, masked_documents_have_the_gradients_they_have_alone) {
  const PackedDocuments documents;
  const auto targets = [](const Batch& b) {
    return b.targets.size() - size_t(std::count(b.targets.begin(), b.targets.end(), kIgnored));
  };
  TrainOptions options;  // modules have other numbers of targets: their mean is not the sum's
  model_->forward_backward(documents.packed, options);
  const auto packed = gradients();
  model_->params().zero_gradients();
  for (const Batch& batch : documents.alone) {
    options.weight = double(targets(batch)) / double(targets(documents.packed));
    model_->forward_backward(batch, options);
  }
  const auto alone = gradients();
  double error = 0, norm = 0;
  for (size_t i = 0; i < packed.size(); ++i) {
    error += double(packed[i] - alone[i]) * (packed[i] - alone[i]);
    norm += double(alone[i]) * alone[i];
  }
  EXPECT_GT(norm, 0);
  EXPECT_LT(std::sqrt(error / norm), 1e-5);
}

TEST_P(Kinds, families_agree) {
  const auto tokens = some_ids(2 * 20, 7);
  std::vector<float> scalar;
  for_each_family([&] {
    model_->params().zero_gradients();
    train(tokens, 2, {.mtp_lambda = 0.3f});
    const auto now = gradients();
    if (scalar.empty()) scalar = now;
    double error = 0, norm = 0;
    for (size_t i = 0; i < now.size(); ++i) {
      error += double(now[i] - scalar[i]) * (now[i] - scalar[i]);
      norm += double(scalar[i]) * scalar[i];
    }
    EXPECT_LT(std::sqrt(error / norm), 1e-5);
  });
}

TEST_P(Kinds, what_is_saved_comes_back_bit_for_bit) {
  const fs::path folder = scratch_dir() / "model";
  save_pretrained(*model_, folder);
  ConfigWarnings warnings;
  LoadOptions options;
  options.training = true;
  const Pretrained loaded = load_pretrained(folder, options, warnings);
  const auto ids = some_ids(15, 8);
  Matrix a({15, 48}), b({15, 48});
  model_->logits(view(ids), Precision::kFp32, a);
  loaded.model->logits(view(ids), Precision::kFp32, b);
  EXPECT_TRUE(same_bits(a, b));
  EXPECT_EQ(loaded.model->mtp_depth(), model_->mtp_depth());
}

INSTANTIATE_TEST_SUITE_P(all, Kinds, testing::ValuesIn(variants()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace hadal

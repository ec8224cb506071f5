#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"

namespace hadal {

// A number that changes along a run, written as phases that follow one another. In a recipe each is
// a table with one shape and one end:
//   constant = x | linear = x | cosine = x    stays at x, or goes to x
//   from = y                                  where it begins; left out: where the last one ended,
//                                             at first 0
//   steps = n | tokens = n                    its length
//   until_steps = n | until_tokens = n        its end, counted from the beginning of the run
// A last phase that is constant needs no end; after the last one the number stays what it was.
// Tokens are those of whole rows: rows * data.sequence_length.
struct Phase {
  enum class Shape { kConstant, kLinear, kCosine };
  Shape shape = Shape::kConstant;
  double to = 0;
  std::optional<double> from = std::nullopt;
  int64_t end = 0;      // 0: none
  bool tokens = false;  // end counts tokens, else steps
  bool until = false;   // end counts from the beginning of the run, else of the phase
  bool operator==(const Phase&) const = default;
};
using Phases = std::vector<Phase>;

// From a list of tables as above and back. Error{kUsage} begins with `where` and names what is
// unknown (and the nearest key), missing, or outside [min, max].
Phases parse_phases(const Json& list, const std::string& where, double min, double max);
OrderedJson phases_json(const Phases& phases);

// Between two steps: steps done and tokens read so far.
struct Moment {
  int64_t step = 0, tokens = 0;
  bool operator==(const Moment&) const = default;
};

// A phase whose place in the run is known, in its own unit.
struct PlacedPhase {
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  Phase::Shape shape = Phase::Shape::kConstant;
  double from = 0, to = 0;
  bool tokens = false;
  int64_t begin = 0, end = kNever;

  bool over(const Moment& m) const { return position(m) >= end; }
  double at(const Moment& m) const;

 private:
  int64_t position(const Moment& m) const { return tokens ? m.tokens : m.step; }
};

// How many rows each step reads, and with that how steps and tokens go together. A pure function of
// the step, like all that follows from it: nothing to save, nothing to drift on resume.
class Rows {
 public:
  // Always so many, or what the phases say when a step begins, to the nearest whole number.
  // Error{kUsage} names batch.phases: an end before the beginning, changes in over ten million
  // steps.
  Rows(int64_t rows, int64_t sequence_length)
      : Rows(Phases{{.to = double(rows)}}, sequence_length) {}
  Rows(const Phases& phases, int64_t sequence_length);

  int64_t of(int64_t step) const;
  Moment before(int64_t step) const;
  // The first moment with at least so many tokens.
  Moment reached(int64_t tokens) const;

 private:
  // From `begin` to the next stretch, so many rows a step.
  struct Stretch {
    Moment begin;
    int64_t rows = 0;
  };
  void begin_stretch(const Moment& begin, int64_t rows);
  Moment after(const Stretch& stretch, int64_t steps) const;
  const Stretch& stretch_of(int64_t step) const;

  int64_t sequence_length_;
  std::vector<Stretch> stretches_;
};

// Phases laid down along the steps of a run.
class Curve {
 public:
  // Keeps nothing of `rows`. Error{kUsage} names `key` and the phase that ends before it begins.
  Curve(const Phases& phases, const Rows& rows, const std::string& key);

  // For the step between the two moments. It belongs to the phase in which it begins and has the
  // value that is reached when it ends: the last step of a phase has its `to`.
  double at(const Moment& begin, const Moment& end) const;

 private:
  std::vector<PlacedPhase> phases_;  // not empty
};

}  // namespace hadal

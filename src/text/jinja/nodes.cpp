#include "text/jinja/nodes.h"

#include <algorithm>

namespace hadal::jinja {
namespace {

// What is still to be done, the next on top: a node's code, an instruction, or a label's place.
struct Work {
  enum class Kind { kNode, kInstruction, kBind } kind;
  int32_t number = 0;  // of the node or label
  Instruction instruction = {};
};

class Compiler {
 public:
  Compiler(const std::vector<Node>& nodes, Builder& builder) : nodes_(nodes), builder_(builder) {}

  void run(int32_t root) {
    work_.push_back(node(root));
    while (!work_.empty()) {
      const Work work = work_.back();
      work_.pop_back();
      if (work.kind == Work::Kind::kBind) {
        builder_.bind(work.number);
      } else if (work.kind == Work::Kind::kInstruction) {
        const Instruction& i = work.instruction;
        builder_.emit(i.op, i.line, i.a, i.b);
      } else {
        const size_t before = work_.size();
        expand(nodes_[static_cast<size_t>(work.number)]);
        std::reverse(work_.begin() + static_cast<int64_t>(before), work_.end());
      }
    }
  }

 private:
  static Work node(int32_t number) { return {Work::Kind::kNode, number, {}}; }
  static Work bind(int32_t label) { return {Work::Kind::kBind, label, {}}; }
  static Work emit(Op op, int32_t line, int32_t a = 0, int32_t b = 0) {
    return {Work::Kind::kInstruction, 0, {op, a, b, line}};
  }
  void children(const Node& n) {
    for (const int32_t child : n.children) work_.push_back(node(child));
  }

  // Appends in the order in which it is to be done.
  void expand(const Node& n) {
    using Kind = Node::Kind;
    switch (n.kind) {
      case Kind::kGiven:
        return;
      case Kind::kConstant:
        return work_.push_back(emit(Op::kConstant, n.line, n.value));
      case Kind::kName:
        return work_.push_back(emit(Op::kLoad, n.line, n.value));
      case Kind::kAnd:
      case Kind::kOr:
        return short_circuit(n);
      case Kind::kConditional:
        return conditional(n);
      case Kind::kCompare:
        return comparison(n);
      default:
        break;
    }
    children(n);
    const Op op = n.kind == Kind::kAttribute                          ? Op::kAttribute
                  : n.kind == Kind::kFilter                           ? Op::kFilter
                  : n.kind == Kind::kCall                             ? Op::kCall
                  : n.kind == Kind::kTest || n.kind == Kind::kNotTest ? Op::kTest
                                                                      : n.op;
    work_.push_back(emit(op, n.line, n.value, n.extra));
    if (n.kind == Kind::kNotTest) work_.push_back(emit(Op::kNot, n.line));
  }

  void short_circuit(const Node& n) {
    const int32_t end = builder_.label();
    work_.push_back(node(n.children[0]));
    work_.push_back(
        emit(n.kind == Node::Kind::kAnd ? Op::kFalseOrPop : Op::kTrueOrPop, n.line, end));
    work_.push_back(node(n.children[1]));
    work_.push_back(bind(end));
  }

  void conditional(const Node& n) {
    const int32_t otherwise = builder_.label(), end = builder_.label();
    work_.push_back(node(n.children[1]));
    work_.push_back(emit(Op::kJumpIfFalse, n.line, otherwise));
    work_.push_back(node(n.children[0]));
    work_.push_back(emit(Op::kJump, n.line, end));
    work_.push_back(bind(otherwise));
    work_.push_back(node(n.children[2]));
    work_.push_back(bind(end));
  }

  void comparison(const Node& n) {
    const int32_t end = builder_.label();
    work_.push_back(node(n.children[0]));
    for (size_t i = 0; i < n.ops.size(); ++i) {
      work_.push_back(node(n.children[i + 1]));
      const bool last = i + 1 == n.ops.size();
      work_.push_back(last ? emit(n.ops[i], n.line)
                           : emit(Op::kChain, n.line, end, static_cast<int32_t>(n.ops[i])));
    }
    work_.push_back(bind(end));
  }

  const std::vector<Node>& nodes_;
  Builder& builder_;
  std::vector<Work> work_;
};

bool has_label(Op op) {
  switch (op) {
    case Op::kChain:
    case Op::kJump:
    case Op::kJumpIfFalse:
    case Op::kFalseOrPop:
    case Op::kTrueOrPop:
    case Op::kForNext:
    case Op::kForEnd:
    case Op::kFilterNext:
      return true;
    default:
      return false;
  }
}

}  // namespace

void compile_node(const std::vector<Node>& nodes, int32_t root, Builder& builder) {
  Compiler(nodes, builder).run(root);
}

Program Builder::finish() {
  for (Instruction& i : program_.code) {
    if (has_label(i.op)) i.a = places_[static_cast<size_t>(i.a)];
    if (i.op == Op::kDefault) i.b = places_[static_cast<size_t>(i.b)];
  }
  return std::move(program_);
}

}  // namespace hadal::jinja

#include "text/jinja/expression.h"

#include <algorithm>

#include "text/jinja/nodes.h"

namespace hadal::jinja {
namespace {

// How tightly an operator binds. Brackets bind least: nothing before them sees what is inside.
enum Level : int32_t {
  kBracket,
  kConditionalLevel,
  kOrLevel,
  kAndLevel,
  kNotLevel,
  kCompareLevel,
  kAddLevel,
  kConcatLevel,
  kMultiplyLevel,
  kPowerLevel,
  kUnaryLevel,
};

// An operator whose right side, or a bracket whose contents, are being read.
struct Pending {
  enum class Kind {
    kOperator,  // op
    kAnd,
    kOr,
    kCompare,  // op
    kUnary,    // op: kNegate, kPlus or kNot
    kIf,       // "a if b" so far
    kElse,     // "a if b else"
    kTestArg,  // the argument of "x is divisibleby 3"
    kTop,      // the expression itself, as if in brackets
    kParen,
    kList,
    kDict,
    kSubscript,
    kCall,
    kFilter,  // name; arguments are being read
    kTest,    // name
  };
  Kind kind;
  Level level;
  int32_t line;
  Op op = Op::kEnd;
  int32_t name = 0;
  bool negated = false;
  // Brackets:
  size_t base = 0;     // its operands begin here, with what is called or subscribed
  size_t first = 0;    // the others begin here
  bool comma = false;  // there was one: a tuple
  bool after = false;  // the last token was a separator: an operand may be missing
  int32_t colons = 0;  // of a subscript; of a dictionary: values so far
  std::vector<std::string> named = {};
};
using PendingKind = Pending::Kind;

struct BinaryOperator {
  std::string_view text;
  Level level;
  Op op;
};
constexpr BinaryOperator kBinary[] = {
    {"+", kAddLevel, Op::kAdd},         {"-", kAddLevel, Op::kSubtract},
    {"~", kConcatLevel, Op::kConcat},   {"*", kMultiplyLevel, Op::kMultiply},
    {"/", kMultiplyLevel, Op::kDivide}, {"//", kMultiplyLevel, Op::kFloorDivide},
    {"%", kMultiplyLevel, Op::kModulo}, {"**", kPowerLevel, Op::kPower},
    {"==", kCompareLevel, Op::kEqual},  {"!=", kCompareLevel, Op::kNotEqual},
    {"<", kCompareLevel, Op::kLess},    {"<=", kCompareLevel, Op::kLessEqual},
    {">", kCompareLevel, Op::kGreater}, {">=", kCompareLevel, Op::kGreaterEqual},
};

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, Builder& builder, ExpressionOptions options)
      : tokens_(tokens), builder_(builder), options_(options) {
    pending_.push_back({PendingKind::kTop, kBracket, tokens.peek().line});
    brackets_.push_back(0);
  }

  void run() { read_all(true); }

  // Only filters, of a value that is there already. `named`: the first without "|".
  void run_filters(bool named) {
    push({Node::Kind::kGiven, tokens_.peek().line});
    filters_only_ = true;
    read_all(named && read_filter());
  }

 private:
  enum class After { kOperand, kMore, kEnd };

  // `operand`: a value comes next.
  void read_all(bool operand) {
    for (;;) {
      if (operand) {
        operand = read_operand();
      } else {
        const After after = read_after();
        if (after == After::kEnd) break;
        operand = after == After::kOperand;
      }
    }
    finish();
  }

  Pending& bracket() { return pending_[brackets_.back()]; }
  bool at_bracket() const { return pending_.back().level == kBracket; }

  void push(Node node) {
    nodes_.push_back(std::move(node));
    operands_.push_back(static_cast<int32_t>(nodes_.size()) - 1);
  }
  int32_t pop() {
    const int32_t node = operands_.back();
    operands_.pop_back();
    return node;
  }
  std::vector<int32_t> pop_to(size_t base) {
    std::vector<int32_t> out(operands_.begin() + static_cast<int64_t>(base), operands_.end());
    operands_.resize(base);
    return out;
  }
  void push_constant(int32_t line, Value value) {
    push({Node::Kind::kConstant, line, Op::kEnd, builder_.constant(std::move(value))});
  }

  void finish() {
    reduce(kConditionalLevel);
    Pending& top = pending_.back();
    if (top.comma) {
      std::vector<int32_t> items = pop_to(0);
      const auto count = static_cast<int32_t>(items.size());
      push({Node::Kind::kCollection, top.line, Op::kTuple, count, 0, std::move(items)});
    }
    compile_node(nodes_, operands_.back(), builder_);
  }

  // Where a value is expected. Returns whether one still is.
  bool read_operand() {
    const Token& token = tokens_.peek();
    if (pending_.back().kind == PendingKind::kTestArg) return read_primary(token);
    if (at_bracket()) {
      if (ends_empty(token)) return false;
      if (is_call(bracket().kind) && !named_now_) {
        if (token.kind == TokenKind::kName && tokens_.at_operator("=", 1)) {
          bracket().named.push_back(token.text);
          tokens_.next();
          tokens_.next();
          named_now_ = true;
          return true;
        }
        if (!bracket().named.empty()) tokens_.fail("a named argument, as those before");
      }
    }
    if (token.kind == TokenKind::kName && token.text == "not") {
      if (pending_.back().level > kNotLevel) tokens_.fail("a value");
      pending_.push_back({PendingKind::kUnary, kNotLevel, tokens_.next().line, Op::kNot});
      return true;
    }
    if (tokens_.at_operator("-") || tokens_.at_operator("+")) {
      const Op op = token.text == "-" ? Op::kNegate : Op::kPlus;
      pending_.push_back({PendingKind::kUnary, kUnaryLevel, tokens_.next().line, op});
      return true;
    }
    return read_primary(token);
  }

  static bool is_call(PendingKind kind) {
    return kind == PendingKind::kCall || kind == PendingKind::kFilter || kind == PendingKind::kTest;
  }
  bool closes(const Token& token) const {
    return token.kind != TokenKind::kOperator
               ? token.kind == TokenKind::kTagEnd || token.kind == TokenKind::kPrintEnd
               : token.text == ")" || token.text == "]" || token.text == "}";
  }

  // "()", "[1,]", "[:]": a bracket or a part of it without a value. The state is then as after one.
  bool ends_empty(const Token& token) {
    Pending& b = bracket();
    if (b.kind == PendingKind::kSubscript) {
      const bool colon = tokens_.at_operator(":");
      if (!colon && !(b.colons > 0 && tokens_.at_operator("]"))) return false;
      push_constant(token.line, {None{}});
      return true;
    }
    const bool may = b.after || operands_.size() == b.first;
    if (!may || named_now_ || b.colons % 2 != 0 || !closes(token)) return false;
    if (b.kind == PendingKind::kTop && !b.comma) return false;
    b.after = true;
    return true;
  }

  bool read_primary(const Token& token) {
    named_now_ = false;
    bracket().after = false;
    filtered_ = false;
    const int32_t line = token.line;
    switch (token.kind) {
      case TokenKind::kName:
        read_name(token);
        return false;
      case TokenKind::kString: {
        std::string text;
        while (tokens_.peek().kind == TokenKind::kString) text += tokens_.next().text;
        push({Node::Kind::kConstant, line, Op::kEnd, builder_.text(text)});
        return false;
      }
      case TokenKind::kInteger:
        push_constant(line, {tokens_.next().integer});
        return false;
      case TokenKind::kFloat:
        push_constant(line, {tokens_.next().number});
        return false;
      default:
        break;
    }
    const PendingKind kind = tokens_.at_operator("(")   ? PendingKind::kParen
                             : tokens_.at_operator("[") ? PendingKind::kList
                             : tokens_.at_operator("{") ? PendingKind::kDict
                                                        : PendingKind::kTop;
    if (kind == PendingKind::kTop) tokens_.fail("a value");
    tokens_.next();
    open(kind, line);
    return true;
  }

  void read_name(const Token& token) {
    const std::string& text = token.text;
    if (text == "true" || text == "True" || text == "false" || text == "False") {
      push_constant(token.line, {text == "true" || text == "True"});
    } else if (text == "none" || text == "None") {
      push_constant(token.line, {None{}});
    } else {
      push({Node::Kind::kName, token.line, Op::kEnd, builder_.name(text)});
    }
    tokens_.next();
  }

  Pending& open(PendingKind kind, int32_t line) {
    brackets_.push_back(pending_.size());
    pending_.push_back({kind, kBracket, line});
    pending_.back().base = pending_.back().first = operands_.size();
    return pending_.back();
  }

  // After a value: what goes on with it.
  After read_after() {
    const Token& token = tokens_.peek();
    const bool missing = at_bracket() && bracket().after;  // after ends_empty there is no value
    if (!missing) {
      if (!filtered_ && !(filters_only_ && brackets_.size() == 1) &&
          (tokens_.at_operator(".") || tokens_.at_operator("["))) {
        return read_postfix(token);
      }
      if (tokens_.at_operator("(")) {
        tokens_.next();
        open(PendingKind::kCall, token.line).base = operands_.size() - 1;
        return After::kOperand;
      }
      while (pending_.back().level == kUnaryLevel) reduce_one();
      if (tokens_.skip_operator("|")) return read_filter() ? After::kOperand : After::kMore;
      if (filters_only_ && brackets_.size() == 1) return After::kEnd;
      if (tokens_.skip_name("is")) return read_test();
      if (token.kind == TokenKind::kName) return read_word(token);
      if (const auto* found =
              std::find_if(std::begin(kBinary), std::end(kBinary),
                           [&](const auto& row) { return tokens_.at_operator(row.text); });
          found != std::end(kBinary)) {
        binary(found->level, found->op);
        tokens_.next();
        return After::kOperand;
      }
    }
    return read_separator();
  }

  After read_postfix(const Token& token) {
    tokens_.next();
    if (token.text == "[") {
      open(PendingKind::kSubscript, token.line).base = operands_.size() - 1;
      return After::kOperand;
    }
    const Token& name = tokens_.peek();
    if (name.kind == TokenKind::kName) {
      const int32_t object = pop();
      push({Node::Kind::kAttribute, token.line, Op::kEnd, builder_.name(name.text), 0, {object}});
    } else if (name.kind == TokenKind::kInteger) {
      const int32_t object = pop();
      push_constant(token.line, {name.integer});
      const int32_t key = pop();
      push({Node::Kind::kOperation, token.line, Op::kItem, 0, 0, {object, key}});
    } else {
      tokens_.fail("a name or a number after '.'");
    }
    tokens_.next();
    return After::kMore;
  }

  std::string dotted_name(std::string_view what) {
    std::string name = tokens_.expect_name(what);
    while (tokens_.skip_operator(".")) name += "." + tokens_.expect_name(what);
    return name;
  }

  // Whether arguments follow.
  bool read_filter() {
    const int32_t line = tokens_.peek().line;
    const int32_t name = builder_.name(dotted_name("the name of a filter"));
    if (tokens_.skip_operator("(")) {
      Pending& b = open(PendingKind::kFilter, line);
      b.base = operands_.size() - 1;
      b.name = name;
      return true;
    }
    const int32_t value = pop();
    push({Node::Kind::kFilter, line, Op::kEnd, builder_.args({}), name, {value}});
    filtered_ = true;
    return false;
  }

  After read_test() {
    const int32_t line = tokens_.peek().line;
    const bool negated = tokens_.skip_name("not");
    const int32_t name = builder_.name(dotted_name("the name of a test"));
    Pending pending{PendingKind::kTestArg, kUnaryLevel, line};
    pending.name = name;
    pending.negated = negated;
    if (tokens_.skip_operator("(")) {
      Pending& b = open(PendingKind::kTest, line);
      b.base = operands_.size() - 1;
      b.name = name;
      b.negated = negated;
      return After::kOperand;
    }
    const Token& token = tokens_.peek();
    const bool word = token.kind == TokenKind::kName;
    if (word && token.text == "is") tokens_.fail("no second test: tests cannot be chained with is");
    const bool value = token.kind == TokenKind::kString || token.kind == TokenKind::kInteger ||
                       token.kind == TokenKind::kFloat || tokens_.at_operator("[") ||
                       tokens_.at_operator("{") ||
                       (word && token.text != "else" && token.text != "or" && token.text != "and");
    if (value) {
      pending_.push_back(pending);
      return After::kOperand;
    }
    make_test(pending, {pop()}, {});
    return After::kMore;
  }

  void make_test(const Pending& p, std::vector<int32_t> children, std::vector<std::string> named) {
    const auto positional = static_cast<int32_t>(children.size() - named.size()) - 1;
    push({p.negated ? Node::Kind::kNotTest : Node::Kind::kTest, p.line, Op::kEnd,
          builder_.args({positional, std::move(named)}), p.name, std::move(children)});
    filtered_ = true;
  }

  After read_word(const Token& token) {
    if (token.text == "and" || token.text == "or") {
      const bool both = token.text == "and";
      reduce(both ? kAndLevel : kOrLevel);
      pending_.push_back(
          {both ? PendingKind::kAnd : PendingKind::kOr, both ? kAndLevel : kOrLevel, token.line});
    } else if (token.text == "in") {
      binary(kCompareLevel, Op::kIn);
    } else if (token.text == "not" && tokens_.at_name("in", 1)) {
      binary(kCompareLevel, Op::kNotIn);
      tokens_.next();
    } else if (token.text == "if" && (brackets_.size() > 1 || options_.conditional)) {
      reduce(kOrLevel);
      if (pending_.back().kind == PendingKind::kIf) reduce_one();
      pending_.push_back({PendingKind::kIf, kConditionalLevel, token.line});
    } else if (token.text == "else") {
      reduce(kOrLevel);
      if (pending_.back().kind != PendingKind::kIf) return read_separator();
      pending_.back().kind = PendingKind::kElse;
    } else {
      return read_separator();
    }
    tokens_.next();
    return After::kOperand;
  }

  void binary(Level level, Op op) {
    const bool compare = level == kCompareLevel;
    reduce(compare ? kAddLevel : level);  // comparisons in a row are one
    pending_.push_back(
        {compare ? PendingKind::kCompare : PendingKind::kOperator, level, tokens_.peek().line, op});
  }

  // A comma, a colon, or what closes the bracket; the end of the expression where there is none.
  After read_separator() {
    reduce(kConditionalLevel);
    Pending& b = bracket();
    if (tokens_.at_operator(",") && !b.after && b.kind != PendingKind::kSubscript &&
        (b.kind != PendingKind::kTop || options_.tuple)) {
      if (b.kind == PendingKind::kDict && b.colons % 2 == 0) tokens_.fail("':' and a value");
      if (b.kind == PendingKind::kDict) ++b.colons;
      tokens_.next();
      b.comma = b.after = true;
      return After::kOperand;
    }
    if (tokens_.at_operator(":") && !b.after) {
      if ((b.kind == PendingKind::kDict && b.colons % 2 == 0) ||
          (b.kind == PendingKind::kSubscript && b.colons < 2)) {
        tokens_.next();
        ++b.colons;
        return After::kOperand;
      }
    }
    if (b.kind == PendingKind::kTop) return After::kEnd;
    const char* close = b.kind == PendingKind::kDict                                        ? "}"
                        : b.kind == PendingKind::kList || b.kind == PendingKind::kSubscript ? "]"
                                                                                            : ")";
    if (!tokens_.at_operator(close)) {
      tokens_.fail(b.kind == PendingKind::kSubscript ? std::string("']'")
                                                     : str("',' or '", close, "'"));
    }
    if (b.kind == PendingKind::kDict && !b.after && operands_.size() > b.base &&
        b.colons % 2 == 0) {
      tokens_.fail("':' and a value");
    }
    tokens_.next();
    close_bracket();
    return After::kMore;
  }

  void close_bracket() {
    const Pending b = std::move(pending_.back());
    pending_.pop_back();
    brackets_.pop_back();
    std::vector<int32_t> items = pop_to(b.base);
    const auto count = static_cast<int32_t>(items.size());
    filtered_ = false;
    switch (b.kind) {
      case PendingKind::kParen:
        if (!b.comma && count == 1) {
          operands_.push_back(items[0]);
        } else {
          push({Node::Kind::kCollection, b.line, Op::kTuple, count, 0, std::move(items)});
        }
        break;
      case PendingKind::kList:
        push({Node::Kind::kCollection, b.line, Op::kList, count, 0, std::move(items)});
        break;
      case PendingKind::kDict:
        push({Node::Kind::kCollection, b.line, Op::kDict, count / 2, 0, std::move(items)});
        break;
      case PendingKind::kSubscript:
        close_subscript(b, std::move(items));
        break;
      case PendingKind::kTest:
        make_test(b, std::move(items), b.named);
        break;
      default: {
        const auto positional = count - static_cast<int32_t>(b.named.size()) - 1;
        const bool filter = b.kind == PendingKind::kFilter;
        push({filter ? Node::Kind::kFilter : Node::Kind::kCall, b.line, Op::kEnd,
              builder_.args({positional, b.named}), b.name, std::move(items)});
        filtered_ = filter;
      }
    }
  }

  void close_subscript(const Pending& b, std::vector<int32_t> items) {
    if (b.colons == 0) {
      push({Node::Kind::kOperation, b.line, Op::kItem, 0, 0, std::move(items)});
      return;
    }
    while (items.size() < 4) {
      push_constant(b.line, {None{}});
      items.push_back(pop());
    }
    push({Node::Kind::kOperation, b.line, Op::kSlice, 0, 0, std::move(items)});
  }

  void reduce(Level level) {
    while (pending_.back().level >= level) reduce_one();
  }

  // The operator on top takes its operands.
  void reduce_one() {
    const Pending p = std::move(pending_.back());
    pending_.pop_back();
    const size_t operands = operands_.size();
    switch (p.kind) {
      case PendingKind::kUnary:
        push({Node::Kind::kOperation, p.line, p.op, 0, 0, {pop()}});
        return;
      case PendingKind::kTestArg:
        make_test(p, pop_to(operands - 2), {});
        return;
      case PendingKind::kCompare:
        reduce_comparison(p);
        return;
      case PendingKind::kIf:  // without else: undefined
        push_constant(p.line, undefined("the inline if is false and has no else"));
        push({Node::Kind::kConditional, p.line, Op::kEnd, 0, 0, pop_to(operands - 2)});
        return;
      case PendingKind::kElse:
        push({Node::Kind::kConditional, p.line, Op::kEnd, 0, 0, pop_to(operands - 3)});
        return;
      default: {
        const Node::Kind kind = p.kind == PendingKind::kAnd  ? Node::Kind::kAnd
                                : p.kind == PendingKind::kOr ? Node::Kind::kOr
                                                             : Node::Kind::kOperation;
        push({kind, p.line, p.op, 0, 0, pop_to(operands - 2)});
      }
    }
  }

  void reduce_comparison(const Pending& last) {
    std::vector<Op> ops{last.op};
    while (pending_.back().kind == PendingKind::kCompare) {
      ops.push_back(pending_.back().op);
      pending_.pop_back();
    }
    std::reverse(ops.begin(), ops.end());
    std::vector<int32_t> children = pop_to(operands_.size() - ops.size() - 1);
    push({Node::Kind::kCompare, last.line, Op::kEnd, 0, 0, std::move(children), std::move(ops)});
  }

  TokenStream& tokens_;
  Builder& builder_;
  ExpressionOptions options_;
  std::vector<Node> nodes_;
  std::vector<int32_t> operands_;
  std::vector<Pending> pending_;
  std::vector<size_t> brackets_;
  bool filtered_ = false;  // the value comes from a filter or test: no . or [ after it
  bool filters_only_ = false;
  bool named_now_ = false;  // the value of a named argument is to come
};

}  // namespace

void compile_expression(TokenStream& tokens, Builder& builder, ExpressionOptions options) {
  ExpressionParser(tokens, builder, options).run();
}

void compile_filters(TokenStream& tokens, Builder& builder) {
  ExpressionParser(tokens, builder, {false, false}).run_filters(false);
}

void compile_named_filters(TokenStream& tokens, Builder& builder) {
  ExpressionParser(tokens, builder, {false, false}).run_filters(true);
}

}  // namespace hadal::jinja

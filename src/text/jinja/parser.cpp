#include "text/jinja/parser.h"

#include "text/jinja/expression.h"
#include "text/jinja/token_stream.h"

namespace hadal::jinja {
namespace {

constexpr size_t kMaxBlocks = 100;  // one inside the other

// A block whose end has not come yet.
struct Block {
  enum class Kind { kIf, kFor, kForElse, kSet, kFilter, kWith, kGeneration, kMacro };
  Kind kind;
  int32_t line;
  int32_t next = -1;   // kIf: label of the next branch; kFor: of the next round
  int32_t end = -1;    // label
  int32_t done = -1;   // kFor: label after the else branch
  int32_t name = 0;    // kSet: of the variable
  size_t filters = 0;  // kSet, kFilter: where its filters stand among the tokens
};
using BlockKind = Block::Kind;

constexpr const char* kEnds[] = {"endif",     "endfor",  "endfor",        "endset",
                                 "endfilter", "endwith", "endgeneration", "endmacro"};

struct Target {
  std::vector<int32_t> names;
  bool tuple = false;
};

class Parser {
 public:
  Parser(std::vector<Token> tokens, const std::string& name) : tokens_(std::move(tokens), name) {}

  Program run() {
    for (;;) {
      const Token& token = tokens_.next();
      if (token.kind == TokenKind::kText) {
        builder_.emit(Op::kText, token.line, builder_.text(token.text));
      } else if (token.kind == TokenKind::kPrintBegin) {
        compile_expression(tokens_, builder_);
        builder_.emit(Op::kPrint, token.line);
        tokens_.expect(TokenKind::kPrintEnd, "an operator or }}");
      } else if (token.kind == TokenKind::kTagBegin) {
        statement();
        tokens_.expect(TokenKind::kTagEnd, "%}");
      } else {
        break;
      }
    }
    if (!blocks_.empty()) {
      tokens_.error(blocks_.back().line,
                    str("the block that begins here does not end, expected {% ",
                        end_of(blocks_.back()), " %}"));
    }
    builder_.emit(Op::kEnd, tokens_.peek().line);
    return builder_.finish();
  }

 private:
  static const char* end_of(const Block& block) { return kEnds[static_cast<size_t>(block.kind)]; }

  void emit(Op op, int32_t a = 0, int32_t b = 0) { builder_.emit(op, line_, a, b); }
  Block& open(BlockKind kind) {
    if (blocks_.size() >= kMaxBlocks) {
      tokens_.error(line_, str("blocks stand more than ", kMaxBlocks, " deep, expected fewer"));
    }
    blocks_.push_back({kind, line_});
    return blocks_.back();
  }

  void statement() {
    struct Statement {
      const char* word;
      void (Parser::*read)();
    };
    constexpr Statement kRows[] = {
        {"if", &Parser::read_if},
        {"elif", &Parser::read_elif},
        {"else", &Parser::read_else},
        {"for", &Parser::read_for},
        {"set", &Parser::read_set},
        {"macro", &Parser::read_macro},
        {"filter", &Parser::read_filter},
        {"with", &Parser::read_with},
        {"break", &Parser::read_break},
        {"continue", &Parser::read_continue},
        {"generation", &Parser::read_generation},
    };
    line_ = tokens_.peek().line;
    for (const Statement& row : kRows) {
      if (tokens_.skip_name(row.word)) return (this->*row.read)();
    }
    if (!blocks_.empty() && tokens_.skip_name(end_of(blocks_.back()))) return end_block();
    std::string expected = "a statement: if, for, set, macro, filter, with, break, continue";
    if (!blocks_.empty()) expected = str(end_of(blocks_.back()), ", or ", expected);
    tokens_.fail(expected);
  }

  void condition(int32_t otherwise) {
    compile_expression(tokens_, builder_, {.conditional = false});
    emit(Op::kJumpIfFalse, otherwise);
  }

  void read_if() {
    Block& block = open(BlockKind::kIf);
    block.next = builder_.label();
    block.end = builder_.label();
    condition(block.next);
  }

  // Ends the branch before; the next one begins here.
  Block& branch() {
    if (blocks_.empty() || blocks_.back().kind != BlockKind::kIf || blocks_.back().next < 0) {
      tokens_.error(line_, "found a branch outside of if, expected {% if ... %} before");
    }
    Block& block = blocks_.back();
    emit(Op::kJump, block.end);
    builder_.bind(block.next);
    return block;
  }

  void read_elif() {
    Block& block = branch();
    block.next = builder_.label();
    condition(block.next);
  }

  void read_else() {
    if (!blocks_.empty() && blocks_.back().kind == BlockKind::kFor) {
      end_loop(blocks_.back());
      blocks_.back().kind = BlockKind::kForElse;
      return;
    }
    branch().next = -1;
  }

  // A name, or several with or without brackets around them.
  Target read_target() {
    Target target;
    const bool bracket = tokens_.skip_operator("(");
    target.tuple = bracket;
    do {
      if (!target.names.empty() && tokens_.peek().kind != TokenKind::kName) break;  // "a, in"
      target.names.push_back(read_variable());
      if (tokens_.at_operator(",")) target.tuple = true;
    } while (!tokens_.at_name("in") && tokens_.skip_operator(",") && !tokens_.at_name("in"));
    if (bracket) tokens_.expect_operator(")");
    return target;
  }

  int32_t read_variable() {
    for (const char* word : {"true", "false", "none", "True", "False", "None", "not", "and", "or",
                             "if", "else", "in", "is"}) {
      if (tokens_.at_name(word)) tokens_.fail("the name of a variable");
    }
    return builder_.name(tokens_.expect_name("the name of a variable"));
  }

  void store(const Target& target) {
    if (target.tuple) emit(Op::kUnpack, static_cast<int32_t>(target.names.size()));
    for (const int32_t name : target.names) emit(Op::kStore, name);
  }

  void read_for() {
    open(BlockKind::kFor);
    const Target target = read_target();
    if (!tokens_.skip_name("in")) tokens_.fail("in");
    compile_expression(tokens_, builder_, {.conditional = false});
    if (tokens_.skip_name("if")) {
      const int32_t next = builder_.label(), end = builder_.label();
      emit(Op::kFilterBegin);
      builder_.bind(next);
      emit(Op::kFilterNext, end);
      store(target);
      compile_expression(tokens_, builder_, {.tuple = false});
      emit(Op::kFilterKeep);
      emit(Op::kJump, next);
      builder_.bind(end);
      emit(Op::kFilterEnd);
    }
    if (tokens_.at_name("recursive")) {
      tokens_.fail("%}: recursive loops are not supported");
    }
    Block& block = blocks_.back();
    block.next = builder_.label();
    block.end = builder_.label();
    block.done = builder_.label();
    emit(Op::kForBegin);
    builder_.bind(block.next);
    emit(Op::kForNext, block.end);
    store(target);
  }

  void end_loop(const Block& block) {
    emit(Op::kJump, block.next);
    builder_.bind(block.end);
    emit(Op::kForEnd, block.done);
  }

  void read_set() {
    if (tokens_.peek(1).kind == TokenKind::kOperator && tokens_.at_operator(".", 1)) {
      const int32_t object = read_variable();
      tokens_.next();
      const int32_t field = builder_.name(tokens_.expect_name("the name of a field"));
      tokens_.expect_operator("=");
      compile_expression(tokens_, builder_);
      emit(Op::kStoreField, object, field);
      return;
    }
    const Target target = read_target();
    if (tokens_.skip_operator("=")) {
      compile_expression(tokens_, builder_);
      store(target);
      return;
    }
    if (target.tuple) tokens_.fail("'='");
    Block& block = open(BlockKind::kSet);
    block.name = target.names[0];
    begin_capture(block, false);
  }

  void read_filter() { begin_capture(open(BlockKind::kFilter), true); }

  // The filters stand in the tag that begins the block and run when it ends.
  void begin_capture(Block& block, bool named) {
    block.filters = tokens_.place();
    Builder unused;
    if (named) {
      compile_named_filters(tokens_, unused);
    } else {
      compile_filters(tokens_, unused);
    }
    emit(Op::kScopeBegin);
    emit(Op::kCaptureBegin);
  }

  void end_capture(const Block& block) {
    emit(Op::kCaptureEnd);
    emit(Op::kScopeEnd);
    const size_t place = tokens_.place();
    tokens_.go_to(block.filters);
    if (block.kind == BlockKind::kFilter) {
      compile_named_filters(tokens_, builder_);
      emit(Op::kPrint);
    } else {
      compile_filters(tokens_, builder_);
      emit(Op::kStore, block.name);
    }
    tokens_.go_to(place);
  }

  void read_with() {
    open(BlockKind::kWith);
    std::vector<int32_t> names;
    while (tokens_.peek().kind != TokenKind::kTagEnd) {
      if (!names.empty()) tokens_.expect_operator(",");
      names.push_back(read_variable());
      tokens_.expect_operator("=");
      compile_expression(tokens_, builder_, {.tuple = false});
    }
    emit(Op::kScopeBegin);
    while (!names.empty()) {
      emit(Op::kStore, names.back());
      names.pop_back();
    }
  }

  // What the marker is for, masks of training, does not change the text.
  void read_generation() {
    open(BlockKind::kGeneration);
    emit(Op::kScopeBegin);
  }

  void read_macro() {
    for (const Block& outer : blocks_) {
      if (outer.kind != BlockKind::kIf) {
        tokens_.error(line_, "a macro inside of another block, expected it at the top or in an if");
      }
    }
    Block& block = open(BlockKind::kMacro);
    block.end = builder_.label();
    Macro macro;
    macro.name = tokens_.expect_name("the name of the macro");
    const int32_t name = builder_.name(macro.name);
    tokens_.expect_operator("(");
    // The code of the defaults comes first in the macro.
    const int32_t number = builder_.macro(macro);
    emit(Op::kMacro, number, name);
    emit(Op::kJump, block.end);
    macro.entry = builder_.here();
    while (!tokens_.at_operator(")")) {
      if (!macro.parameters.empty()) tokens_.expect_operator(",");
      const auto index = static_cast<int32_t>(macro.parameters.size());
      macro.parameters.push_back(read_variable());
      if (!tokens_.skip_operator("=")) continue;
      const int32_t given = builder_.label();
      emit(Op::kDefault, index, given);
      compile_expression(tokens_, builder_, {.tuple = false});
      emit(Op::kStore, macro.parameters.back());
      builder_.bind(given);
    }
    tokens_.next();
    builder_.set_macro(number, std::move(macro));
  }

  // Closes what stands between here and the innermost loop, and returns that.
  const Block& leave_to_loop(const char* word) {
    for (size_t i = blocks_.size(); i-- > 0;) {
      switch (blocks_[i].kind) {
        case BlockKind::kFor:
          return blocks_[i];
        case BlockKind::kSet:
        case BlockKind::kFilter:
          emit(Op::kCaptureDrop);
          emit(Op::kScopeEnd);
          break;
        case BlockKind::kWith:
        case BlockKind::kGeneration:
          emit(Op::kScopeEnd);
          break;
        case BlockKind::kMacro:
          i = 0;
          break;
        default:
          break;
      }
    }
    tokens_.error(line_, str("found ", word, " outside of a loop, expected {% for ... %} before"));
  }
  void read_break() { emit(Op::kJump, leave_to_loop("break").end); }
  void read_continue() { emit(Op::kJump, leave_to_loop("continue").next); }

  void end_block() {
    const Block block = blocks_.back();
    blocks_.pop_back();
    switch (block.kind) {
      case BlockKind::kIf:
        if (block.next >= 0) builder_.bind(block.next);
        builder_.bind(block.end);
        break;
      case BlockKind::kFor:
        end_loop(block);
        builder_.bind(block.done);
        break;
      case BlockKind::kForElse:
        builder_.bind(block.done);
        break;
      case BlockKind::kSet:
      case BlockKind::kFilter:
        end_capture(block);
        break;
      case BlockKind::kMacro:
        emit(Op::kReturn);
        builder_.bind(block.end);
        break;
      default:
        emit(Op::kScopeEnd);
    }
  }

  TokenStream tokens_;
  Builder builder_;
  std::vector<Block> blocks_;
  int32_t line_ = 1;
};

}  // namespace

Program compile_template(std::string_view source, const std::string& name) {
  return Parser(tokenize(source, name), name).run();
}

}  // namespace hadal::jinja

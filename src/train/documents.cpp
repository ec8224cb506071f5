// Reading text files: plain or zstd-compressed, whole or a JSON object a line.
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "core/json.h"
#include "text/utf8.h"
#include "train/data.h"

namespace hadal {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr size_t kMaxDocument = size_t{1} << 30;  // bytes

using Sink = std::function<void(std::string_view)>;
using Count = std::function<void(int64_t)>;

// The file's bytes in pieces.
void read_pieces(const InputFile& file, const Count& on_bytes, const Sink& sink) {
  std::string piece;
  for (int64_t at = 0; at < file.size();) {
    piece.resize(std::min(kPiece, static_cast<size_t>(file.size() - at)));
    file.read_at(at, std::as_writable_bytes(std::span(piece.data(), piece.size())));
    at += static_cast<int64_t>(piece.size());
    if (on_bytes) on_bytes(static_cast<int64_t>(piece.size()));
    sink(piece);
  }
}

// The same, decompressed: any number of frames.
void read_zstd(const InputFile& file, const Count& on_bytes, const Sink& sink) {
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  const std::unique_ptr<ZSTD_DCtx, Free> context(ZSTD_createDCtx());
  HADAL_CHECK(context != nullptr, kResource, "no memory to decompress ", file.path().string());
  std::string out(ZSTD_DStreamOutSize(), '\0');
  size_t state = 0;  // 0: at the end of a frame
  read_pieces(file, on_bytes, [&](std::string_view piece) {
    ZSTD_inBuffer in{piece.data(), piece.size(), 0};
    bool full = true;  // the last call filled `out`: more may be waiting inside
    while (in.pos < in.size || full) {
      ZSTD_outBuffer to{out.data(), out.size(), 0};
      state = ZSTD_decompressStream(context.get(), &to, &in);
      HADAL_CHECK(ZSTD_isError(state) == 0, kFormat, file.path().string(),
                  ": not zstd, or damaged: ", ZSTD_getErrorName(state));
      full = to.pos == to.size;
      if (to.pos > 0) sink({out.data(), to.pos});
      if (state == 0 && in.pos == in.size) break;
    }
  });
  HADAL_CHECK(state == 0, kFormat, file.path().string(), ": ends in the middle of a zstd frame");
}

// Splits pieces into lines and takes "text" of each.
class Lines {
 public:
  Lines(std::string name, const Sink& sink) : name_(std::move(name)), sink_(sink) {}

  void push(std::string_view piece) {
    for (size_t end = piece.find('\n'); end != std::string_view::npos; end = piece.find('\n')) {
      rest_.append(piece.substr(0, end));
      line();
      piece.remove_prefix(end + 1);
    }
    rest_.append(piece);
    HADAL_CHECK(rest_.size() <= kMaxDocument, kFormat, name_, ":", number_ + 1,
                ": the line is longer than ", kMaxDocument, " bytes");
  }
  void finish() {
    if (!rest_.empty()) line();
  }

 private:
  void line() {
    ++number_;
    if (rest_.find_first_not_of(" \t\r") != std::string::npos) {
      const std::string where = str(name_, ":", number_);
      const Json object = parse_json(rest_, where);
      const auto text = json_object(object, where).find("text");
      HADAL_CHECK(text != object.end(), kFormat, where, ": the object has no key \"text\"");
      sink_(json_string(*text, where + ": text"));
    }
    rest_.clear();
  }

  std::string name_;
  const Sink& sink_;
  std::string rest_;
  int64_t number_ = 0;
};

// Where text stops being text: at a zero byte, or at one that is not UTF-8.
void check_text(std::string_view text, const std::string& name) {
  const size_t zero = text.find('\0');
  HADAL_CHECK(zero == std::string_view::npos, kFormat, name, ": byte ", zero,
              " is 0: a binary file, not text");
  if (is_utf8(text)) return;
  size_t at = 0;
  for (Utf8Unit unit; at < text.size(); at += unit.length) {
    unit = decode_utf8(text.substr(at));
    HADAL_CHECK(unit.valid, kFormat, name, ": byte ", at, " is not UTF-8: not a text file");
  }
}

}  // namespace

void read_documents(const fs::path& path, const Sink& fn, const Count& on_bytes) {
  const bool packed = path.extension() == ".zst";
  const std::string kind = (packed ? path.stem() : path).extension().string();
  HADAL_CHECK(kind == ".txt" || kind == ".jsonl", kUsage, path.string(),
              ": the name of a text file ends in .txt, .jsonl, .txt.zst or .jsonl.zst");
  const InputFile file(path);
  HADAL_CHECK(file.size() > 0, kFormat, path.string(), " is empty");
  const auto read = [&](const Sink& sink) {
    return packed ? read_zstd(file, on_bytes, sink) : read_pieces(file, on_bytes, sink);
  };
  bool any = false;
  if (kind == ".jsonl") {
    const Sink noted = [&](std::string_view document) {
      any = true;
      fn(document);
    };
    Lines lines(path.string(), noted);
    read([&](std::string_view piece) { lines.push(piece); });
    lines.finish();
  } else {
    std::string whole;
    read([&](std::string_view piece) {
      whole += piece;
      HADAL_CHECK(whole.size() <= kMaxDocument, kFormat, path.string(), ": longer than ",
                  kMaxDocument, " bytes, expected .jsonl for so much text");
    });
    check_text(whole, path.string());
    any = !whole.empty();
    if (any) fn(whole);
  }
  HADAL_CHECK(any, kFormat, path.string(), " holds no text");
}

}  // namespace hadal

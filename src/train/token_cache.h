#pragma once
#include <functional>
#include <span>
#include <string>

#include "core/files.h"
#include "text/tokenizer.h"
#include "train/data.h"

namespace hadal {

// How far tokenising is, told every few megabytes of text.
struct TokenizeProgress {
  fs::path file;                       // being read
  int64_t bytes = 0, total_bytes = 0;  // of all files as they are on the disk, compressed or not
  int64_t tokens = 0;
};
using TokenizeWatch = std::function<void(const TokenizeProgress&)>;

// Documents as ids: BOS in front if the tokenizer adds one, EOS behind every one (Error{kConfig} if
// the tokenizer has no EOS). Text that looks like special tokens is ordinary text. Documents are
// encoded by all threads; the result does not depend on their number.
TokenDocuments tokenize_documents(const Tokenizer& tokenizer,
                                  std::span<const std::string> documents);

// The documents of `files`, tokenised once: FOLDER/KEY.tokens is mapped if it is there, and made if
// it is not. KEY is the hash of what the ids depend on: the files' contents (not their names or
// dates), the tokenizer's file and what it puts around a document, and the version of this format.
// While it is made, memory holds a round of text and a number a document.
//
//   0   8  "hadaltok"      24  8  documents            40  8  xxh64 of ids, ends, bytes [0, 40)
//   8   8  version         32  8  tokens               48 16  zero
//   16  8  key             64     int32 ids, zeros up to a multiple of 8, int64 ends
//
// The file appears whole or not at all (AtomicFile). One that is damaged, or not what its name
// says, is made anew, and a warning says so: its hash is checked whenever it is opened.
TokenStore cached_tokens(const Tokenizer& tokenizer, const fs::path& tokenizer_path,
                         std::span<const fs::path> files, const fs::path& folder,
                         const TokenizeWatch& watch = {});

// $XDG_CACHE_HOME/hadal, else $HOME/.cache/hadal, as the XDG base directories have it.
// Error{kUsage} when neither is set.
fs::path default_token_cache();

}  // namespace hadal

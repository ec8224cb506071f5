#pragma once
#include <string>

#include "core/files.h"
#include "core/json.h"

namespace hadal {

// manifest.json of a folder: size and hash of every other file, facts of the caller's, and a hash
// of itself. It is written last, so a folder that has one was written whole.

// Lists the files of the folder as they are on the disk now.
void write_manifest(const fs::path& folder, const OrderedJson& facts);

// The facts, after a look at the manifest alone. Error{kFormat} if it is damaged or of another
// version, which says so. Error{kIo} if it cannot be read.
Json read_manifest(const fs::path& folder);

// The facts, if every file has its size and hash: it reads them all. Errors as read_manifest; they
// name the first file that is not what it was.
Json check_manifest(const fs::path& folder);

// The manifest is in order and says that another version of this program wrote the folder.
bool of_another_version(const fs::path& folder);

}  // namespace hadal

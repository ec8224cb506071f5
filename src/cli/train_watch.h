#pragma once
#include "train/run.h"

namespace hadal {

// Gives a run what training may not include: the peak of this machine's arithmetic, measured now in
// a fraction of a second, and a generator for the texts along the way.
void watch_run(TrainRun& run);

}  // namespace hadal

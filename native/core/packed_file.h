// A file with all weights as a backend packs them, written once and mapped by later loads: those read nothing but
// what passes reach. Its bytes: docs/FORMATS.md. What the header says is the business of lib/weight-cache.ts.
#pragma once
#include <string>

#include "mapped_file.h"
#include "model.h"

namespace poc {

constexpr unsigned kPackedVersion = 1;  // of the order of the weights, and of what a backend makes of each
constexpr size_t kPackedHeaderBytes = 4096;
constexpr size_t kPackedAlignment = 64;  // of every weight, counted from the file's start

// Packs all weights of `source`, one at a time, into a new file at `path`, its header zeros. Returns why the file
// could not be written, "" when it was; throws what packing throws. A file may be left behind in either case.
std::string write_packed_file(const std::string& path, Backend& backend, const Config& config,
                              const TensorSource& source, const std::atomic<bool>& cancelled,
                              std::atomic<size_t>& loaded);

// Maps such a file. `shapes`: as its source, but data is not looked at. Throws FILE_NOT_FOUND, MODEL_MALFORMED
// when the size is another or the file does not begin with `header`, INVALID_ARGUMENT when the budget is too small.
// The backend's packed layout must be one of host memory.
Weights map_packed_file(const std::string& path, const std::string& header, const Backend& backend,
                        const Config& config, const TensorSource& shapes, size_t budget_bytes = kNoBudget);

}  // namespace poc

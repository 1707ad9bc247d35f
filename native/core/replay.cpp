#include "replay.h"

#include <algorithm>
#include <deque>
#include <limits>

#include "error.h"
#include "spread.h"

namespace poc {
namespace {

constexpr size_t kLogitBytes = size_t{1} << 25;  // of one chunk
constexpr size_t kMostRows = 256;

// Logits of some of the rows, on their way to the host.
struct Chunk {
  size_t first, rows;
  std::shared_ptr<Buffer> logits;
  std::unique_ptr<Download> download;
};

class Replayer {
 public:
  Replayer(const Model& model, Ops& ops, Rows hidden, const Replay& claimed, const std::atomic<bool>& cancelled)
      : model_(model),
        ops_(ops),
        hidden_(hidden),
        claimed_(claimed),
        cancelled_(cancelled),
        stride_(model.backend->row_stride(model.config.vocab_size)),
        chunk_rows_(
            std::min({kMostRows, claimed.rows.size(), std::max<size_t>(1, kLogitBytes / (stride_ * sizeof(float)))})) {
    Backend& backend = *model.backend;
    rows_ = backend.upload(claimed.rows.data(), claimed.rows.size() * sizeof(uint32_t));
    gathered_ = backend.allocate(chunk_rows_ * hidden.stride * sizeof(float));
  }

  void run(double* out) {
    std::deque<Chunk> queued;
    for (size_t next = 0; next < claimed_.rows.size() || !queued.empty();) {
      // A device that works on its own has the next chunk to do while this one is looked at.
      while (queued.size() <= ops_.layers_ahead() && next < claimed_.rows.size()) {
        queued.push_back(compute(next));
        next += queued.back().rows;
      }
      look_at(queued.front(), out);
      free_.push_back(queued.front().logits);
      queued.pop_front();
    }
  }

 private:
  Chunk compute(size_t first) {
    Chunk chunk{first, std::min(chunk_rows_, claimed_.rows.size() - first), take_memory(), nullptr};
    const Rows x{static_cast<float*>(gathered_->data()), chunk.rows, hidden_.cols, hidden_.stride};
    ops_.gather(hidden_, static_cast<const uint32_t*>(rows_->data()) + first, x);
    ops_.matmul(x, model_.weights.head,
                {static_cast<float*>(chunk.logits->data()), chunk.rows, model_.config.vocab_size, stride_});
    chunk.download = ops_.download(chunk.logits, chunk.rows * stride_ * sizeof(float));
    return chunk;
  }

  std::shared_ptr<Buffer> take_memory() {
    if (free_.empty()) return model_.backend->allocate(chunk_rows_ * stride_ * sizeof(float));
    std::shared_ptr<Buffer> memory = std::move(free_.back());
    free_.pop_back();
    return memory;
  }

  void look_at(const Chunk& chunk, double* out) const {
    const auto* logits = static_cast<const float*>(chunk.download->wait());
    spread(chunk.rows, 1, model_.backend->host_threads(), [&](size_t first, size_t last) {
      for (size_t row = first; row < last; ++row) {
        if (cancelled_) throw Cancelled();
        look_at_row(logits + row * stride_, chunk.first + row, out + (chunk.first + row) * kReplayValues);
      }
    });
  }

  void look_at_row(const float* logits, size_t i, double* out) const {
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    const size_t vocab = model_.config.vocab_size;
    std::fill(out, out + kReplayValues, kNone);
    out[0] = -1;
    if (claimed_.sampling) {
      const Choice choice = choose(logits, vocab, *claimed_.sampling, claimed_.positions[i], claimed_.tokens[i]);
      out[0] = choice.id;
      out[1] = choice.gap;
    }
    if (claimed_.surprise) out[2] = token_surprise(logits, vocab, claimed_.tokens[i]);
  }

  const Model& model_;
  Ops& ops_;
  const Rows hidden_;
  const Replay& claimed_;
  const std::atomic<bool>& cancelled_;
  const size_t stride_, chunk_rows_;
  std::unique_ptr<Buffer> rows_, gathered_;
  std::vector<std::shared_ptr<Buffer>> free_;
};

}  // namespace

void replay(const Model& model, Ops& ops, Rows hidden, const Replay& claimed, const std::atomic<bool>& cancelled,
            double* out) {
  if (claimed.rows.empty()) return;
  Replayer(model, ops, hidden, claimed, cancelled).run(out);
}

}  // namespace poc

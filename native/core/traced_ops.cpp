#include "traced_ops.h"

#include <algorithm>

#include "error.h"
#include "prefill.h"
#include "sha256.h"

namespace poc {
namespace {

enum class Op { embed, input, rmsnorm, matmul, rope_kv, attention, swiglu, add };

struct Event {
  Op op;
  TracedOp row;
};

TracedOp digest_of(const void* row, size_t bytes) {
  constexpr char kTag[] = "proof-of-cache/v1/trace";  // with its zero byte
  TracedOp traced = {};
  Sha256().update(kTag, sizeof kTag).update(row, bytes).finish(traced.digest);
  return traced;
}

// Ops that note the last row of what each one gives, which is the traced position's in the last call of its kind.
class TracedOps : public Ops {
 public:
  explicit TracedOps(std::unique_ptr<Ops> inner) : inner_(std::move(inner)) {}

  // What was noted since the last call.
  std::vector<Event> take_events() { return std::move(events_); }

  void embed(const Matrix& table, const uint32_t* tokens, Rows out) override {
    inner_->embed(table, tokens, out);
    note(Op::embed, out);
  }
  void gather(Rows x, const uint32_t* rows, Rows out) override { inner_->gather(x, rows, out); }
  void rope_table(const Vector& frequencies, const uint32_t* positions, size_t num_positions, float* cosines,
                  float* sines) override {
    inner_->rope_table(frequencies, positions, num_positions, cosines, sines);
  }
  void rmsnorm(Rows x, const float* weight, float eps, Rows out) override {
    note(Op::input, x);
    inner_->rmsnorm(x, weight, eps, out);
    note(Op::rmsnorm, out);
  }
  void matmul(Rows x, const Matrix& w, Rows out) override {
    inner_->matmul(x, w, out);
    note(Op::matmul, out);
  }
  void rope_kv(const RopeKvArgs& args) override {
    inner_->rope_kv(args);
    if (args.q.data) return note(Op::rope_kv, args.q);
    const int32_t sample = args.samples ? args.samples[args.k.rows - 1] : -1;
    if (sample < 0) return;  // another layer's
    const size_t bytes = args.cache.row_bytes(), at = static_cast<size_t>(sample) * bytes;
    events_.push_back({Op::rope_kv, digest_of(static_cast<const char*>(args.sampled_k) + at, bytes)});
    events_.push_back({Op::rope_kv, digest_of(static_cast<const char*>(args.sampled_v) + at, bytes)});
  }
  void attention(const AttentionArgs& args) override {
    inner_->attention(args);
    note(Op::attention, args.out);
  }
  void swiglu(Rows gate, Rows up) override {
    inner_->swiglu(gate, up);
    note(Op::swiglu, gate);
  }
  void add(Rows x, Rows y) override {
    inner_->add(x, y);
    note(Op::add, x);
  }
  void extract(const KvView& cache, const uint32_t* positions, size_t num_positions, void* k, void* v) override {
    inner_->extract(cache, positions, num_positions, k, v);
  }
  std::unique_ptr<Download> download(std::shared_ptr<Buffer> buffer, size_t bytes) override {
    return inner_->download(std::move(buffer), bytes);
  }
  size_t layers_ahead() const override { return inner_->layers_ahead(); }

 private:
  void note(Op op, Rows out) {
    events_.push_back({op, digest_of(out.data + (out.rows - 1) * out.stride, out.cols * sizeof(float))});
  }

  std::unique_ptr<Ops> inner_;
  std::vector<Event> events_;
};

// What the layer loop calls, one after another; a name of null leaves out what another op has given.
struct Step {
  Op op;
  const char* name;
};
using Steps = std::vector<Step>;

const Steps kEmbed = {{Op::embed, "embed"}};
const Steps kBlock = {{Op::input, "input"},       {Op::rmsnorm, "input_norm"},  {Op::matmul, "q"},
                      {Op::rope_kv, "rope_q"},    {Op::attention, "attention"}, {Op::matmul, "o"},
                      {Op::add, "add_attention"}, {Op::input, nullptr},         {Op::rmsnorm, "post_norm"},
                      {Op::matmul, "gate"},       {Op::matmul, "up"},           {Op::swiglu, "swiglu"},
                      {Op::matmul, "down"},       {Op::add, "add_mlp"}};
const Steps kLeaf = {{Op::input, nullptr}, {Op::rmsnorm, "next_norm"}, {Op::matmul, "k"},
                     {Op::matmul, "v"},    {Op::rope_kv, "rope_k"},    {Op::rope_kv, "v_row"}};
const Steps kFinal = {{Op::input, nullptr}, {Op::rmsnorm, "final_norm"}};

// The last events, which are those of `steps`.
std::vector<TracedOp> named(const std::vector<Event>& events, const Steps& steps) {
  std::vector<TracedOp> out;
  const size_t first = events.size() - std::min(events.size(), steps.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    if (first + i >= events.size() || events[first + i].op != steps[i].op)
      throw Error("INTERNAL", "The layer loop has other steps than its trace");
    if (!steps[i].name) continue;
    out.push_back(events[first + i].row);
    out.back().op = steps[i].name;
  }
  return out;
}

}  // namespace

std::vector<TracedOp> trace(const Model& model, Dtype kv_dtype, const std::vector<uint32_t>& tokens, size_t layer,
                            size_t position, size_t chunk_size, const std::atomic<bool>& cancelled) {
  TracedOps ops(model.backend->ops(cancelled));
  if (ops.layers_ahead() > 0)
    throw Error("BACKEND_UNAVAILABLE", "Only the CPU backend traces its ops", "backend", "cpu", "another one");
  const std::vector<uint32_t> needed(tokens.begin(), tokens.begin() + static_cast<long>(position + 1));
  const SampleRequest leaf{{static_cast<uint32_t>(layer)}, {{static_cast<uint32_t>(position)}}};
  KvCache cache(model, kv_dtype, needed.size(), 1);
  Prefill pass(model, ops, cache, {{needed, leaf}}, chunk_size, cancelled);
  std::vector<Event> events = ops.take_events();
  std::vector<TracedOp> traced = layer == 0 ? named(events, kEmbed) : std::vector<TracedOp>();
  for (size_t reached = 0; reached <= layer; ++reached) {
    ops.take_events();
    pass.next();
  }
  Steps steps = layer == 0 ? Steps() : kBlock;
  const Steps& end = layer == model.config.num_layers ? kFinal : kLeaf;
  steps.insert(steps.end(), end.begin(), end.end());
  const std::vector<TracedOp> rest = named(ops.take_events(), steps);
  traced.insert(traced.end(), rest.begin(), rest.end());
  return traced;
}

}  // namespace poc

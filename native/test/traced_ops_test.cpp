// Traces of single leaves: digests of what passes and extraction give, and the first op that differs where a weight
// does.
#include "../core/traced_ops.h"

#include "../core/sha256.h"
#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};
const std::vector<std::string> kBlock = {"input",  "input_norm",    "q",         "rope_q", "attention",
                                         "o",      "add_attention", "post_norm", "gate",   "up",
                                         "swiglu", "down",          "add_mlp"};

std::vector<std::string> names(const std::vector<TracedOp>& ops) {
  std::vector<std::string> out;
  for (const TracedOp& one : ops) out.emplace_back(one.op);
  return out;
}

bool equal(const TracedOp& a, const TracedOp& b) {
  return !strcmp(a.op, b.op) && !memcmp(a.digest, b.digest, kDigestBytes);
}

bool is_of(const TracedOp& traced, const uint8_t* row, size_t bytes) {
  uint8_t digest[kDigestBytes];
  const std::string tag = "proof-of-cache/v1/trace";
  Sha256().update(tag.c_str(), tag.size() + 1).update(row, bytes).finish(digest);
  return !memcmp(digest, traced.digest, kDigestBytes);
}

// The first op of two traces whose digests differ.
std::string first_difference(const std::vector<TracedOp>& a, const std::vector<TracedOp>& b) {
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    if (!equal(a[i], b[i])) return a[i].op;
  return a.size() == b.size() ? "none" : "length";
}

void a_trace_ends_in_what_is_sampled() {
  for (const RandomModel& m : random_models()) {
    const auto model = m.load(2, "auto");
    const std::vector<uint32_t> tokens = m.tokens(21);
    const PassResult full = whole_pass(model, m.kv, tokens, 64);
    for (size_t layer = 0; layer <= m.config.num_layers; ++layer)
      for (const size_t position : {0, 7, 20}) {
        const std::string what = text(m.name, " ", layer, " ", position);
        const auto ops = trace(*model, m.kv, tokens, layer, position, 64, never);
        const bool final = layer == m.config.num_layers;
        std::vector<std::string> expected = layer == 0 ? std::vector<std::string>{"embed"} : kBlock;
        const std::vector<std::string> end = {"next_norm", "k", "v", "rope_k", "v_row"};
        if (final)
          expected.push_back("final_norm");
        else
          expected.insert(expected.end(), end.begin(), end.end());
        CHECK(names(ops) == expected, what);
        if (final) {
          CHECK(is_of(ops.back(), full.hidden.data() + position * full.hidden_bytes, full.hidden_bytes), what);
        } else {
          const size_t row = full.row_bytes;
          CHECK(is_of(ops[ops.size() - 2], full.k[layer].data() + position * row, row), what);
          CHECK(is_of(ops.back(), full.v[layer].data() + position * row, row), what);
        }
        for (const size_t chunk : {1, 3, 7}) {
          const auto chunked = trace(*model, m.kv, tokens, layer, position, chunk, never);
          CHECK(first_difference(ops, chunked) == "none", what, " by ", chunk);
        }
      }
  }
}

// What one block gives is what the next one is given.
void traces_of_neighbours_meet() {
  const RandomModel m = random_models()[0];
  const auto model = m.load(2, "auto");
  const std::vector<uint32_t> tokens = m.tokens(9);
  TracedOp before = trace(*model, m.kv, tokens, 0, 8, 64, never)[0];
  for (size_t layer = 1; layer <= m.config.num_layers; ++layer) {
    const auto ops = trace(*model, m.kv, tokens, layer, 8, 64, never);
    CHECK(!memcmp(before.digest, ops[0].digest, kDigestBytes), layer);
    before = ops[12];
    CHECK(before.op == std::string("add_mlp"));
  }
}

// Of two machines one has another weight: the op that reads it is named.
void the_op_that_differs_is_named() {
  const RandomModel m = random_models()[2];  // with biases
  const auto model = m.load(2, "auto");
  const std::vector<uint32_t> tokens = m.tokens(12);
  const std::string block = "model.layers.1.", next = "model.layers.2.";
  const std::pair<std::string, std::string> cases[] = {
      {block + "input_layernorm.weight", "input_norm"}, {block + "self_attn.q_proj.weight", "q"},
      {block + "self_attn.q_proj.bias", "rope_q"},      {block + "self_attn.v_proj.weight", "attention"},
      {block + "self_attn.o_proj.weight", "o"},         {block + "post_attention_layernorm.weight", "post_norm"},
      {block + "mlp.gate_proj.weight", "gate"},         {block + "mlp.up_proj.weight", "up"},
      {block + "mlp.down_proj.weight", "down"},         {"model.layers.0.mlp.down_proj.weight", "input"},
      {next + "input_layernorm.weight", "next_norm"},   {next + "self_attn.k_proj.weight", "k"},
      {next + "self_attn.v_proj.weight", "v"},          {next + "self_attn.k_proj.bias", "rope_k"},
      {next + "self_attn.v_proj.bias", "v_row"},        {next + "mlp.up_proj.weight", "none"}};
  const auto honest = trace(*model, m.kv, tokens, 2, 11, 64, never);
  for (const auto& [tensor, op] : cases) {
    RandomModel other = m;
    RandomModel::Stored& stored = other.tensors[tensor];
    for (size_t at = stored.offset + 1; at < stored.bytes.size(); at += 2) stored.bytes[at] ^= 0x80;  // every sign
    const auto traced = trace(*other.load(2, "auto"), m.kv, tokens, 2, 11, 64, never);
    CHECK(first_difference(honest, traced) == op, tensor, ": ", first_difference(honest, traced));
  }
}

void a_trace_can_be_stopped() {
  const RandomModel m = random_models()[0];
  const std::atomic<bool> stopped{true};
  CHECK(error_of([&] { trace(*m.load(2, "auto"), m.kv, m.tokens(9), 2, 8, 64, stopped); }) == "ABORTED");
}

}  // namespace

int main() {
  RUN(a_trace_ends_in_what_is_sampled);
  RUN(traces_of_neighbours_meet);
  RUN(the_op_that_differs_is_named);
  RUN(a_trace_can_be_stopped);
  return result();
}

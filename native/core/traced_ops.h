// What each op gives for one leaf: where two machines disagree about a leaf, the first op whose digests differ is the
// one that they have to look at (the narrowing of a dispute: Conway et al. 2024, "opML").
#pragma once
#include <vector>

#include "leaves.h"
#include "model.h"

namespace poc {

struct TracedOp {
  const char* op;  // see trace()
  uint8_t digest[kDigestBytes];
};

// Digests of one position's row after each op from the block before `layer` up to the leaf (layer, position), in the
// order of the computation; tokens[position] is the last one that matters. `layer` may be the virtual one.
//   layer 0:            embed, or
//   the block before:   input, input_norm, q, rope_q, attention, o, add_attention, post_norm, gate, up, swiglu, down,
//                       add_mlp; input is what the block was given
//   and then:           next_norm, k, v, rope_k, v_row (what is stored, in the cache's dtype);
//                       at the virtual layer final_norm
// A digest is SHA-256(tag of traces, the row), fp32 but for the last two. Only on a backend whose ops are done when
// they return: throws BACKEND_UNAVAILABLE on another one; Cancelled.
std::vector<TracedOp> trace(const Model& model, Dtype kv_dtype, const std::vector<uint32_t>& tokens, size_t layer,
                            size_t position, size_t chunk_size, const std::atomic<bool>& cancelled);

}  // namespace poc

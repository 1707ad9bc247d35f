// Token replay: the sampler, run again on the logits that hidden states of the virtual layer give, and what the model
// says of the claimed tokens.
#pragma once
#include <optional>
#include <vector>

#include "choose.h"
#include "model.h"

namespace poc {

// One claimed token each: row `rows[i]` of the hidden states is to choose tokens[i], which stands at positions[i].
struct Replay {
  std::vector<uint32_t> rows, tokens, positions;
  std::optional<Sampling> sampling;  // none: tokens are not chosen again
  bool surprise = false;
};

constexpr size_t kReplayValues = 3;

// `hidden`: (rows, hidden_size) after the final norm, in the memory of `ops`. Writes for each claimed token: the chosen
// id (-1 without sampling), Choice::gap (NaN without sampling), and token_surprise() (NaN where not asked for). Logits
// are computed and fetched some rows at a time, so that the memory they take does not grow with the number of tokens.
// Throws MODEL_NON_FINITE, or Cancelled.
void replay(const Model& model, Ops& ops, Rows hidden, const Replay& claimed, const std::atomic<bool>& cancelled,
            double* out);

}  // namespace poc

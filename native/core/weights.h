// A model's weights in a backend's layout, packed once at load.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "backend.h"

namespace poc {

struct LayerWeights {
  Vector input_norm;              // (hidden_size)
  Matrix q, k, v;                 // (q_size, hidden_size), (kv_size, hidden_size) twice
  Vector q_bias, k_bias, v_bias;  // empty without qkv_bias
  Vector q_norm, k_norm;          // (head_dim); empty without qk_norm
  Matrix o;                       // (hidden_size, q_size)
  Vector post_norm;               // (hidden_size)
  Matrix gate, up, down;          // (intermediate_size, hidden_size) twice, its transpose shape
};

// Finds a stored tensor by its Hugging Face name; throws MODEL_MALFORMED where it is missing. The view
// may be good only until the next call.
using TensorSource = std::function<TensorView(const std::string& name)>;

// Throws MODEL_MALFORMED where the tensor is missing or of another shape.
TensorView find_tensor(const TensorSource& source, const std::string& name, size_t rows, size_t cols);

// Gives weights in a backend's layout. They are asked for in the order of the computation, each once.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual Matrix matrix(const std::string& name, size_t num_outputs, size_t num_inputs) = 0;
  virtual Vector vector(const std::string& name, size_t size) = 0;
};

// Brings layers into memory while a pass runs, where loading the model did not. From any number of threads at once.
class LayerSource {
 public:
  virtual ~LayerSource() = default;
  // The layer is in memory as long as the result lives. Throws Cancelled once the flag is set.
  virtual LayerWeights load(size_t layer, const std::atomic<bool>& cancelled) = 0;
  // Whether passes over `num_layers` layers find all of them in Weights::layers by now.
  virtual bool in_memory(size_t num_layers) const = 0;
};

struct Weights {
  Matrix embedding;                     // (vocab_size, hidden_size)
  std::vector<LayerWeights> layers;     // all of them; none when they are streamed
  Vector final_norm;                    // (hidden_size)
  Matrix head;                          // (vocab_size, hidden_size); the embedding itself when tied
  std::shared_ptr<LayerSource> source;  // null: the layers are in memory from the start

  bool streamed() const { return layers.empty(); }
};

constexpr size_t kNoBudget = SIZE_MAX;

LayerWeights take_layer(WeightSource& source, const Config& config, size_t layer);
// Embedding, final norm and head.
void take_rest(WeightSource& source, const Config& config, Weights* weights);

// What weights take in a backend's memory, summed up as their shapes become known.
struct WeightBytes {
  size_t rest = 0, layers = 0, last_layer = 0, largest_layer = 0;

  void add(const Backend& backend, const LayerWeights& layer);
  void add_rest(const Backend& backend, const Config& config, const Weights& weights);
  size_t all() const { return rest + layers; }
  // Throws INVALID_ARGUMENT when not even two layers at a time fit.
  void check(size_t budget_bytes) const;
};

// Packs all weights in compute order and checks every value. `loaded` counts stored bytes, for progress.
// When their packed bytes are over `budget_bytes`, the layers are not kept but streamed by each pass
// (layers.h), two at a time; throws INVALID_ARGUMENT when not even that fits.
Weights load_weights(Backend& backend, const Config& config, const TensorSource& source,
                     const std::atomic<bool>& cancelled, std::atomic<size_t>& loaded, size_t budget_bytes = kNoBudget);

// Packs what is asked for.
class PackingSource : public WeightSource {
 public:
  PackingSource(Backend& backend, const TensorSource& source, const std::atomic<bool>& cancelled,
                std::atomic<size_t>& loaded)
      : backend_(backend), source_(source), cancelled_(cancelled), loaded_(loaded) {}
  ~PackingSource() override;
  Matrix matrix(const std::string& name, size_t num_outputs, size_t num_inputs) override;
  Vector vector(const std::string& name, size_t size) override;

 private:
  TensorView take(const std::string& name, size_t rows, size_t cols);

  Backend& backend_;
  const TensorSource& source_;
  const std::atomic<bool>& cancelled_;
  std::atomic<size_t>& loaded_;
};

}  // namespace poc

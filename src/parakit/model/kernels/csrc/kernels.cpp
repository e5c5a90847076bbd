// The C interface; `library.py` has the same declarations.
#include <pthread.h>

#include <memory>
#include <new>

#include "forward.h"
#include "training.h"
#include "training_attention.h"

using namespace parakit;

namespace {

Pool* only_pool = nullptr;  // never destroyed: its threads wait until the process ends
Arena* arena = nullptr;
std::mutex* one_pass = nullptr;

void start() {
  only_pool = new Pool;
  arena = new Arena;
  one_pass = new std::mutex;
}

Pool& pool() {
  static bool once = [] {
    start();
    pthread_atfork(nullptr, nullptr, start);  // a forked process has no threads of ours, and maybe a held lock
    return true;
  }();
  (void)once;
  return *only_pool;
}

}  // namespace

extern "C" {

int32_t parakit_sizes(int32_t* sizes) {  // so that Python can check its structures
  sizes[0] = sizeof(Weight), sizes[1] = sizeof(Norm), sizes[2] = sizeof(Layer), sizes[3] = sizeof(Model);
  sizes[4] = sizeof(LayerCache), sizes[5] = sizeof(Cache), sizes[6] = sizeof(Batch);
  return LANES;
}

// y (n_tokens, n_out) = x (n_tokens, n_in) W^T + bias.
void parakit_matmul(const Weight* w, const float* x, int64_t n_tokens, float* y, int32_t n_threads) {
  Product product = {w, y, w->n_out};
  pool().run(n_threads, [&](Team& team) { matmul(&product, 1, x, w->n_in, int(n_tokens), team); });
}

// 0; or 1 for a token id, 2 for a position, 3 for a page that does not exist, 4 without memory: nothing is computed then.
int32_t parakit_forward(const Model* model, const Cache* cache, const Batch* batch, int32_t n_threads) {
  for (int i = 0; i < batch->n_tokens; i++) {
    int64_t id = batch->token_ids[i], position = batch->positions[i], row = batch->rows[i];
    if (id < 0 || id >= model->vocab_size) return 1;
    if (position < 0 || position >= model->max_seq_len || position / cache->page_size >= cache->pages_per_row) return 2;
    for (int layer = 0; layer < model->n_layers; layer++) {
      int32_t page = cache->layers[layer].page_table[row * cache->pages_per_row + position / cache->page_size];
      if (page < 0 || page >= cache->n_pages) return 3;
    }
  }
  Pool& threads = pool();
  std::lock_guard<std::mutex> one(*one_pass);
  Forward forward(*model, *cache, *batch, n_threads);
  try {
    forward.allocate(*arena);
  } catch (const std::bad_alloc&) {
    return 4;
  }
  threads.run(n_threads, [&](Team& team) { forward.run(team); });
  return 0;
}

// Read `bytes` once with all threads; the sum of its floats keeps the compiler from leaving it out.
float parakit_read(const float* data, int64_t n_floats, int32_t n_threads) {
  std::vector<float> sums(n_threads);
  constexpr int64_t STEP = 16384;
  pool().run(n_threads, [&](Team& team) {
    Floats total[4] = {};
    for (int64_t at; (at = team.take(STEP)) + STEP <= n_floats;)
      for (int64_t i = at; i < at + STEP; i += 4 * LANES)
        for (int j = 0; j < 4; j++) total[j] += load(data + i + j * LANES);
    sums[team.thread] = sum((total[0] + total[1]) + (total[2] + total[3]));
  });
  float result = 0;
  for (float value : sums) result += value;
  return result;
}

// Of a training step; see `training.h`. All tensors are float32 and dense.
void parakit_rms_norm(const float* x, const float* weight, float eps, int64_t n_rows, int32_t n, float* y, float* inverse,
                      int32_t n_threads) {
  pool().run(n_threads, [&](Team& team) { rms_norm_rows(x, weight, eps, n_rows, n, y, inverse, team); });
}

void parakit_rms_norm_gradients(const float* dy, const float* x, const float* weight, const float* inverse, int64_t n_rows,
                                int32_t n, float* dx, float* dweight, int32_t n_threads) {
  std::vector<float> partial(dweight ? norm_blocks(n_rows) * n : 0);
  pool().run(n_threads, [&](Team& team) {
    rms_norm_gradients(dy, x, weight, inverse, n_rows, n, dx, dweight, partial.data(), team);
  });
}

void parakit_swiglu(const float* gate, const float* up, int64_t n, float* h, int32_t n_threads) {
  pool().run(n_threads, [&](Team& team) { swiglu(gate, up, n, h, team); });
}

void parakit_swiglu_gradients(const float* gate, const float* up, const float* dh, int64_t n, float* dgate, float* dup,
                              float* h, int32_t n_threads) {
  pool().run(n_threads, [&](Team& team) { swiglu_gradients(gate, up, dh, n, dgate, dup, h, team); });
}

void parakit_rotate(const int64_t* sizes, const float* x, const float* cos, const float* sin, float* y, int32_t backward,
                    int32_t n_threads) {
  Heads heads;
  memcpy(&heads, sizes, sizeof heads);
  pool().run(n_threads, [&](Team& team) { rotate_rows(heads, x, cos, sin, y, backward != 0, team); });
}

// `sizes` of both: Heads.
void parakit_norm_and_rotate(const int64_t* sizes, const float* x, const float* weight, float eps, const float* cos,
                             const float* sin, float* y, float* inverse, int32_t n_threads) {
  Heads heads;
  memcpy(&heads, sizes, sizeof heads);
  pool().run(n_threads, [&](Team& team) { norm_and_rotate_rows(heads, x, weight, eps, cos, sin, y, inverse, team); });
}

void parakit_norm_and_rotate_gradients(const int64_t* sizes, const float* dy, const float* x, const float* weight,
                                       const float* cos, const float* sin, const float* inverse, float* dx, float* dweight,
                                       int32_t n_threads) {
  Heads heads;
  memcpy(&heads, sizes, sizeof heads);
  std::vector<float> partial(dweight ? norm_blocks(heads.n_batch * heads.n_tokens) * heads.head_dim : 0);
  pool().run(n_threads, [&](Team& team) {
    norm_and_rotate_gradients(heads, dy, x, weight, cos, sin, inverse, dx, dweight, partial.data(), team);
  });
}

void parakit_cross_entropy(float* logits, const int64_t* targets, int64_t n_rows, int32_t n, float* losses,
                           int32_t n_threads) {
  pool().run(n_threads, [&](Team& team) { cross_entropy_rows(logits, targets, n_rows, n, losses, team); });
}

// `sizes`: AttentionSizes. `mask` (B, T, S) bytes or null.
void parakit_attention(const int64_t* sizes, float scale, const uint8_t* mask, const float* query, const float* key,
                       const float* value, float* output, float* normalizer, int32_t n_threads) {
  AttentionSizes s;
  memcpy(&s, sizes, sizeof s);
  AttentionPlan plan(s, mask, scale);
  pool().run(n_threads, [&](Team& team) {
    plan.read_mask(team);
    AttentionForward forward = {plan, query, key, value, output, normalizer, {}};
    for (int64_t piece; (piece = team.take(1)) < s.n_batch * s.n_heads;) forward.run(piece);
  });
}

void parakit_attention_gradients(const int64_t* sizes, float scale, const uint8_t* mask, const float* query,
                                 const float* key, const float* value, const float* output, const float* normalizer,
                                 const float* slope, float* grad_query, float* grad_key, float* grad_value,
                                 int32_t n_threads) {
  AttentionSizes s;
  memcpy(&s, sizes, sizeof s);
  AttentionPlan plan(s, mask, scale);
  bool is_shared = s.n_heads > s.n_kv_heads;
  std::unique_ptr<float[]> shared(is_shared ? new float[s.n_batch * s.n_heads * 2 * s.n_keys * s.head_dim] : nullptr);
  pool().run(n_threads, [&](Team& team) {
    plan.read_mask(team);
    AttentionBackward backward = {plan,  query,      key,      value,      output, normalizer,
                                  slope, grad_query, grad_key, grad_value, shared.get()};
    for (int64_t piece; (piece = team.take(1)) < s.n_batch * s.n_heads;) backward.run(piece);
    team.barrier();
    if (is_shared) backward.add_shared(team);
  });
}

}  // extern "C"

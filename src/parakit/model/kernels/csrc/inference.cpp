// The C interface of inference; `library.py` has the same declarations.
#include <pthread.h>

#include <memory>
#include <new>

#include "forward.h"

using namespace parakit;

namespace {

// What forward passes share, one pass at a time.
struct Passes {
  Arena arena;
  std::mutex one;
};

Passes* only_passes = nullptr;

void start_passes() { only_passes = new Passes; }

Passes& passes() {
  static bool once = [] {
    start_passes();
    pthread_atfork(nullptr, nullptr, start_passes);  // the lock of a forked process may be held
    return true;
  }();
  (void)once;
  return *only_passes;
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
  Passes& shared = passes();
  std::lock_guard<std::mutex> one(shared.one);
  Forward forward(*model, *cache, *batch, n_threads);
  try {
    forward.allocate(shared.arena);
  } catch (const std::bad_alloc&) {
    return 4;
  }
  pool().run(n_threads, [&](Team& team) { forward.run(team); });
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

}  // extern "C"

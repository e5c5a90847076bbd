// The C interface of training, see `training.h` and `training_attention.h`; `library.py` has the same declarations. All tensors
// are float32 and dense.
#include <cstring>
#include <memory>
#include <vector>

#include "training.h"
#include "training_attention.h"

using namespace parakit;

extern "C" {

// Run on the threads of an OpenMP runtime: its GOMP_parallel, omp_get_thread_num and omp_get_num_threads.
void parakit_use_openmp(void (*parallel)(void (*)(void*), void*, unsigned, unsigned), int (*thread)(), int (*n_threads)()) {
  pool().openmp = {parallel, thread, n_threads};
}

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

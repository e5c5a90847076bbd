// What happens between the products of a training step, forward and backward, in one pass over memory each. float32.
//
// Sums over rows (the gradient of a norm's weight) are added in blocks of rows whose number depends on the shape alone:
// the result is the same for any number of threads.
#pragma once
#include <algorithm>
#include <cmath>

#include "attention_tiles.h"
#include "elementwise.h"
#include "pool.h"

namespace parakit {

// f(first, last) for parts of n rows of n_floats each, taken by the threads as they come.
template <class F>
inline void share_rows(Team& team, int64_t n, int64_t n_floats, F f) {
  int64_t step = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, n_floats));
  for (int64_t at; (at = team.take(step)) < n;) f(at, std::min(n, at + step));
}

// Rows of n features of x (n_rows, n): y = x / sqrt(mean(x^2) + eps) * weight; `inverse` (n_rows) is kept for the gradient.
inline void rms_norm_rows(const float* x, const float* weight, float eps, int64_t n_rows, int n, float* y, float* inverse,
                          Team& team) {
  share_rows(team, n_rows, n, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float* from = x + row * n;
      float* to = y + row * n;
      Floats squares = {};
      each_vector(from, n, [&](int, Floats v, int) { squares = fused_multiply_add(v, v, squares); });
      float scale = 1.0f / std::sqrt(sum(squares) / float(n) + eps);
      inverse[row] = scale;
      each_vector(from, n, [&](int i, Floats v, int have) {
        store_some(to + i, v * scale * load_some(weight, FP32, i, have), have);
      });
    }
  });
}

inline int64_t norm_blocks(int64_t n_rows) { return std::min<int64_t>(64, (n_rows + 63) / 64); }

// dx = inverse * (dy * weight - x * inverse^2 * mean(dy * weight * x)) of one row; dy * x * inverse is added to `sums`,
// which may be null.
inline void norm_row_gradients(const float* dy, const float* x, const float* weight, float inverse, int n, float* dx,
                               float* sums) {
  Floats total = {};
  each_vector(x, n, [&](int i, Floats v, int have) {
    Floats g = load_some(dy + i, FP32, 0, have);
    total = fused_multiply_add(g * load_some(weight, FP32, i, have), v, total);
    if (sums) store_some(sums + i, load_some(sums, FP32, i, have) + g * v * inverse, have);
  });
  float shift = sum(total) / float(n) * inverse * inverse;
  each_vector(x, n, [&](int i, Floats v, int have) {
    Floats g = load_some(dy + i, FP32, 0, have) * load_some(weight, FP32, i, have);
    store_some(dx + i, (g - v * shift) * inverse, have);
  });
}

// dweight = the sum of the blocks in their order, after a barrier; it may be null.
inline void add_norm_blocks(int64_t n_blocks, int n, const float* partial, float* dweight, Team& team) {
  if (!dweight || team.thread) return;
  for (int64_t block = 0; block < n_blocks; block++)
    for (int i = 0; i < n; i++) dweight[i] = (block ? dweight[i] : 0.0f) + partial[block * n + i];
}

// The gradients of x and of the weight. `partial` (norm_blocks, n); dweight may be null.
inline void rms_norm_gradients(const float* dy, const float* x, const float* weight, const float* inverse, int64_t n_rows,
                               int n, float* dx, float* dweight, float* partial, Team& team) {
  int64_t n_blocks = norm_blocks(n_rows);
  for (int64_t block; (block = team.take(1)) < n_blocks;) {
    float* sums = dweight ? partial + block * n : nullptr;
    if (sums) memset(sums, 0, n * sizeof(float));
    int64_t last = n_rows * (block + 1) / n_blocks;
    for (int64_t row = n_rows * block / n_blocks; row < last; row++)
      norm_row_gradients(dy + row * n, x + row * n, weight, inverse[row], n, dx + row * n, sums);
  }
  team.barrier();
  add_norm_blocks(n_blocks, n, partial, dweight, team);
}

// h = silu(gate) * up
inline void swiglu(const float* gate, const float* up, int64_t n, float* h, Team& team) {
  share_rows(team, n, 1, [&](int64_t first, int64_t last) {
    gate_and_up(SILU, gate + first, up + first, int(last - first), h + first);
  });
}

// The gradients of gate and up from that of h; h itself, again, where it is not null.
inline void swiglu_gradients(const float* gate, const float* up, const float* dh, int64_t n, float* dgate, float* dup,
                             float* h, Team& team) {
  share_rows(team, n, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += LANES) {
      int have = last - i < LANES ? int(last - i) : LANES;
      Floats x = load_some(gate + i, FP32, 0, have), u = load_some(up + i, FP32, 0, have);
      Floats g = load_some(dh + i, FP32, 0, have);
      Floats sigmoid = 1.0f / (1.0f + exp(-x)), act = x * sigmoid;
      store_some(dup + i, g * act, have);
      store_some(dgate + i, g * u * (sigmoid + act * (1.0f - sigmoid)), have);
      if (h) store_some(h + i, act * u, have);
    }
  });
}

// Queries or keys with their strides, in floats; the last dimension has stride 1.
struct Heads {
  int64_t n_batch, n_heads, n_tokens, head_dim;
  int64_t batch_stride, head_stride, token_stride;  // of x and y
  int64_t angle_batch_stride;                       // of cos and sin, (n_tokens, head_dim) or with a batch: 0 for the former
};

// y = x * cos + quarter turn of x * sin, or with `backward` the gradient of x from that of y. y may be x.
inline void rotate_rows(const Heads& s, const float* x, const float* cos, const float* sin, float* y, bool backward,
                        Team& team) {
  int half = int(s.head_dim / 2);
  share_rows(team, s.n_batch * s.n_tokens, s.n_heads * s.head_dim, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      int64_t batch = row / s.n_tokens, token = row % s.n_tokens;
      const float* c = cos + batch * s.angle_batch_stride + token * s.head_dim;
      const float* q = sin + batch * s.angle_batch_stride + token * s.head_dim;
      for (int64_t head = 0; head < s.n_heads; head++) {
        int64_t at = batch * s.batch_stride + head * s.head_stride + token * s.token_stride;
        const float* from = x + at;
        float* to = y + at;
        float sign = backward ? -1.0f : 1.0f;
        const float *first_sin = backward ? q + half : q, *second_sin = backward ? q : q + half;
        each_vector(from, half, [&](int i, Floats left, int have) {
          auto of = [&](const float* some) { return load_some(some + i, FP32, 0, have); };
          Floats right = of(from + half);
          store_some(to + i, left * of(c) - sign * (right * of(first_sin)), have);
          store_some(to + half + i, right * of(c + half) + sign * (left * of(second_sin)), have);
        });
      }
    }
  });
}

constexpr int MAX_HEAD_DIM = 512;

// y = the rotation of the norm of each head of x; `inverse` (n_batch, n_tokens, n_heads) is kept for the gradient.
inline void norm_and_rotate_rows(const Heads& s, const float* x, const float* weight, float eps, const float* cos,
                                 const float* sin, float* y, float* inverse, Team& team) {
  int n = int(s.head_dim), half = n / 2;
  share_rows(team, s.n_batch * s.n_tokens, s.n_heads * s.head_dim, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      int64_t batch = row / s.n_tokens, token = row % s.n_tokens;
      const float* c = cos + batch * s.angle_batch_stride + token * n;
      const float* q = sin + batch * s.angle_batch_stride + token * n;
      for (int64_t head = 0; head < s.n_heads; head++) {
        int64_t at = batch * s.batch_stride + head * s.head_stride + token * s.token_stride;
        const float* from = x + at;
        float* to = y + at;
        Floats squares = {};
        each_vector(from, n, [&](int, Floats v, int) { squares = fused_multiply_add(v, v, squares); });
        float scale = 1.0f / std::sqrt(sum(squares) / float(n) + eps);
        inverse[row * s.n_heads + head] = scale;
        each_vector(from, half, [&](int i, Floats v, int have) {
          auto of = [&](const float* some) { return load_some(some + i, FP32, 0, have); };
          Floats left = v * scale * of(weight), right = of(from + half) * scale * of(weight + half);
          store_some(to + i, left * of(c) - right * of(q), have);
          store_some(to + half + i, right * of(c + half) + left * of(q + half), have);
        });
      }
    }
  });
}

// The gradients of x and of the norm's weight from dy, in the layout of x. `partial` (norm_blocks, head_dim); dweight may
// be null.
inline void norm_and_rotate_gradients(const Heads& s, const float* dy, const float* x, const float* weight, const float* cos,
                                      const float* sin, const float* inverse, float* dx, float* dweight, float* partial,
                                      Team& team) {
  int n = int(s.head_dim), half = n / 2;
  int64_t n_rows = s.n_batch * s.n_tokens, n_blocks = norm_blocks(n_rows);
  for (int64_t block; (block = team.take(1)) < n_blocks;) {
    float* sums = dweight ? partial + block * n : nullptr;
    if (sums) memset(sums, 0, n * sizeof(float));
    int64_t last = n_rows * (block + 1) / n_blocks;
    for (int64_t row = n_rows * block / n_blocks; row < last; row++) {
      int64_t batch = row / s.n_tokens, token = row % s.n_tokens;
      const float* c = cos + batch * s.angle_batch_stride + token * n;
      const float* q = sin + batch * s.angle_batch_stride + token * n;
      for (int64_t head = 0; head < s.n_heads; head++) {
        int64_t at = batch * s.batch_stride + head * s.head_stride + token * s.token_stride;
        const float* g = dy + at;
        alignas(64) float slope[MAX_HEAD_DIM];  // of the norm's result
        each_vector(g, half, [&](int i, Floats v, int have) {
          auto of = [&](const float* some) { return load_some(some + i, FP32, 0, have); };
          Floats right = of(g + half);
          store_some(slope + i, v * of(c) + right * of(q + half), have);
          store_some(slope + half + i, right * of(c + half) - v * of(q), have);
        });
        norm_row_gradients(slope, x + at, weight, inverse[row * s.n_heads + head], n, dx + at, sums);
      }
    }
  }
  team.barrier();
  add_norm_blocks(n_blocks, n, partial, dweight, team);
}

// Logits (n_rows, n) become the gradient of their summed cross-entropy, softmax - target; `losses` (n_rows) in nats.
inline void cross_entropy_rows(float* logits, const int64_t* targets, int64_t n_rows, int n, float* losses, Team& team) {
  share_rows(team, n_rows, n, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      float* x = logits + row * n;
      Floats most = all(-INFINITY);
      int i = 0;
      for (; i + LANES <= n; i += LANES) most = larger(load(x + i), most);
      float largest = largest_of(most);
      for (; i < n; i++) largest = std::max(largest, x[i]);
      float target = x[targets[row]];
      double total = 0;
      for (int start = 0; start < n; start += 4096) {
        Floats sums = {};
        each_vector(x + start, std::min(4096, n - start), [&](int j, Floats v, int have) {
          Floats e = exp2((v - largest) * LOG2_E);
          for (int lane = have; lane < LANES; lane++) e[lane] = 0;
          sums += e;
          store_some(x + start + j, e, have);
        });
        total += sum(sums);
      }
      losses[row] = std::log(float(total)) + largest - target;
      float scale = float(1.0 / total);
      each_vector(x, n, [&](int j, Floats v, int have) { store_some(x + j, v * scale, have); });
      x[targets[row]] -= 1.0f;
    }
  });
}

}  // namespace parakit

// What happens between the products of a training step, forward and backward, in one pass over memory each. float32.
//
// Sums over rows (the gradient of a norm's weight) are added in blocks of rows whose number depends on the shape alone:
// the result is the same for any number of threads.
#pragma once
#include <algorithm>
#include <cmath>

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

// dx = inverse * (dy * weight - x * inverse^2 * mean(dy * weight * x)); dweight = sum over rows of dy * x * inverse.
// `partial` (norm_blocks, n); dweight may be null.
inline void rms_norm_gradients(const float* dy, const float* x, const float* weight, const float* inverse, int64_t n_rows,
                               int n, float* dx, float* dweight, float* partial, Team& team) {
  int64_t n_blocks = norm_blocks(n_rows);
  for (int64_t block; (block = team.take(1)) < n_blocks;) {
    float* sums = dweight ? partial + block * n : nullptr;
    if (sums) memset(sums, 0, n * sizeof(float));
    int64_t last = n_rows * (block + 1) / n_blocks;
    for (int64_t row = n_rows * block / n_blocks; row < last; row++) {
      const float *in = x + row * n, *slope = dy + row * n;
      float* to = dx + row * n;
      float scale = inverse[row];
      Floats total = {};
      each_vector(in, n, [&](int i, Floats v, int have) {
        Floats g = load_some(slope + i, FP32, 0, have);
        total = fused_multiply_add(g * load_some(weight, FP32, i, have), v, total);
        if (sums) store_some(sums + i, load_some(sums, FP32, i, have) + g * v * scale, have);
      });
      float shift = sum(total) / float(n) * scale * scale;
      each_vector(in, n, [&](int i, Floats v, int have) {
        Floats g = load_some(slope + i, FP32, 0, have) * load_some(weight, FP32, i, have);
        store_some(to + i, (g - v * shift) * scale, have);
      });
    }
  }
  team.barrier();
  if (dweight && team.thread == 0)
    for (int64_t block = 0; block < n_blocks; block++)
      for (int i = 0; i < n; i++) dweight[i] = (block ? dweight[i] : 0.0f) + partial[block * n + i];
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
        if (backward) {
          for (int i = 0; i < half; i++) {
            float left = from[i], right = from[i + half];
            to[i] = left * c[i] + right * q[i + half];
            to[i + half] = right * c[i + half] - left * q[i];
          }
        } else {
          for (int i = 0; i < half; i++) {
            float left = from[i], right = from[i + half];
            to[i] = left * c[i] - right * q[i];
            to[i + half] = right * c[i + half] + left * q[i + half];
          }
        }
      }
    }
  });
}

// Logits (n_rows, n) become the gradient of their summed cross-entropy, softmax - target; `losses` (n_rows) in nats.
inline void cross_entropy_rows(float* logits, const int64_t* targets, int64_t n_rows, int n, float* losses, Team& team) {
  share_rows(team, n_rows, n, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      float* x = logits + row * n;
      Floats most = all(-INFINITY);
      int i = 0;
      for (; i + LANES <= n; i += LANES) {
        Floats v = load(x + i);
        most = v > most ? v : most;
      }
      float largest = -INFINITY;
      for (int lane = 0; lane < LANES; lane++) largest = std::max(largest, float(most[lane]));
      for (; i < n; i++) largest = std::max(largest, x[i]);
      float target = x[targets[row]];
      double total = 0;
      for (int start = 0; start < n; start += 4096) {
        Floats sums = {};
        each_vector(x + start, std::min(4096, n - start), [&](int j, Floats v, int have) {
          Floats e = exp(v - largest);
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

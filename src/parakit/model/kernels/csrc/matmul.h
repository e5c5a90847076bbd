// Products of many tokens: y (n_tokens, n_out) = x (n_tokens, n_in) W^T, plus the bias.
//
// Every thread of the team calls `matmul` with the same arguments; the caller puts a `team.barrier()` before it (x is
// complete, and `team.take` starts from 0) and one after it (y is). The sums are those of `tile` in products.h.
#pragma once
#include <vector>

#include "pool.h"
#include "products.h"

namespace parakit {

template <int N>
inline void matmul_tokens(const Weight& w, const float* x, int64_t x_stride, const Activations* prepared, float* y,
                          int64_t y_stride, int64_t first, int64_t end) {
  int64_t row = first;
  auto put = [&](int64_t at, int n, float value) {
    y[n * y_stride + at] = w.bias ? value + element(w.bias, w.bias_kind, at) : value;
  };
  for (; row + 4 <= end; row += 4) {
    float out[N][4];
    tile<4, N>(w, row, x, x_stride, prepared, out);
    for (int n = 0; n < N; n++)
      for (int r = 0; r < 4; r++) put(row + r, n, out[n][r]);
  }
  for (; row < end; row++)
    for (int n = 0; n < N; n++) {
      float out[1][1];
      tile<1, 1>(w, row, x + n * x_stride, x_stride, prepared ? prepared + n : nullptr, out);
      put(row, n, out[0][0]);
    }
}

inline void matmul(const Weight& w, const float* x, int64_t x_stride, int n_tokens, float* y, int64_t y_stride,
                   Team& team) {
  static thread_local std::vector<char> storage;
  std::vector<Activations> prepared;
  if (is_quantized(w)) {
    storage.resize(size_t(n_tokens) * activation_bytes(w.n_in));
    for (int n = 0; n < n_tokens; n++) {
      prepared.push_back(activations_at(storage.data() + n * activation_bytes(w.n_in), w.n_in));
      prepare(x + n * x_stride, w.n_in, w.kind, prepared[n]);
    }
  }
  constexpr int ROWS = 32;
  for (int64_t first; (first = team.take(ROWS)) < w.n_out;) {
    int64_t end = first + ROWS < w.n_out ? first + ROWS : w.n_out;
    for (int n = 0; n < n_tokens; n += 4) {
      const float* from = x + n * x_stride;
      float* to = y + n * y_stride;
      const Activations* p = prepared.empty() ? nullptr : &prepared[n];
      switch (n_tokens - n) {
        case 1: matmul_tokens<1>(w, from, x_stride, p, to, y_stride, first, end); break;
        case 2: matmul_tokens<2>(w, from, x_stride, p, to, y_stride, first, end); break;
        case 3: matmul_tokens<3>(w, from, x_stride, p, to, y_stride, first, end); break;
        default: matmul_tokens<4>(w, from, x_stride, p, to, y_stride, first, end);
      }
    }
  }
}

}  // namespace parakit

// Products of many tokens: y (n_tokens, n_out) = x (n_tokens, n_in) W^T, plus the bias.
//
// Every thread of the team calls `matmul` with the same arguments; the caller puts a `team.barrier()` before it (x is
// complete, and `team.take` starts from 0) and one after it (y is). The sums are those of `tile` in products.h.
#pragma once
#include "many_tokens.h"

namespace parakit {

constexpr int FEW = 4;  // tokens up to which tiles of products.h are faster than panels

template <int N>
inline void matmul_tokens(const Weight& w, const float* x, int64_t x_stride, const Activations* prepared, float* y,
                          int64_t y_stride, int64_t first, int64_t end) {
  auto put = [&](int64_t at, int n, float value) {
    y[n * y_stride + at] = w.bias ? value + element(w.bias, w.bias_kind, at) : value;
  };
  const int64_t step = (end - first) / 4;
  for (int64_t row = first; row < first + step; row++) {
    float out[N][4];
    tile<4, N>(w, row, step, x, x_stride, prepared, out);
    for (int n = 0; n < N; n++)
      for (int r = 0; r < 4; r++) put(row + r * step, n, out[n][r]);
  }
  for (int64_t row = first + 4 * step; row < end; row++)
    for (int n = 0; n < N; n++) {
      float out[1][1];
      tile<1, 1>(w, row, 1, x + n * x_stride, x_stride, prepared ? prepared + n : nullptr, out);
      put(row, n, out[0][0]);
    }
}

// How many rows of a weight a thread takes at a time: long streams, but enough takes that no thread waits long.
inline int64_t rows_of_claim(const Weight& w, int n_threads) {
  int64_t bytes = row_bytes(w), claim = bytes * w.n_out / (n_threads * 4);
  claim = claim < 16384 ? 16384 : claim > 131072 ? 131072 : claim;
  return claim / bytes < 4 ? 4 : claim / bytes / 4 * 4;
}

// x of few tokens as quantized weights read it; each thread prepares it for itself.
class Prepared {
 public:
  Prepared(const float* x, int64_t x_stride, int n_tokens) : x_(x), x_stride_(x_stride), n_tokens_(n_tokens) {}

  const Activations* of(const Weight& w) {
    static thread_local Scratch storage;
    if (!is_quantized(w) || w.kind == kind_) return rows_;
    kind_ = w.kind;
    int64_t bytes = (activation_bytes(w.n_in) + 63) / 64 * 64;
    char* memory = static_cast<char*>(storage.at_least(size_t(n_tokens_) * bytes));
    for (int n = 0; n < n_tokens_; n++) {
      rows_[n] = activations_at(memory + n * bytes, w.n_in);
      prepare(x_ + n * x_stride_, w.n_in, w.kind, rows_[n]);
    }
    return rows_;
  }

 private:
  const float* x_;
  int64_t x_stride_;
  int n_tokens_;
  int32_t kind_ = NONE;
  Activations rows_[FEW];
};

// Rows `first` to `end` of one product with few tokens.
inline void multiply_rows(const Product& p, const float* x, int64_t x_stride, int n_tokens, const Activations* prepared,
                          int64_t first, int64_t end) {
  const Weight& w = *p.w;
  switch (n_tokens) {
    case 1: return matmul_tokens<1>(w, x, x_stride, prepared, p.y, p.y_stride, first, end);
    case 2: return matmul_tokens<2>(w, x, x_stride, prepared, p.y, p.y_stride, first, end);
    case 3:
      matmul_tokens<2>(w, x, x_stride, prepared, p.y, p.y_stride, first, end);
      return matmul_tokens<1>(w, x + 2 * x_stride, x_stride, prepared + 2, p.y + 2 * p.y_stride, p.y_stride, first, end);
    default: return matmul_tokens<4>(w, x, x_stride, prepared, p.y, p.y_stride, first, end);
  }
}

// All rows of all products are shared out at once.
inline void few_tokens(const Product* products, int n_products, const float* x, int64_t x_stride, int n_tokens,
                       Team& team) {
  Prepared prepared(x, x_stride, n_tokens);
  int64_t claim = team.take(1), first_claim = 0;
  for (const Product* p = products; p < products + n_products; p++) {
    const Weight& w = *p->w;
    const int64_t n_rows = rows_of_claim(w, team.n_threads()), n_claims = (w.n_out + n_rows - 1) / n_rows;
    for (; claim < first_claim + n_claims; claim = team.take(1)) {
      int64_t first = (claim - first_claim) * n_rows;
      multiply_rows(*p, x, x_stride, n_tokens, prepared.of(w), first, std::min<int64_t>(first + n_rows, w.n_out));
    }
    first_claim += n_claims;
  }
}

// As `few_tokens`, of products of equal sizes: the thread that has computed rows of all of them calls after(first, end).
template <class F>
inline void few_tokens_together(const Product* products, int n_products, const float* x, int64_t x_stride, int n_tokens,
                                Team& team, F after) {
  Prepared prepared(x, x_stride, n_tokens);
  const int64_t n_out = products[0].w->n_out;
  int64_t n_rows = rows_of_claim(*products[0].w, team.n_threads()) / n_products;
  n_rows = std::max<int64_t>(LANES, n_rows / LANES * LANES);  // whole vectors
  for (int64_t first; (first = team.take(1) * n_rows) < n_out;) {
    int64_t end = std::min(first + n_rows, n_out);
    for (int i = 0; i < n_products; i++)
      multiply_rows(products[i], x, x_stride, n_tokens, prepared.of(*products[i].w), first, end);
    after(first, end);
  }
}

// y = x W^T + bias of weights that read the same x. Products of one kind share its packing.
inline void matmul(const Product* products, int n_products, const float* x, int64_t x_stride, int n_tokens,
                   Team& team) {
  if (n_tokens > FEW) {
    for (int i = 0, end; i < n_products; i = end) {
      for (end = i + 1; end < n_products && products[end].w->kind == products[i].w->kind;) end++;
      if (i) team.barrier();
      multiply_many_tokens(products + i, end - i, x, x_stride, n_tokens, team);
    }
    return;
  }
  few_tokens(products, n_products, x, x_stride, n_tokens, team);
}

}  // namespace parakit

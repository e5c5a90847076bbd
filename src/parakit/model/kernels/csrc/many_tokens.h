// Products of many tokens with one or more weights, from panels (panels.h) of unpacked weights (tiles.h).
#pragma once
#include "tiles.h"

namespace parakit {

struct Product {
  const Weight* w;
  float* y;  // (n_tokens, y_stride)
  int64_t y_stride;
};

// Rows of a weight that one thread takes at once: enough to use a packed x again, few enough for the second cache.
inline int rows_at_once(int n_in, int64_t n_out, int n_threads) {
  int rows = n_in <= 2304 ? 32 : n_in <= 4608 ? 16 : 8;
  int64_t share = n_out / (3 * n_threads) / PANEL_ROWS * PANEL_ROWS;
  return int(std::max<int64_t>(PANEL_ROWS, std::min<int64_t>(rows, share)));
}

// The first TOKENS tokens of one panel over `n_steps` steps from `step` on.
template <int32_t KIND, bool IN_PLACE, bool AHEAD, int TOKENS>
inline void add_tokens(const Tile& tile, int group, const PackedInput& x, int p, int step, int n_steps,
                       Floats acc[PANEL], Ahead ahead) {
  typedef Format<KIND> F;
  int64_t x_at = (int64_t(p) * x.n_steps + step) * PANEL_TOKENS;
  if constexpr (KIND < INT8) {
    const Floats* values = static_cast<const Floats*>(x.values) + x_at;
    const char* const* rows = tile.rows + group * PANEL_ROWS;
    if constexpr (!IN_PLACE) return float_panel<FP32, TOKENS>(rows, values, int64_t(step) * LANES, n_steps, acc);
    int n_whole = std::min(n_steps, x.n_in / LANES - step);
    float_panel<KIND, TOKENS, AHEAD>(rows, values, int64_t(step) * LANES, n_whole, acc, ahead);
    if (n_whole < n_steps) {
      int k = (step + n_whole) * LANES;
      float_panel_tail<KIND>(rows, values + n_whole * PANEL_TOKENS, k, x.n_in - k, acc);
    }
  } else {
    int64_t at = (int64_t(group) * tile.n_steps + step) * PANEL_ROWS;
    const Words *values = tile.values + at * F::WORDS, *x_values = static_cast<const Words*>(x.values) + x_at * F::WORDS;
    const Floats* x_scales = x.scales + x_at;
    if (tile.scales)
      integer_panel<F::WORDS, true, TOKENS>(values, tile.scales + at, x_values, x_scales, n_steps, acc);
    else
      integer_panel<F::WORDS, false, TOKENS>(values, nullptr, x_values, x_scales, n_steps, acc);
  }
}

template <int32_t KIND, bool IN_PLACE, bool AHEAD>
inline void add_panel(const Tile& tile, int group, const PackedInput& x, int p, int step, int n_steps,
                      Floats acc[PANEL], Ahead ahead = {}) {
  switch (x.n_tokens - p * PANEL_TOKENS) {
    case 1: return add_tokens<KIND, IN_PLACE, AHEAD, 1>(tile, group, x, p, step, n_steps, acc, ahead);
    case 2: return add_tokens<KIND, IN_PLACE, AHEAD, 2>(tile, group, x, p, step, n_steps, acc, ahead);
    default: return add_tokens<KIND, IN_PLACE, AHEAD, PANEL_TOKENS>(tile, group, x, p, step, n_steps, acc, ahead);
  }
}

inline void finish_panel(const Weight& w, const Floats acc[PANEL], int64_t row, int n_rows, int token, int n_tokens,
                         float* y, int64_t y_stride) {
  const bool plain = n_rows == PANEL_ROWS && !w.bias && !(is_quantized(w) && w.group == 0);
  for (int n = 0; n < PANEL_TOKENS && token + n < n_tokens; n++) {
    if (plain) {
      sum4(acc + n, PANEL_TOKENS, y + (token + n) * y_stride + row);
      continue;
    }
    float out[PANEL_ROWS];
    sum4(acc + n, PANEL_TOKENS, out);
    float* to = y + (token + n) * y_stride + row;
    for (int r = 0; r < n_rows; r++) {
      float value = out[r];
      if (is_quantized(w) && w.group == 0) value *= static_cast<const float*>(w.scales)[row + r];
      to[r] = w.bias ? value + element(w.bias, w.bias_kind, row + r) : value;
    }
  }
}

// `next`: the first row of the block that this thread computes next.
template <int32_t KIND, bool IN_PLACE>
inline void multiply_block(const Weight& w, int64_t first, int n_rows, const PackedInput& x, float* y, int64_t y_stride,
                           const char* next, Scratch& tile_scratch, Scratch& sums_scratch) {
  int n_groups = (n_rows + PANEL_ROWS - 1) / PANEL_ROWS, n_panels = panels_of(x.n_tokens);
  Tile tile = make_tile<KIND>(w, first, n_groups * PANEL_ROWS, IN_PLACE, tile_scratch);
  int n_stretches = (w.n_in + STRETCH - 1) / STRETCH, stretch = (x.n_steps + n_stretches - 1) / n_stretches;
  Floats* sums = static_cast<Floats*>(sums_scratch.at_least(size_t(n_groups) * CHUNK_PANELS * PANEL * sizeof(Floats)));
  for (int chunk = 0; chunk < n_panels; chunk += CHUNK_PANELS) {
    int end = std::min(n_panels, chunk + CHUNK_PANELS);
    for (int step = 0; step < x.n_steps; step += stretch) {
      int n_steps = std::min(stretch, x.n_steps - step);
      for (int group = 0; group < n_groups; group++) {
        int64_t row = first + group * PANEL_ROWS;
        Ahead ahead = {};
        if (IN_PLACE && chunk == 0) {
          bool last = group + 1 == n_groups;
          int then = last ? (step + n_steps) % x.n_steps : step;  // the step with which the next tile begins
          const char* from = !last ? row_of(w, row + PANEL_ROWS) : then ? row_of(w, first) : next;
          uint32_t step_bytes = uint32_t(row_bytes(w) * 256 / x.n_steps);
          ahead = {from + (int64_t(then) * step_bytes >> 8), row_bytes(w), 0, step_bytes / (end - chunk)};
        }
        for (int p = chunk; p < end; p++) {
          Floats* acc = sums + (int64_t(group) * CHUNK_PANELS + p - chunk) * PANEL;
          if (step == 0) std::fill(acc, acc + PANEL, Floats{});
          if (IN_PLACE && chunk == 0) add_panel<KIND, IN_PLACE, IN_PLACE>(tile, group, x, p, step, n_steps, acc, ahead);
          else add_panel<KIND, IN_PLACE, false>(tile, group, x, p, step, n_steps, acc);
          ahead.at += ahead.step * n_steps;
          if (step + n_steps == x.n_steps)
            finish_panel(w, acc, row, std::min(PANEL_ROWS, n_rows - group * PANEL_ROWS), p * PANEL_TOKENS, x.n_tokens, y,
                         y_stride);
        }
      }
    }
  }
}

template <int32_t KIND, bool IN_PLACE>
inline void multiply(const Product* products, int n_products, const float* x, int64_t x_stride, int n_tokens,
                     Team& team) {
  static Scratch shared;  // one run at a time uses the pool
  static thread_local Scratch mine, sums;
  int n_in = products[0].w->n_in, n_panels = panels_of(n_tokens);
  if (team.thread == 0) packed_input<KIND>(n_tokens, n_in, shared);
  team.barrier();
  PackedInput packed = packed_input<KIND>(n_tokens, n_in, shared);
  for (int64_t p; (p = team.take(1)) < n_panels;) pack_panel<KIND>(packed, int(p), x, x_stride, mine);
  team.barrier();
  int64_t n_out = 0;
  for (int i = 0; i < n_products; i++) n_out += products[i].w->n_out;
  int rows = rows_at_once(n_in, n_out, team.n_threads());
  auto blocks_of = [&](const Weight& w) { return (w.n_out + rows - 1) / rows; };
  auto product_of = [&](int64_t& block) {  // null behind the last; `block` is then that of the product
    for (int i = 0; i < n_products; block -= blocks_of(*products[i++].w))
      if (block < blocks_of(*products[i].w)) return products + i;
    return static_cast<const Product*>(nullptr);
  };
  int64_t block = team.take(1);
  for (const Product* product = product_of(block); product;) {
    int64_t next = team.take(1), first = block * rows;
    const Product* next_product = product_of(next);
    const char* ahead = next_product ? row_of(*next_product->w, next * rows) : row_of(*product->w, first);
    multiply_block<KIND, IN_PLACE>(*product->w, first, int(std::min<int64_t>(rows, product->w->n_out - first)), packed,
                                   product->y, product->y_stride, ahead, mine, sums);
    product = next_product;
    block = next;
  }
}

// y = x W^T + bias of several weights that read the same x and are of one kind. All threads of the team call it; x is
// complete and `team.take` starts from 0 before, and a barrier must follow.
inline void multiply_many_tokens(const Product* products, int n_products, const float* x, int64_t x_stride, int n_tokens,
                                 Team& team) {
  bool few = n_tokens < 24;  // unpacking 16-bit floats pays where many tokens use them again
  switch (products[0].w->kind) {
    case FP32: return multiply<FP32, true>(products, n_products, x, x_stride, n_tokens, team);
    case BF16:
      return few ? multiply<BF16, true>(products, n_products, x, x_stride, n_tokens, team)
                 : multiply<BF16, false>(products, n_products, x, x_stride, n_tokens, team);
    case FP16:
      return few ? multiply<FP16, true>(products, n_products, x, x_stride, n_tokens, team)
                 : multiply<FP16, false>(products, n_products, x, x_stride, n_tokens, team);
    case INT8: return multiply<INT8, false>(products, n_products, x, x_stride, n_tokens, team);
    case INT4: return multiply<INT4, false>(products, n_products, x, x_stride, n_tokens, team);
  }
}

}  // namespace parakit

// Products of many tokens, a panel of PANEL_ROWS rows of a weight times PANEL_TOKENS tokens at a time.
//
// x is packed once, so that a panel reads it in one stream: (n_panels, n_steps, PANEL_TOKENS) vectors, as floats or as
// the int16 numbers of activations.h. Weights in FP32 are read in place; others are unpacked, a block of rows at a
// time, into a tile that stays in the processor's second cache while all tokens pass by. Long rows are cut into
// stretches whose part of x and of the weights fits the first cache; the vectors of sums wait in memory meanwhile.
// Every element is summed in the order of types.h, so the results are those of `tile` in products.h to the last bit.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <new>

#include "pool.h"
#include "products.h"

namespace parakit {

constexpr int PANEL_ROWS = 4;
constexpr int PANEL_TOKENS = LANES == 16 ? 6 : 3;          // as many vectors of sums as registers hold
constexpr int PANEL = PANEL_ROWS * PANEL_TOKENS;           // vectors of sums
constexpr int CHUNK_PANELS = LANES == 16 ? 11 : 21;        // about 64 tokens, whose sums fit the second cache
constexpr int STRETCH = 768;                               // elements of a row

// Memory that only grows, aligned to a cache line.
class Scratch {
 public:
  void* at_least(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = (bytes + 4095) / 4096 * 4096;
      data_ = std::aligned_alloc(64, size_);
      if (!data_) throw std::bad_alloc();
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// What differs between weights of floats, INT8 and INT4. A step: elements that are summed before the next are read.
template <int32_t KIND>
struct Format {  // floats
  static constexpr int STEP = LANES;
  typedef Floats Vector;
  static constexpr int WORDS = 1;
};
template <>
struct Format<INT8> {
  static constexpr int STEP = X_GROUP;
  typedef Words Vector;
  static constexpr int WORDS = X_GROUP / (2 * LANES);
};
template <>
struct Format<INT4> {
  static constexpr int STEP = BLOCK;
  typedef Words Vector;
  static constexpr int WORDS = 4;
};

template <int32_t KIND>
inline int steps_of(int n_in) {
  return (n_in + Format<KIND>::STEP - 1) / Format<KIND>::STEP;
}

inline int panels_of(int n_tokens) { return (n_tokens + PANEL_TOKENS - 1) / PANEL_TOKENS; }

// x of all tokens; the tokens that fill up the last panel are zero.
struct PackedInput {
  int n_tokens, n_in, n_steps;
  void* values;    // (n_panels, n_steps, PANEL_TOKENS, WORDS) vectors
  Floats* scales;  // (n_panels, n_steps, PANEL_TOKENS), INT8 and INT4
};

template <int32_t KIND>
inline PackedInput packed_input(int n_tokens, int n_in, Scratch& scratch) {
  int n_steps = steps_of<KIND>(n_in);
  size_t n = size_t(panels_of(n_tokens)) * PANEL_TOKENS * n_steps, value_bytes = n * Format<KIND>::WORDS * sizeof(Floats);
  char* data = static_cast<char*>(scratch.at_least(value_bytes + (KIND >= INT8 ? n * sizeof(Floats) : 0)));
  return {n_tokens, n_in, n_steps, data, reinterpret_cast<Floats*>(data + value_bytes)};
}

// Pack panel `p`. `row` is storage for one token's activations.
template <int32_t KIND>
inline void pack_panel(const PackedInput& to, int p, const float* x, int64_t x_stride, Scratch& row) {
  typedef Format<KIND> F;
  typedef typename F::Vector Vector;
  Vector* values = static_cast<Vector*>(to.values) + int64_t(p) * to.n_steps * PANEL_TOKENS * F::WORDS;
  Floats* scales = to.scales + int64_t(p) * to.n_steps * PANEL_TOKENS;
  for (int i = 0; i < PANEL_TOKENS; i++) {
    int n = p * PANEL_TOKENS + i;
    bool present = n < to.n_tokens;
    const float* from = x + n * x_stride;
    if constexpr (KIND < INT8) {
      for (int s = 0; s < to.n_steps; s++) {
        int at = s * LANES, have = to.n_in - at;
        Floats v = {};
        if (present) v = have >= LANES ? load(from + at) : load_tail<FP32>(from, at, have);
        values[s * PANEL_TOKENS + i] = v;
      }
    } else {
      Activations a = activations_at(row.at_least(activation_bytes(to.n_in)), to.n_in);
      if (present) prepare(from, to.n_in, KIND, a);
      for (int s = 0; s < to.n_steps; s++) {
        for (int k = 0; k < F::WORDS; k++)
          values[(s * PANEL_TOKENS + i) * F::WORDS + k] =
              present ? load_words(a.values + (s * F::WORDS + k) * 2 * LANES) : from_ints(Ints{});
        scales[s * PANEL_TOKENS + i] = !present          ? Floats{}
                                       : KIND == INT8 ? all(a.scales[s])
                                                      : by_group(a.scales + s * (BLOCK / X_GROUP));
      }
    }
  }
}

// What a panel fetches while it computes: a part of the PANEL_ROWS rows that come next, which all panels of a tile share
// evenly. One that fetched all would wait for memory while the others waited for the processor.
struct Ahead {
  const char* row;    // where the next tile's steps begin in its first row
  int64_t row_bytes;
  uint32_t at, step;  // in 256ths of a byte: where this panel begins, and what each of its steps adds
};

// acc[r][n] += rows of floats times TOKENS tokens of a panel, over n_steps steps.
template <int32_t KIND, int TOKENS, bool AHEAD = false>
__attribute__((noinline)) void float_panel(const char* const* rows, const Floats* x, int64_t k, int n_steps, Floats acc[PANEL],
                                           Ahead ahead = {}) {
  Floats sums[PANEL_ROWS][TOKENS];
  for (int r = 0; r < PANEL_ROWS; r++)
    for (int n = 0; n < TOKENS; n++) sums[r][n] = acc[r * PANEL_TOKENS + n];
  const char *row0 = rows[0], *row1 = rows[1], *row2 = rows[2], *row3 = rows[3];
  int64_t ahead_row = 0;
  for (int s = 0; s < n_steps; s++, k += LANES, x += PANEL_TOKENS) {
    if constexpr (AHEAD) {  // a row a step: lines of each come in time where there are two panels or more
      __builtin_prefetch(ahead.row + ahead_row + (ahead.at >> 8));
      ahead.at += ahead.step;
      ahead_row = ahead_row == 3 * ahead.row_bytes ? 0 : ahead_row + ahead.row_bytes;
    }
    Floats xs[TOKENS];
    for (int n = 0; n < TOKENS; n++) {
      xs[n] = x[n];
      keep_in_register(xs[n]);
    }
    auto add_row = [&](int r, const char* row) __attribute__((always_inline)) {
      Floats w = load_as<KIND>(row, k);
      keep_in_register(w);
      for (int n = 0; n < TOKENS; n++) sums[r][n] = fused_multiply_add(w, xs[n], sums[r][n]);
    };
    add_row(0, row0);
    add_row(1, row1);
    add_row(2, row2);
    add_row(3, row3);
  }
  for (int r = 0; r < PANEL_ROWS; r++)
    for (int n = 0; n < TOKENS; n++) acc[r * PANEL_TOKENS + n] = sums[r][n];
}

// The last step of rows that are no multiple of LANES long.
template <int32_t KIND>
inline void float_panel_tail(const char* const* rows, const Floats* x, int64_t k, int have, Floats acc[PANEL]) {
  for (int r = 0; r < PANEL_ROWS; r++) {
    Floats w = load_tail<KIND>(rows[r], k, have);
    for (int n = 0; n < PANEL_TOKENS; n++)
      acc[r * PANEL_TOKENS + n] = fused_multiply_add(w, x[n], acc[r * PANEL_TOKENS + n]);
  }
}

// The same of a tile of integers: values (n_steps, PANEL_ROWS, WORDS), scales (n_steps, PANEL_ROWS).
template <int WORDS, bool SCALED, int TOKENS>
__attribute__((noinline)) void integer_panel(const Words* w, const Floats* w_scales, const Words* x, const Floats* x_scales, int n_steps,
                          Floats acc[PANEL]) {
  Floats sums[PANEL_ROWS][TOKENS];
  for (int r = 0; r < PANEL_ROWS; r++)
    for (int n = 0; n < TOKENS; n++) sums[r][n] = acc[r * PANEL_TOKENS + n];
  for (int s = 0; s < n_steps; s++) {
    for (int n = 0; n < TOKENS; n++) {
      Words xs[WORDS];
      for (int k = 0; k < WORDS; k++) {
        xs[k] = x[n * WORDS + k];
        keep_in_register(xs[k]);
      }
      for (int r = 0; r < PANEL_ROWS; r++) {
        Words total = from_ints(Ints{});
        for (int k = 0; k < WORDS; k++) total = multiply_add_pairs(total, xs[k], w[r * WORDS + k]);
        Floats scale = SCALED ? w_scales[r] * x_scales[n] : x_scales[n];
        sums[r][n] = fused_multiply_add(to_floats(total), scale, sums[r][n]);
      }
    }
    w += PANEL_ROWS * WORDS;
    x += PANEL_TOKENS * WORDS;
    w_scales += PANEL_ROWS;
    x_scales += PANEL_TOKENS;
  }
  for (int r = 0; r < PANEL_ROWS; r++)
    for (int n = 0; n < TOKENS; n++) acc[r * PANEL_TOKENS + n] = sums[r][n];
}

}  // namespace parakit

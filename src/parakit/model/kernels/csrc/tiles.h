// Rows of a weight unpacked for panels.h: PANEL_ROWS rows side by side, step by step.
//
// 16-bit floats become float32; INT8 and INT4 become int16, less their zeros, with a vector of scales for each step.
#pragma once
#include "panels.h"

namespace parakit {

// A block of rows, ready for panels. Rows past the end of the weight repeat its last one.
struct Tile {
  int n_rows, n_steps;
  const char* rows[64];    // floats: each row; FP32 in the weight itself
  const Words* values;     // integers: (n_rows / PANEL_ROWS, n_steps, PANEL_ROWS, WORDS)
  const Floats* scales;    // (n_rows / PANEL_ROWS, n_steps, PANEL_ROWS), or null
};

template <int32_t KIND>
inline void unpack_floats(const char* row, int n_in, int n_steps, float* to) {
  int s = 0;
  for (; (s + 1) * LANES <= n_in; s++) store(to + s * LANES, load_as<KIND>(row, s * LANES));
  if (s < n_steps) store(to + s * LANES, load_tail<KIND>(row, s * LANES, n_in - s * LANES));
}

// One row of INT8: values and scales of consecutive steps are PANEL_ROWS * WORDS and PANEL_ROWS vectors apart.
inline void unpack_int8(const Weight& w, int64_t row, int n_steps, Words* values, Floats* scales) {
  constexpr int WORDS = Format<INT8>::WORDS;
  const int8_t* data = reinterpret_cast<const int8_t*>(row_of(w, row));
  const uint16_t* row_scales =
      w.group ? static_cast<const uint16_t*>(w.scales) + row * (w.n_in / w.group) : nullptr;
  alignas(64) int8_t last[X_GROUP] = {};
  for (int s = 0; s < n_steps; s++) {
    int have = w.n_in - s * X_GROUP;
    const int8_t* from = data + s * X_GROUP;
    if (have < X_GROUP) from = static_cast<int8_t*>(memcpy(last, from, have));
    for (int k = 0; k < WORDS; k++) values[s * PANEL_ROWS * WORDS + k] = widen_bytes(from + k * 2 * LANES);
    if (w.group) scales[s * PANEL_ROWS] = all(fp16_value(row_scales[s * X_GROUP / w.group]));
  }
}

inline Words subtract_words(Words a, Words b) {
  typedef int16_t Shorts __attribute__((vector_size(LANES * 4)));
  Shorts left, right;
  memcpy(&left, &a, sizeof left);
  memcpy(&right, &b, sizeof right);
  left -= right;
  memcpy(&a, &left, sizeof left);
  return a;
}

inline void unpack_int4_block(const uint8_t* data, Ints zeros, Words* values) {
  Words packed = load_words(data), zero = from_ints(zeros * 0x10001);
  values[0] = subtract_words(nibble<0>(packed), zero);
  values[1] = subtract_words(nibble<1>(packed), zero);
  values[2] = subtract_words(nibble<2>(packed), zero);
  values[3] = subtract_words(nibble<3>(packed), zero);
}

template <bool SMALL>  // groups of 32, as in `scales_of_block`
inline void unpack_int4(const Weight& w, int64_t row, int n_steps, Words* values, Floats* scales) {
  constexpr int WORDS = Format<INT4>::WORDS;
  const int shift = SMALL ? 5 : group_shift(w.group);
  int n_groups = w.group ? w.n_in >> shift : 1, n_whole = w.n_in / BLOCK;
  const uint8_t* data = reinterpret_cast<const uint8_t*>(row_of(w, row));
  const uint16_t* row_scales = static_cast<const uint16_t*>(w.scales) + row * n_groups;
  const uint8_t* row_zeros = w.zeros ? w.zeros + row * n_groups : nullptr;
  for (int s = 0; s < n_whole; s++) {
    Ints zeros = row_zeros ? zeros_of_block(row_zeros, s, shift) : Ints{} + 8;
    unpack_int4_block(data + s * BLOCK / 2, zeros, values + s * PANEL_ROWS * WORDS);
    scales[s * PANEL_ROWS] = scales_of_block<SMALL>(row_scales, s, shift);
  }
  if (n_whole == n_steps) return;
  alignas(64) uint8_t last[BLOCK / 2] = {};
  int rest = w.n_in - n_whole * BLOCK;
  memcpy(last, data + n_whole * BLOCK / 2, rest / 2);
  Ints zeros = {};
  Floats scale = {};
  for (int i = 0; i < (rest + 7) / 8; i++) {
    int g = (n_whole * BLOCK + i * 8) >> shift;
    zeros[i] = row_zeros ? row_zeros[g] : 8;
    scale[i] = w.group ? fp16_value(row_scales[g]) : 1.0f;
  }
  unpack_int4_block(last, zeros, values + n_whole * PANEL_ROWS * WORDS);
  scales[n_whole * PANEL_ROWS] = scale;
}

// Rows `first` to `first + n_rows` (n_rows a multiple of PANEL_ROWS). `in_place`: 16-bit floats are not unpacked.
template <int32_t KIND>
inline Tile make_tile(const Weight& w, int64_t first, int n_rows, bool in_place, Scratch& scratch) {
  Tile tile = {n_rows, steps_of<KIND>(w.n_in), {}, nullptr, nullptr};
  auto source = [&](int r) { return std::min<int64_t>(first + r, w.n_out - 1); };
  size_t n = size_t(n_rows) * tile.n_steps;
  if constexpr (KIND < INT8) {
    float* unpacked = in_place ? nullptr : static_cast<float*>(scratch.at_least(n * sizeof(Floats)));
    for (int r = 0; r < n_rows; r++) {
      tile.rows[r] = row_of(w, source(r));
      if (in_place) continue;
      float* to = unpacked + int64_t(r) * tile.n_steps * LANES;
      unpack_floats<KIND>(tile.rows[r], w.n_in, tile.n_steps, to);
      tile.rows[r] = reinterpret_cast<const char*>(to);
    }
  } else {
    constexpr int WORDS = Format<KIND>::WORDS;
    bool scaled = KIND == INT4 || w.group;
    Words* values = static_cast<Words*>(scratch.at_least(n * (WORDS + scaled) * sizeof(Words)));
    Floats* scales = reinterpret_cast<Floats*>(values + n * WORDS);
    tile.values = values;
    tile.scales = scaled ? scales : nullptr;
    for (int r = 0; r < n_rows; r++) {
      int64_t at = int64_t(r / PANEL_ROWS) * tile.n_steps * PANEL_ROWS + r % PANEL_ROWS;
      int64_t value_at = int64_t(r / PANEL_ROWS) * tile.n_steps * PANEL_ROWS * WORDS + r % PANEL_ROWS * WORDS;
      if constexpr (KIND == INT8) unpack_int8(w, source(r), tile.n_steps, values + value_at, scales + at);
      else if (w.group == 32) unpack_int4<true>(w, source(r), tile.n_steps, values + value_at, scales + at);
      else unpack_int4<false>(w, source(r), tile.n_steps, values + value_at, scales + at);
    }
  }
  return tile;
}

}  // namespace parakit

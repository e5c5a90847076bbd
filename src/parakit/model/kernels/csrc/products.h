// Tiles of products: R rows of a weight times N tokens, with the sums in the order that types.h describes.
//
// One element's sum is the same in every tile, so matrix-vector and matrix-matrix products agree to the last bit.
// R = 4 rows keep four independent sums in flight, for the latency of a fused multiply-add. Rows of a tile are `step`
// apart, so that each belongs to a stream of consecutive rows: rows side by side are too short for the processor to fetch
// ahead (int8 weights, rows of 576: 7 GB/s a core; four streams of a claim's quarters, with explicit fetches: 14).
#pragma once
#include <type_traits>

#include "activations.h"
#include "types.h"
#include "words.h"

namespace parakit {

constexpr int AHEAD = 2048;  // bytes of its stream that a tile fetches ahead
constexpr int AHEAD_SCALES = 256;

// Groups have 32, 64 or 128 elements; 0: the whole row.
inline int group_shift(int group) { return group ? __builtin_ctz(group) : 31; }

inline int64_t row_bytes(const Weight& w) {
  int64_t n = w.n_in;
  return w.kind == FP32 ? n * 4 : w.kind == INT8 ? n : w.kind == INT4 ? n / 2 : n * 2;
}

inline const char* row_of(const Weight& w, int64_t row) {
  return static_cast<const char*>(w.data) + row * row_bytes(w);
}

template <int R, int N>
inline void sum_all(const Floats (&acc)[N][R], float y[N][R]) {
  for (int n = 0; n < N; n++) {
    if constexpr (R == 4) sum4(acc[n], 1, y[n]);
    else
      for (int r = 0; r < R; r++) y[n][r] = sum(acc[n][r]);
  }
}

// y[n][r] = row (first + r step) . x[n]; x (N, x_stride) floats.
template <int32_t KIND, int R, int N>
inline void float_tile(const Weight& w, int64_t first, int64_t step, const float* x, int64_t x_stride, float y[N][R]) {
  Floats acc[N][R];
  clear<R, N>(acc);
  const char* rows[R];
  for (int r = 0; r < R; r++) rows[r] = row_of(w, first + r * step);
  int k = 0, n_in = w.n_in;
  for (; k + LANES <= n_in; k += LANES) {
    Floats value[R];
    for (int r = 0; r < R; r++) {
      __builtin_prefetch(rows[r] + k * (KIND == FP32 ? 4 : 2) + AHEAD);
      value[r] = load_as<KIND>(rows[r], k);
    }
    for (int n = 0; n < N; n++) {
      Floats xs = load(x + n * x_stride + k);
      for (int r = 0; r < R; r++) acc[n][r] = fused_multiply_add(value[r], xs, acc[n][r]);
    }
  }
  if (k < n_in) {
    for (int n = 0; n < N; n++) {
      Floats xs = load_tail<FP32>(x + n * x_stride, k, n_in - k);
      for (int r = 0; r < R; r++)
        acc[n][r] = fused_multiply_add(load_tail<KIND>(rows[r], k, n_in - k), xs, acc[n][r]);
    }
  }
  sum_all<R, N>(acc, y);
}

// A vector whose lanes are numbers of consecutive groups, 4 lanes each: element `block` of a row begins at lane 0.
inline Floats by_group(const float* scales) {
#if defined(__AVX512F__)
  __m512i index = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return (Floats)_mm512_permutexvar_ps(index, _mm512_castps128_ps512(_mm_loadu_ps(scales)));
#elif defined(__AVX2__)
  __m256 two = _mm256_castpd_ps(_mm256_broadcast_sd(reinterpret_cast<const double*>(scales)));
  return (Floats)_mm256_permutevar8x32_ps(two, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
#else
  Floats v;
  for (int i = 0; i < LANES; i++) v[i] = scales[i / 4];
  return v;
#endif
}

// The same of a row's float16 scales. SMALL: groups of 32; else of 2^shift elements, 31: the whole row.
template <bool SMALL>
inline Floats scales_of_block(const uint16_t* scales, int block, int shift) {
#if defined(__AVX512F__)
  if constexpr (SMALL) {
    __m128i raw = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales + block * 4));
    __m512i index = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return (Floats)_mm512_permutexvar_ps(index, _mm512_castps128_ps512(_mm_cvtph_ps(raw)));
  }
#elif defined(__AVX2__) && defined(__F16C__)
  if constexpr (SMALL) {
    int32_t both;
    memcpy(&both, scales + block * 2, 4);
    __m256 two = _mm256_castps128_ps256(_mm_cvtph_ps(_mm_cvtsi32_si128(both)));
    return (Floats)_mm256_permutevar8x32_ps(two, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
  }
#endif
  if (shift == 31) return all(1.0f);  // its scale comes last
  if (SMALL || (1 << shift) < BLOCK) {
    float groups[BLOCK / 32];
    for (int i = 0; i < BLOCK / 32; i++) groups[i] = fp16_value(scales[(block * BLOCK + i * 32) >> shift]);
    return by_group(groups);
  }
  return all(fp16_value(scales[(block * BLOCK) >> shift]));
}

// The last block of a row that is no multiple of BLOCK: copies padded with zeros.
struct LastBlock {
  alignas(64) uint8_t data[BLOCK];
};

// LANES unsigned bytes.
inline Ints load_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  Ints v;
  for (int i = 0; i < LANES; i++) v[i] = p[i];
  return v;
#endif
}

inline Ints zeros_of_block(const uint8_t* zeros, int block, int shift) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const uint8_t* first = zeros + ((block * BLOCK) >> shift);
  return (Ints)_mm256_set_m128i(_mm_set1_epi32(shift == 5 ? first[1] : first[0]), _mm_set1_epi32(first[0]));
#endif
  Ints v;
  for (int i = 0; i < LANES; i += 4) {
    int32_t zero = zeros[(block * BLOCK + i * 8) >> shift];
    for (int j = 0; j < 4; j++) v[i + j] = zero;
  }
  return v;
}

// One block of INT4: the products' sums by lane, less zero times the sum of x.
template <bool HAS_ZEROS>
inline Floats int4_block(const uint8_t* data, const int16_t* x, const int32_t* sums, Ints zeros) {
  Ints offset;
  memcpy(&offset, sums, sizeof offset);
  if constexpr (HAS_ZEROS) offset = (offset >> 3) * zeros;  // else zero is 8
  Words packed = load_words(data), acc = from_ints(offset);
  acc = multiply_add_pairs(acc, nibble<0>(packed), load_words(x));
  acc = multiply_add_pairs(acc, nibble<1>(packed), load_words(x + 2 * LANES));
  acc = multiply_add_pairs(acc, nibble<2>(packed), load_words(x + 4 * LANES));
  acc = multiply_add_pairs(acc, nibble<3>(packed), load_words(x + 6 * LANES));
  return to_floats(acc);
}

// Number 4 block of LANES scales, as `by_group`: each for four lanes.
template <int BLOCK_NUMBER>
inline Floats spread(Floats scales) {
  constexpr int at = BLOCK_NUMBER * (LANES / 4);
#if defined(__AVX512F__)
  return (Floats)_mm512_permutexvar_ps(_mm512_setr_epi32(at, at, at, at, at + 1, at + 1, at + 1, at + 1, at + 2, at + 2,
                                                         at + 2, at + 2, at + 3, at + 3, at + 3, at + 3),
                                       (__m512)scales);
#elif defined(__AVX2__)
  return (Floats)_mm256_permutevar8x32_ps((__m256)scales,
                                          _mm256_setr_epi32(at, at, at, at, at + 1, at + 1, at + 1, at + 1));
#else
  Floats v;
  for (int i = 0; i < LANES; i++) v[i] = scales[at + i / 4];
  return v;
#endif
}

// y[n][r] of INT4 weights; a block of LANES * 8 elements a step, in order; then `sum`.
template <bool SMALL, bool HAS_ZEROS, int R, int N>
inline void int4_tile(const Weight& w, int64_t first, int64_t step, const Activations* x, float y[N][R]) {
  Floats acc[N][R];
  clear<R, N>(acc);
  const int shift = SMALL ? 5 : group_shift(w.group);
  int n_groups = w.group ? w.n_in >> shift : 1, n_blocks = w.n_in / BLOCK;
  const uint8_t* rows[R];
  const uint16_t* scales[R];
  const uint8_t* zeros[R];
  for (int r = 0; r < R; r++) {
    rows[r] = reinterpret_cast<const uint8_t*>(row_of(w, first + r * step));
    scales[r] = static_cast<const uint16_t*>(w.scales) + (first + r * step) * n_groups;
    zeros[r] = HAS_ZEROS ? w.zeros + (first + r * step) * n_groups : nullptr;
  }
  int b = 0;
  if constexpr (SMALL && (!HAS_ZEROS || N == 1)) {  // the scales and zeros of four blocks at a time
    constexpr int GROUPS = BLOCK / X_GROUP;
    for (; b + 4 <= n_blocks; b += 4) {
      Floats factors[N][R];
      Ints zero[R];
      for (int n = 0; n < N; n++) {
        Floats x_scale = load(x[n].scales + b * GROUPS);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) factors[n][r] = load_as<FP16>(scales[r], b * GROUPS) * x_scale;
      }
      for (int r = 0; r < R; r++)
        __builtin_prefetch(reinterpret_cast<const char*>(scales[r] + b * GROUPS) + AHEAD_SCALES);
      if constexpr (HAS_ZEROS)
        for (int r = 0; r < R; r++) zero[r] = load_bytes(zeros[r] + b * GROUPS);
      auto add_block = [&](auto number) __attribute__((always_inline)) {
        constexpr int i = number.value;
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {  // rows inside: they share x, which stays in registers
          if (i % 2 == 0) __builtin_prefetch(rows[r] + (b + i) * BLOCK / 2 + AHEAD);
          Ints zeros_of_row = {};
          if constexpr (HAS_ZEROS) zeros_of_row = (Ints)spread<i>((Floats)zero[r]);
#pragma GCC unroll 4
          for (int n = 0; n < N; n++) {
            Floats part = int4_block<HAS_ZEROS>(rows[r] + (b + i) * BLOCK / 2, x[n].values + (b + i) * BLOCK,
                                                x[n].sums + (b + i) * LANES, zeros_of_row);
            acc[n][r] = fused_multiply_add(part, spread<i>(factors[n][r]), acc[n][r]);
          }
        }
      };
      add_block(std::integral_constant<int, 0>{});
      add_block(std::integral_constant<int, 1>{});
      add_block(std::integral_constant<int, 2>{});
      add_block(std::integral_constant<int, 3>{});
    }
  }
  for (; b < n_blocks; b++) {
    Floats x_scale[N];
    for (int n = 0; n < N; n++) x_scale[n] = by_group(x[n].scales + b * (BLOCK / X_GROUP));
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      __builtin_prefetch(rows[r] + b * BLOCK / 2 + AHEAD);
      Floats scale = scales_of_block<SMALL>(scales[r], b, shift);
      Ints zero = {};
      if constexpr (HAS_ZEROS) zero = zeros_of_block(zeros[r], b, shift);
#pragma GCC unroll 4
      for (int n = 0; n < N; n++)
        acc[n][r] = fused_multiply_add(
            int4_block<HAS_ZEROS>(rows[r] + b * BLOCK / 2, x[n].values + b * BLOCK, x[n].sums + b * LANES, zero),
            scale * x_scale[n], acc[n][r]);
    }
  }
  if (int rest = w.n_in - n_blocks * BLOCK; rest > 0) {
    for (int r = 0; r < R; r++) {
      LastBlock last = {};
      memcpy(last.data, rows[r] + n_blocks * BLOCK / 2, rest / 2);
      Floats scale = {};
      Ints zero = {};
      for (int i = 0; i < (rest + 7) / 8; i++) {
        int g = (n_blocks * BLOCK + i * 8) >> shift;
        scale[i] = SMALL || w.group ? fp16_value(scales[r][g]) : 1.0f;
        if (HAS_ZEROS) zero[i] = zeros[r][g];
      }
      for (int n = 0; n < N; n++) {
        Floats x_scale = by_group(x[n].scales + n_blocks * (BLOCK / X_GROUP));
        acc[n][r] = fused_multiply_add(int4_block<HAS_ZEROS>(last.data, x[n].values + n_blocks * BLOCK,
                                                             x[n].sums + n_blocks * LANES, zero),
                                       scale * x_scale, acc[n][r]);
      }
    }
  }
  sum_all<R, N>(acc, y);
  if (SMALL || w.group) return;
  for (int n = 0; n < N; n++)
    for (int r = 0; r < R; r++) y[n][r] *= static_cast<const float*>(w.scales)[first + r * step];
}

// One group of 32 of INT8: the products' sums by lane.
inline Floats int8_group(const int8_t* data, const int16_t* x) {
  Words acc = from_ints(Ints{});
  acc = multiply_add_pairs(acc, widen_bytes(data), load_words(x));
  if constexpr (LANES == 8) acc = multiply_add_pairs(acc, widen_bytes(data + 16), load_words(x + 16));
  return to_floats(acc);
}

// y[n][r] of INT8 weights; a group of 32 elements a step, in order; then `sum`. Not GROUPED: one float32 scale a row.
template <bool GROUPED, int R, int N>
inline void int8_tile(const Weight& w, int64_t first, int64_t step, const Activations* x, float y[N][R]) {
  Floats acc[N][R];
  clear<R, N>(acc);
  const int shift = group_shift(w.group) - 5;
  int n_steps = w.n_in / X_GROUP;
  const int8_t* rows[R];
  const uint16_t* scales[R];
  for (int r = 0; r < R; r++) {
    rows[r] = reinterpret_cast<const int8_t*>(row_of(w, first + r * step));
    scales[r] = GROUPED ? static_cast<const uint16_t*>(w.scales) + (first + r * step) * (n_steps >> shift) : nullptr;
  }
  for (int g = 0; g < n_steps; g++) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      __builtin_prefetch(rows[r] + g * X_GROUP + AHEAD);
      float scale = 1.0f;
      if constexpr (GROUPED) scale = fp16_value(scales[r][g >> shift]);
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) {
        float factor = GROUPED ? scale * x[n].scales[g] : x[n].scales[g];
        acc[n][r] = fused_multiply_add(int8_group(rows[r] + g * X_GROUP, x[n].values + g * X_GROUP), all(factor),
                                       acc[n][r]);
      }
    }
  }
  if (int rest = w.n_in - n_steps * X_GROUP; rest > 0) {  // only without groups
    for (int r = 0; r < R; r++) {
      alignas(64) int8_t last[X_GROUP] = {};
      memcpy(last, rows[r] + n_steps * X_GROUP, rest);
      for (int n = 0; n < N; n++)
        acc[n][r] = fused_multiply_add(int8_group(last, x[n].values + n_steps * X_GROUP), all(x[n].scales[n_steps]),
                                       acc[n][r]);
    }
  }
  sum_all<R, N>(acc, y);
  if constexpr (!GROUPED)
    for (int n = 0; n < N; n++)
      for (int r = 0; r < R; r++) y[n][r] *= static_cast<const float*>(w.scales)[first + r * step];
}

inline bool is_quantized(const Weight& w) { return w.kind == INT8 || w.kind == INT4; }

// Any kind. x: floats (N, x_stride), or where the weight is quantized `prepared`, one a token.
template <int R, int N>
inline void tile(const Weight& w, int64_t first, int64_t step, const float* x, int64_t x_stride, const Activations* prepared,
                 float y[N][R]) {
  switch (w.kind) {
    case FP32: return float_tile<FP32, R, N>(w, first, step, x, x_stride, y);
    case BF16: return float_tile<BF16, R, N>(w, first, step, x, x_stride, y);
    case FP16: return float_tile<FP16, R, N>(w, first, step, x, x_stride, y);
    case INT8:
      return w.group ? int8_tile<true, R, N>(w, first, step, prepared, y) : int8_tile<false, R, N>(w, first, step, prepared, y);
    case INT4:
      if (w.group == 32)
        return w.zeros ? int4_tile<true, true, R, N>(w, first, step, prepared, y)
                       : int4_tile<true, false, R, N>(w, first, step, prepared, y);
      return w.zeros ? int4_tile<false, true, R, N>(w, first, step, prepared, y)
                     : int4_tile<false, false, R, N>(w, first, step, prepared, y);
  }
}

}  // namespace parakit

// Products of small tiles, and what else attention of a training step computes tile by tile. float32.
//
// A tile has TILE queries and TILE keys: three vectors of AVX-512, six of AVX2. Each result of a product has a lane of its
// own, and its sum goes up one number at a time: the order depends on the shape alone.
#pragma once
#include <algorithm>
#include <cmath>

#include "panels.h"
#include "types.h"

namespace parakit {

constexpr float LOG2_E = 1.44269504088896341f, LN_2 = 0.693147180559945309f;

constexpr int TILE = 48;
constexpr int VECTORS = TILE / LANES;  // of a row of scores
constexpr int MAX_VECTORS = LANES == 16 ? 4 : 2;

// How many rows of `n_vectors` results fit the registers; each divides TILE.
constexpr int strip_rows(int n_vectors) {
  if (LANES == 16) return n_vectors == 4 ? 6 : n_vectors == 3 ? 8 : 12;
  return n_vectors == 2 ? 6 : 12;
}

// c (ROWS, N vectors) = a b, added to c where `add`: a (ROWS, n) of any strides, b (n, N vectors).
template <int ROWS, int N>
inline __attribute__((always_inline)) void strip(const float* a, int64_t a_row, int64_t a_step, const float* b,
                                                 int64_t b_step, int n, bool add, float* c, int64_t c_row) {
  Floats sums[ROWS][N];
#pragma GCC unroll 12
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) sums[r][v] = add ? load(c + r * c_row + v * LANES) : all(0.0f);
  for (int k = 0; k < n; k++, a += a_step, b += b_step) {
    Floats right[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) {
      right[v] = load(b + v * LANES);
      keep_in_register(right[v]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
      Floats left = all(a[r * a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < N; v++) sums[r][v] = fused_multiply_add(left, right[v], sums[r][v]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) store(c + r * c_row + v * LANES, sums[r][v]);
}

// The part of a tile on or below the diagonal, or all of it.
enum Part { WHOLE, LOWER };

// Scores c (TILE, TILE) = a b of rows a (TILE, n) of stride a_row, and keys b (n, TILE). LOWER leaves what is far above the
// diagonal as it was.
template <int N>
inline void score_strips(const float* a, int64_t a_row, const float* b, int n, Part part, float* c) {
  constexpr int ROWS = strip_rows(N);
  for (int r = 0; r < TILE; r += ROWS) {
    int wanted = part == LOWER ? std::min(N, (r + ROWS + LANES - 1) / LANES) : N;
    const float* rows = a + r * a_row;
    float* to = c + r * TILE;
    if constexpr (N > 1)
      if (wanted < N) {
        if (N == 3 && wanted == 2) strip<ROWS, 2>(rows, a_row, 1, b, TILE, n, false, to, TILE);
        else strip<ROWS, 1>(rows, a_row, 1, b, TILE, n, false, to, TILE);
        continue;
      }
    strip<ROWS, N>(rows, a_row, 1, b, TILE, n, false, to, TILE);
  }
}

inline void scores(const float* a, int64_t a_row, const float* b, int n, Part part, float* c) {
  if constexpr (LANES == 16) return score_strips<3>(a, a_row, b, n, part, c);
  constexpr int ROWS = strip_rows(2);
  for (int r = 0; r < TILE; r += ROWS)
    for (int v = 0; v < VECTORS; v += 2) {
      if (part == LOWER && v * LANES >= r + ROWS) break;
      strip<ROWS, 2>(a + r * a_row, a_row, 1, b + v * LANES, TILE, n, false, c + r * TILE + v * LANES, TILE);
    }
}

// c (TILE, width) += w b, or w^T b with TRANSPOSED: w (TILE, TILE), b (n, width); of w the first n columns (rows) count.
template <int N, bool TRANSPOSED>
inline void weighted_strips(const float* w, const float* b, int64_t width, int n, Part part, bool add, float* c) {
  constexpr int ROWS = strip_rows(N);
  for (int r = 0; r < TILE; r += ROWS) {
    int first = TRANSPOSED && part == LOWER ? r : 0;
    int last = !TRANSPOSED && part == LOWER ? std::min(n, r + ROWS) : n;
    if (first >= last) {
      first = last;
      if (add) continue;
    }
    if (TRANSPOSED) strip<ROWS, N>(w + first * TILE + r, 1, TILE, b + first * width, width, last - first, add, c + r * width, width);
    else strip<ROWS, N>(w + r * TILE, TILE, 1, b, width, last, add, c + r * width, width);
  }
}

template <bool TRANSPOSED>
inline void weighted_sums(const float* w, const float* b, int64_t width, int n, Part part, bool add, float* c) {
  for (int64_t at = 0; at < width;) {
    int left = int(width - at) / LANES, vectors = std::min(left, MAX_VECTORS);
    switch (vectors) {
      case 1: weighted_strips<1, TRANSPOSED>(w, b + at, width, n, part, add, c + at); break;
      case 2: weighted_strips<2, TRANSPOSED>(w, b + at, width, n, part, add, c + at); break;
#if defined(__AVX512F__)
      case 3: weighted_strips<3, TRANSPOSED>(w, b + at, width, n, part, add, c + at); break;
      default: weighted_strips<4, TRANSPOSED>(w, b + at, width, n, part, add, c + at);
#endif
    }
    at += vectors * LANES;
  }
}

// The larger of each lane; `b` where `a` is not a number.
inline Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

inline float largest_of(Floats v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float largest = v[0];
  for (int lane = 1; lane < LANES; lane++) largest = v[lane] > largest ? v[lane] : largest;
  return largest;
#endif
}

// 2^x to about one unit in the last place; 0 below 2^-126.
inline Floats exp2(Floats x) {
  const float magic = 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
  Floats shifted = x + magic, r = x - (shifted - magic);
  Floats p = r * 1.5353361816e-4f + 1.3398874446e-3f;
  p = fused_multiply_add(p, r, all(9.6184373583e-3f));
  p = fused_multiply_add(p, r, all(5.5503324710e-2f));
  p = fused_multiply_add(p, r, all(2.4022647914e-1f));
  p = fused_multiply_add(p, r, all(6.9314720286e-1f));
  p = fused_multiply_add(p, r, all(1.0f));
#if defined(__AVX512F__)
  __mmask16 large = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);  // or not a number
  return (Floats)_mm512_maskz_scalef_ps(large, (__m512)p, (__m512)(shifted - magic));
#else
  Ints bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127 << 23);  // the low bits of `shifted` are those of the integer
  Floats power;
  memcpy(&power, &bits, sizeof bits);
  p = p * power;
  return x < -126.0f ? all(0.0f) : p;
#endif
}

// to (n_columns, ROWS) = the transpose of rows (ROWS, n_columns) of stride `stride`; both sizes are multiples of 8.
template <int ROWS>
inline void transpose_rows(const float* from, int64_t stride, int64_t n_columns, float* to) {
#if defined(__AVX2__)
  for (int64_t i = 0; i < ROWS; i += 8)
    for (int64_t j = 0; j < n_columns; j += 8) {
      __m256 a[8], b[8];
      for (int k = 0; k < 8; k++) a[k] = _mm256_loadu_ps(from + (i + k) * stride + j);
      for (int k = 0; k < 4; k++) {
        b[2 * k] = _mm256_unpacklo_ps(a[2 * k], a[2 * k + 1]);
        b[2 * k + 1] = _mm256_unpackhi_ps(a[2 * k], a[2 * k + 1]);
      }
      for (int half = 0; half < 2; half++) {  // columns of rows 0 to 3, and of 4 to 7
        __m256* r = b + 4 * half;
        a[4 * half] = _mm256_shuffle_ps(r[0], r[2], 0x44), a[4 * half + 1] = _mm256_shuffle_ps(r[0], r[2], 0xee);
        a[4 * half + 2] = _mm256_shuffle_ps(r[1], r[3], 0x44), a[4 * half + 3] = _mm256_shuffle_ps(r[1], r[3], 0xee);
      }
      for (int k = 0; k < 4; k++) {
        _mm256_storeu_ps(to + (j + k) * ROWS + i, _mm256_permute2f128_ps(a[k], a[k + 4], 0x20));
        _mm256_storeu_ps(to + (j + k + 4) * ROWS + i, _mm256_permute2f128_ps(a[k], a[k + 4], 0x31));
      }
    }
#else
  for (int64_t i = 0; i < ROWS; i++)
    for (int64_t j = 0; j < n_columns; j++) to[j * ROWS + i] = from[i * stride + j];
#endif
}

}  // namespace parakit

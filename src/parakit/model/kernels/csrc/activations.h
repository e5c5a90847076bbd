// The inputs of products with quantized weights: int16 in groups of 32, a float scale each.
//
// 15 bits keep a product within about 2e-5 of its float32 value, and one instruction (pmaddwd, or VNNI's) multiplies
// and adds pairs. Integer sums within a group are exact; only the sums over groups round.
//
// Rows are padded with zeros to whole blocks. INT8 reads `values` in the natural order. INT4 reads each block of
// LANES * 8 elements as four vectors of 2 * LANES numbers: number i of vector j is element 4 i + j, which is what
// shifting 16-bit words of packed weights by 0, 4, 8 and 12 bits gives; four lanes of the 32-bit sums belong to each
// group of 32.
#pragma once
#include <cmath>
#include <vector>

#include "types.h"

namespace parakit {

constexpr int X_GROUP = 32;
constexpr int BLOCK = LANES * 8;  // elements; 2 groups with AVX2, 4 with AVX-512

inline int padded(int n) { return (n + BLOCK - 1) / BLOCK * BLOCK; }

// Views of one row's storage.
struct Activations {
  int16_t* values;  // (padded(n_in))
  float* scales;    // (padded(n_in) / 32)
  int32_t* sums;    // INT4: (padded(n_in) / 8), for each block -8 times the sum of each of its LANES lanes' numbers
};

inline int64_t activation_bytes(int n_in) { return int64_t(padded(n_in)) * 2 + padded(n_in) / 8 + padded(n_in) / 2; }

inline Activations activations_at(void* storage, int n_in) {
  char* p = static_cast<char*>(storage);
  int n = padded(n_in);
  return {reinterpret_cast<int16_t*>(p), reinterpret_cast<float*>(p + int64_t(n) * 2),
          reinterpret_cast<int32_t*>(p + int64_t(n) * 2 + n / 8)};
}

// int16 numbers of one group of 32 floats, in their order. Returns the scale: NaN where x has an infinity or a NaN.
inline float prepare_group(const float* x, int16_t* to) {
  Ints largest = {};
  for (int i = 0; i < X_GROUP; i += LANES) {
    Ints bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffff;
    largest = largest > bits ? largest : bits;  // the bits of absolute values are in the order of the values
  }
  int32_t most = 0;
  for (int lane = 0; lane < LANES; lane++) most = largest[lane] > most ? largest[lane] : most;
  bool finite = most < 0x7f800000;
  float size = from_bits(uint32_t(most)), scale = finite ? size / 32767.0f : __builtin_nanf("");
  float inverse = finite && scale > 0 ? 32767.0f / size : 0.0f;
#if defined(__AVX512BW__)
  for (int i = 0; i < X_GROUP; i += LANES) {
    __m512 v = finite ? (__m512)(load(x + i) * inverse) : _mm512_setzero_ps();
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v)));
  }
#elif defined(__AVX2__) && !defined(__AVX512F__)
  for (int i = 0; i < X_GROUP; i += 2 * LANES) {
    Floats a = finite ? load(x + i) * inverse : Floats{}, b = finite ? load(x + i + LANES) * inverse : Floats{};
    __m256i both = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)a), _mm256_cvtps_epi32((__m256)b));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), _mm256_permute4x64_epi64(both, 0xd8));
  }
#else
  for (int i = 0; i < X_GROUP; i++) to[i] = int16_t(std::nearbyint(finite ? x[i] * inverse : 0.0f));
#endif
  return scale;
}

// The order of INT4: number 4 i + j of the block becomes number i of vector j.
inline void deal_block(const int16_t* block, int16_t* to) {
#if defined(__AVX512BW__)
  for (int part = 0; part < 4; part++) {
    __m512i v = _mm512_loadu_si512(block + part * 32);
    for (int j = 0; j < 4; j++)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + j * 32 + part * 8),
                       _mm512_cvtepi64_epi16(_mm512_srli_epi64(v, 16 * j)));
  }
#elif defined(__AVX2__) && !defined(__AVX512F__)
  const __m256i pairs = _mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15,  //
                                         0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  __m256i v[4];
  for (int part = 0; part < 4; part++)
    v[part] = _mm256_shuffle_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + part * 16)), pairs);
  __m256i low01 = _mm256_unpacklo_epi32(v[0], v[1]), high01 = _mm256_unpackhi_epi32(v[0], v[1]);
  __m256i low23 = _mm256_unpacklo_epi32(v[2], v[3]), high23 = _mm256_unpackhi_epi32(v[2], v[3]);
  v[0] = _mm256_unpacklo_epi64(low01, low23);
  v[1] = _mm256_unpackhi_epi64(low01, low23);
  v[2] = _mm256_unpacklo_epi64(high01, high23);
  v[3] = _mm256_unpackhi_epi64(high01, high23);
  for (int j = 0; j < 4; j++)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j * 16), _mm256_permutevar8x32_epi32(v[j], order));
#else
  for (int j = 0; j < 4; j++)
    for (int i = 0; i < 2 * LANES; i++) to[j * 2 * LANES + i] = block[4 * i + j];
#endif
}

// Quantize a row of n_in floats for weights of `kind`.
inline void prepare(const float* x, int n_in, int32_t kind, Activations out) {
  int n = padded(n_in);
  alignas(64) float last[BLOCK];
  alignas(64) int16_t block[BLOCK];
  for (int start = 0; start < n; start += BLOCK) {
    const float* from = x + start;
    if (int have = n_in - start; have < BLOCK) {
      memset(last, 0, sizeof last);
      memcpy(last, from, have * sizeof(float));
      from = last;
    }
    int16_t* to = kind == INT4 ? block : out.values + start;
    for (int g = 0; g < BLOCK; g += X_GROUP) out.scales[(start + g) / X_GROUP] = prepare_group(from + g, to + g);
    if (kind != INT4) continue;
    deal_block(block, out.values + start);
    int32_t* sums = out.sums + start / 8;
#if defined(__AVX2__) && !defined(__AVX512F__)
    __m256i total = _mm256_setzero_si256();
    for (int j = 0; j < 4; j++) {
      __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(out.values + start + j * 16));
      total = _mm256_add_epi32(total, _mm256_madd_epi16(v, _mm256_set1_epi16(-8)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), total);
#else
    for (int lane = 0; lane < LANES; lane++) {
      int32_t total = 0;
      for (int i = 0; i < 8; i++) total += block[8 * lane + i];
      sums[lane] = -8 * total;
    }
#endif
  }
}

}  // namespace parakit

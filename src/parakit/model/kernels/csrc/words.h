// Vectors of 16-bit integers whose products are summed in pairs, for quantized weights.
#pragma once
#include "types.h"

namespace parakit {

// 32-bit sums of products of pairs: acc[lane] + a[2 lane] b[2 lane] + a[2 lane + 1] b[2 lane + 1].
#if defined(__AVX512BW__)
typedef __m512i Words;
inline Words load_words(const void* p) { return _mm512_loadu_si512(p); }
inline Words widen_bytes(const int8_t* p) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Words multiply_add_pairs(Words acc, Words a, Words b) {
#if defined(__AVX512VNNI__)
  return _mm512_dpwssd_epi32(acc, a, b);
#else
  return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}
template <int J>
inline Words nibble(Words packed) {
  Words mask = _mm512_set1_epi16(15);
  if constexpr (J == 0) return _mm512_and_si512(packed, mask);
  if constexpr (J == 3) return _mm512_srli_epi16(packed, 12);
  return _mm512_and_si512(_mm512_srli_epi16(packed, 4 * J), mask);
}
inline Floats to_floats(Words v) { return (Floats)_mm512_cvtepi32_ps(v); }
inline Words from_ints(Ints v) { return (Words)v; }
#elif defined(__AVX2__) && !defined(__AVX512F__)
typedef __m256i Words;
inline Words load_words(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline Words widen_bytes(const int8_t* p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Words multiply_add_pairs(Words acc, Words a, Words b) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}
template <int J>
inline Words nibble(Words packed) {
  Words mask = _mm256_set1_epi16(15);
  if constexpr (J == 0) return _mm256_and_si256(packed, mask);
  if constexpr (J == 3) return _mm256_srli_epi16(packed, 12);
  return _mm256_and_si256(_mm256_srli_epi16(packed, 4 * J), mask);
}
inline Floats to_floats(Words v) { return (Floats)_mm256_cvtepi32_ps(v); }
inline Words from_ints(Ints v) { return (Words)v; }
#else  // plain code for other processors; the compiler vectorizes it
struct Words {
  int16_t at[2 * LANES];
};
inline Words load_words(const void* p) {
  Words v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline Words widen_bytes(const int8_t* p) {
  Words v;
  for (int i = 0; i < 2 * LANES; i++) v.at[i] = p[i];
  return v;
}
inline Words multiply_add_pairs(Words acc, Words a, Words b) {
  Ints sums;
  memcpy(&sums, &acc, sizeof sums);
  for (int i = 0; i < LANES; i++) sums[i] += a.at[2 * i] * b.at[2 * i] + a.at[2 * i + 1] * b.at[2 * i + 1];
  memcpy(&acc, &sums, sizeof sums);
  return acc;
}
template <int J>
inline Words nibble(Words packed) {
  for (int i = 0; i < 2 * LANES; i++) packed.at[i] = (uint16_t(packed.at[i]) >> (4 * J)) & 15;
  return packed;
}
inline Floats to_floats(Words v) {
  Ints ints;
  memcpy(&ints, &v, sizeof ints);
  Floats floats;
  for (int i = 0; i < LANES; i++) floats[i] = float(ints[i]);
  return floats;
}
inline Words from_ints(Ints v) {
  Words words;
  memcpy(&words, &v, sizeof v);
  return words;
}
#endif

}  // namespace parakit

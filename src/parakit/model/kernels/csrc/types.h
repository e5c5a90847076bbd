// What the kernels share: the layout of weights, vectors of floats, and the order of every sum.
//
// The order of a sum. An output element must not depend on how many tokens are computed at once, so that a request's
// tokens are equal alone, batched and in chunks. Every product therefore sums alike, whatever its tile:
//  - FP32, BF16, FP16: one vector accumulator of LANES floats per output element; k goes up in steps of LANES (the last
//    step padded with zeros); then `sum(v)`, then the bias.
//  - INT8, INT4: x is carried as int16 in groups of 32 (`Activations` in activations.h); see `products.h`.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace parakit {

enum Kind : int32_t { NONE = 0, FP32 = 1, BF16 = 2, FP16 = 3, INT8 = 4, INT4 = 5 };

// A matrix (n_out, n_in), row by row, as the module holds it. INT4: two a byte, the even element in the low nibble.
// The value of a quantized element is (q - zero) * scale; INT8 has no zero; INT4 without `zeros` has zero = 8.
struct Weight {
  int32_t kind;
  int32_t n_out, n_in;
  int32_t group;        // elements of a row that share a scale; 0: the whole row
  const void* data;
  const void* scales;   // group 0: float32 (n_out); else float16 (n_out, n_in / group)
  const uint8_t* zeros; // (n_out, n_in / group), or null
  const void* bias;     // (n_out), or null
  int32_t bias_kind;
  int32_t padding;
};

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));

inline float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline float bf16_value(uint16_t bits) { return from_bits(uint32_t(bits) << 16); }

inline uint16_t bf16_bits(float value) {  // rounds to even, as torch does
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float fp16_value(uint16_t half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#else
  uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 1023;
  if (exponent == 31) return from_bits(sign | 0x7f800000 | (fraction << 13));
  if (exponent) return from_bits(sign | ((exponent + 112) << 23) | (fraction << 13));
  float small = float(fraction) * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -small : small;
#endif
}

inline uint16_t fp16_bits(float value) {
#if defined(__F16C__)
  return _cvtss_sh(value, 0);
#else
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return uint16_t(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00);
  if (magnitude < 0x38800000) {  // below the smallest normal one: adding 0.5 rounds at 2^-24
    float shifted = from_bits(magnitude) + 0.5f;
    uint32_t rounded;
    memcpy(&rounded, &shifted, 4);
    return uint16_t(sign | (rounded - 0x3f000000));
  }
  uint32_t rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1);
  return uint16_t(sign | (rounded >> 13));
#endif
}

inline float element(const void* data, int32_t kind, int64_t i) {
  if (kind == BF16) return bf16_value(static_cast<const uint16_t*>(data)[i]);
  if (kind == FP16) return fp16_value(static_cast<const uint16_t*>(data)[i]);
  return static_cast<const float*>(data)[i];
}

inline Floats fused_multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline Floats all(float value) { return value - (Floats){}; }

// Zeros, one by one: the compiler fills an array by `rep stos`, which takes as long as a short row's products.
template <int R, int N>
inline void clear(Floats (&acc)[N][R]) {
#pragma GCC unroll 4
  for (int n = 0; n < N; n++)
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) acc[n][r] = all(0.0f);
}

inline Floats load(const float* p) {
  Floats v;
  memcpy(&v, p, sizeof v);
  return v;
}

// The compiler otherwise reads a vector from memory again for every use.
template <class V>
inline void keep_in_register(V& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__AVX2__)
  asm("" : "+x"(v));
#endif
}

// LANES numbers of any of the three kinds, as floats.
inline Floats load(const void* data, int32_t kind, int64_t i);

inline void store(float* p, Floats v) { memcpy(p, &v, sizeof v); }

// The sum of all lanes, always in this order: halves, quarters, ...
inline float sum(Floats v) {
  typedef float Four __attribute__((vector_size(16)));
  const Four* part = reinterpret_cast<const Four*>(&v);
#if defined(__AVX512F__)
  Four four = (part[0] + part[2]) + (part[1] + part[3]);
#else
  Four four = part[0] + part[1];
#endif
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// The sums of four vectors, each in the order of `sum`.
inline void sum4(const Floats* v, int stride, float to[4]) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  auto half = [](Floats a) { return _mm_add_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1)); };
  __m128 a = half(v[0]), b = half(v[stride]), c = half(v[2 * stride]), d = half(v[3 * stride]);
  __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
  __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
  _mm_storeu_ps(to, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
#else
  for (int i = 0; i < 4; i++) to[i] = sum(v[i * stride]);
#endif
}

template <int32_t KIND>
inline Floats load_as(const void* data, int64_t i) {
  if constexpr (KIND == FP32) return load(static_cast<const float*>(data) + i);
  const uint16_t* p = static_cast<const uint16_t*>(data) + i;
#if defined(__AVX512F__)
  __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  if constexpr (KIND == BF16) return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16);
  return (Floats)_mm512_cvtph_ps(raw);
#elif defined(__AVX2__) && defined(__F16C__)
  __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  if constexpr (KIND == BF16) return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16);
  return (Floats)_mm256_cvtph_ps(raw);
#else
  Floats v;
  for (int j = 0; j < LANES; j++) v[j] = KIND == BF16 ? bf16_value(p[j]) : fp16_value(p[j]);
  return v;
#endif
}

// The last n < LANES numbers of a row, the rest zero.
template <int32_t KIND>
inline Floats load_tail(const void* data, int64_t i, int n) {
  Floats v = {};
  for (int j = 0; j < n; j++) v[j] = element(data, KIND, i + j);
  return v;
}

inline Floats load(const void* data, int32_t kind, int64_t i) {
  if (kind == BF16) return load_as<BF16>(data, i);
  if (kind == FP16) return load_as<FP16>(data, i);
  return load_as<FP32>(data, i);
}

}  // namespace parakit

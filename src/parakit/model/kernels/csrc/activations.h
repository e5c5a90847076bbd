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
  int32_t* sums;    // INT4: (padded(n_in) / 8), for each block the sum of the numbers of each of its LANES lanes
};

inline int64_t activation_bytes(int n_in) { return int64_t(padded(n_in)) * 2 + padded(n_in) / 8 + padded(n_in) / 2; }

inline Activations activations_at(void* storage, int n_in) {
  char* p = static_cast<char*>(storage);
  int n = padded(n_in);
  return {reinterpret_cast<int16_t*>(p), reinterpret_cast<float*>(p + int64_t(n) * 2),
          reinterpret_cast<int32_t*>(p + int64_t(n) * 2 + n / 8)};
}

// Quantize a row of n_in floats for weights of `kind`.
inline void prepare(const float* x, int n_in, int32_t kind, Activations out) {
  int n = padded(n_in);
  alignas(64) float group[X_GROUP];
  alignas(64) int16_t block[BLOCK];
  for (int start = 0; start < n; start += BLOCK) {
    for (int g = 0; g < BLOCK / X_GROUP; g++) {
      int at = start + g * X_GROUP, have = n_in - at;
      const float* from = x + at;
      if (have < X_GROUP) {
        memset(group, 0, sizeof group);
        if (have > 0) memcpy(group, from, have * 4);
        from = group;
      }
      float largest = 0, check = 0;
      for (int i = 0; i < X_GROUP; i += LANES) {
        Floats v = load(from + i), size = v < 0 ? -v : v;
        for (int lane = 0; lane < LANES; lane++) largest = size[lane] > largest ? size[lane] : largest;
        check += sum(v * 0.0f);
      }
      bool finite = check == 0;  // not where x has an infinity or a NaN: the product is NaN then
      out.scales[at / X_GROUP] = finite ? largest / 32767.0f : __builtin_nanf("");
      float inverse = largest > 0 && finite ? 32767.0f / largest : 0.0f;
      for (int i = 0; i < X_GROUP; i++) {
        float value = finite ? from[i] * inverse : 0.0f;
        block[g * X_GROUP + i] = int16_t(int32_t(value + (value < 0 ? -0.5f : 0.5f)));
      }
    }
    if (kind == INT8) {
      memcpy(out.values + start, block, sizeof block);
      continue;
    }
    int32_t* sums = out.sums + start / 8;
    for (int lane = 0; lane < LANES; lane++) sums[lane] = 0;
    for (int j = 0; j < 4; j++)
      for (int i = 0; i < 2 * LANES; i++) out.values[start + j * 2 * LANES + i] = block[4 * i + j];
    for (int lane = 0; lane < LANES; lane++)
      for (int i = 0; i < 8; i++) sums[lane] += block[8 * lane + i];
  }
}

}  // namespace parakit

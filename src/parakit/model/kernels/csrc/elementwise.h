// Norms, rotary positions, activations: what happens between the products. All in float32.
#pragma once
#include <cmath>

#include "model.h"
#include "types.h"

namespace parakit {

// exp(x), to about 2 units in the last place: 2^n times a polynomial of degree 6 on [-ln 2 / 2, ln 2 / 2].
inline Floats exp(Floats x) {
  x = x < -87.3f ? all(-87.3f) : x;
  x = x > 88.3f ? all(88.3f) : x;
  const float magic = 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
  Floats shifted = x * 1.44269504088896341f + magic, n = shifted - magic;
  Floats r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Ints bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127 << 23);  // the low bits of `shifted` are those of n
  Floats power;
  memcpy(&power, &bits, sizeof bits);
  return p * power;
}

inline Floats tanh(Floats x) {
  Floats size = x < 0 ? -x : x;
  Floats square = x * x;
  Floats small = x + x * square * (-0.333333333f + square * (0.133333333f + square * -0.0539682540f));
  Floats large = 1.0f - 2.0f / (exp(size + size) + 1.0f);
  large = x < 0 ? -large : large;
  return size < 0.125f ? small : large;
}

inline Floats activate(Floats x, int32_t activation) {
  switch (activation) {
    case SILU: return x / (1.0f + exp(-x));
    case GELU: {
      for (int i = 0; i < LANES; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678118654752f));
      return x;
    }
    case GELU_TANH: return 0.5f * x * (1.0f + tanh(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case RELU: return x < 0 ? all(0.0f) : x;
    default: {
      Floats positive = x < 0 ? all(0.0f) : x;
      return positive * positive;
    }
  }
}

// f(at, vector) for each LANES floats of a row of n; the last vector is padded with zeros.
template <class F>
inline void each_vector(const float* x, int n, F f) {
  int i = 0;
  for (; i + LANES <= n; i += LANES) f(i, load(x + i), LANES);
  if (i < n) f(i, load_tail<FP32>(x, i, n - i), n - i);
}

inline void store_some(float* to, Floats v, int n) {
  if (n == LANES) return store(to, v);
  for (int i = 0; i < n; i++) to[i] = v[i];
}

inline Floats load_some(const void* data, int32_t kind, int64_t i, int n) {
  if (n == LANES) return load(data, kind, i);
  Floats v = {};
  for (int j = 0; j < n; j++) v[j] = element(data, kind, i + j);
  return v;
}

// to = norm(x) over n features; the weight's first element is `first`. `to` may be x.
inline void apply_norm(const Norm& norm, const float* x, int n, float* to, int64_t first = 0) {
  if (norm.type == 0) {
    if (to != x) memcpy(to, x, n * sizeof(float));
    return;
  }
  float mean = 0;
  if (norm.type == 2) {
    Floats total = {};
    each_vector(x, n, [&](int, Floats v, int) { total += v; });
    mean = sum(total) / float(n);
  }
  Floats squares = {};
  each_vector(x, n, [&](int, Floats v, int have) {
    if (norm.type == 2) {
      v = v - mean;
      for (int i = have; i < LANES; i++) v[i] = 0;
    }
    squares = fused_multiply_add(v, v, squares);
  });
  float inverse = 1.0f / std::sqrt(sum(squares) / float(n) + norm.eps);
  each_vector(x, n, [&](int i, Floats v, int have) {
    v = (v - mean) * inverse;
    if (norm.weight) {
      Floats weight = load_some(norm.weight, norm.kind, first + i, have);
      v = v * (norm.plus_one ? weight + 1.0f : weight);
    }
    if (norm.bias) v = v + load_some(norm.bias, norm.kind, first + i, have);
    store_some(to + i, v, have);
  });
}

// The norm of queries or keys (n_heads, head_dim).
inline void norm_heads(const Norm& norm, float* x, int n_heads, int head_dim) {
  if (norm.type == 0) return;
  if (norm.shape == 2) return apply_norm(norm, x, n_heads * head_dim, x);
  for (int h = 0; h < n_heads; h++)
    apply_norm(norm, x + h * head_dim, head_dim, x + h * head_dim, norm.shape == 1 ? h * head_dim : 0);
}

// Rotate the first `width` features of each head by the angles of one position: feature i with i + width / 2.
inline void rotate_heads(float* x, int n_heads, int head_dim, int width, const float* cos, const float* sin) {
  int half = width / 2;
  for (int h = 0; h < n_heads; h++, x += head_dim) {
    for (int i = 0; i < half; i++) {
      float left = x[i], right = x[i + half];
      x[i] = left * cos[i] - right * sin[i];
      x[i + half] = right * cos[i + half] + left * sin[i + half];
    }
  }
}

// h = act(gate) * up, or act(up) without a gate. `to` may be `up`.
inline void gate_and_up(int32_t activation, const float* gate, const float* up, int n, float* to) {
  each_vector(up, n, [&](int i, Floats v, int have) {
    if (gate) v = activate(load_some(gate, FP32, i, have), activation) * v;
    else v = activate(v, activation);
    store_some(to + i, v, have);
  });
}

// x += scale * y
inline void add_scaled(float* x, const float* y, float scale, int n) {
  for (int i = 0; i < n; i++) x[i] += y[i] * scale;
}

inline void soft_cap(float* x, float cap, int64_t n) {
  for (int64_t i = 0; i < n; i += LANES) {
    int have = n - i < LANES ? int(n - i) : LANES;
    store_some(x + i, cap * tanh(load_some(x, FP32, i, have) / cap), have);
  }
}

// A row of the token embedding, as floats.
inline void embed(const Weight& w, int64_t row, float* to) {
  int n_groups = w.group ? w.n_in / w.group : 1;
  for (int i = 0; i < w.n_in; i++) {
    int64_t at = row * w.n_in + i;
    if (w.kind != INT8 && w.kind != INT4) {
      to[i] = element(w.data, w.kind, at);
      continue;
    }
    int64_t group = row * n_groups + (w.group ? i / w.group : 0);
    float scale = w.group ? fp16_value(static_cast<const uint16_t*>(w.scales)[group])
                          : static_cast<const float*>(w.scales)[group];
    if (w.kind == INT8) {
      to[i] = float(static_cast<const int8_t*>(w.data)[at]) * scale;
      continue;
    }
    int packed = static_cast<const uint8_t*>(w.data)[at / 2];
    int value = at % 2 ? packed >> 4 : packed & 15;
    to[i] = float(value - (w.zeros ? w.zeros[group] : 8)) * scale;
  }
}

}  // namespace parakit

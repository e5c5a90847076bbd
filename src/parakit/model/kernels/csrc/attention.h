// Attention of new tokens to a paged cache of keys and values.
//
// The slots of a row are cut into chunks of 64 at fixed places. Each chunk gives, for each query head, its largest
// score, the sum of exponentials and the weighted values; `merge` joins the chunks of a token in their order (Dao et
// al. 2023, "Flash-decoding"). The result thus depends neither on how many tokens are computed at once nor on how
// many threads there are.
#pragma once
#include "elementwise.h"

namespace parakit {

constexpr int CHUNK = 64;

inline int64_t cell_of(const Model& m, const Cache& cache, const LayerCache& layer, int row, int slot, int kv_head) {
  int64_t page = layer.page_table[int64_t(row) * cache.pages_per_row + slot / cache.page_size];
  return (page * m.n_kv_heads + kv_head) * cache.page_size + slot % cache.page_size;
}

// Store the key and value (n_kv_heads, head_dim) of one token.
inline void store_cell(int32_t kind, void* data, float* scales, int64_t cell, const float* x, int n) {
  if (kind == FP32) {
    memcpy(static_cast<float*>(data) + cell * n, x, n * sizeof(float));
  } else if (kind == INT8) {
    float largest = 0;
    for (int i = 0; i < n; i++) largest = __builtin_fabsf(x[i]) > largest ? __builtin_fabsf(x[i]) : largest;
    float scale = largest / 127.0f;
    scales[cell] = scale;
    for (int i = 0; i < n; i++)
      static_cast<int8_t*>(data)[cell * n + i] = scale > 0 ? int8_t(std::nearbyint(x[i] / scale)) : 0;
  } else {
    uint16_t* to = static_cast<uint16_t*>(data) + cell * n;
    for (int i = 0; i < n; i++) to[i] = kind == BF16 ? bf16_bits(x[i]) : fp16_bits(x[i]);
  }
}

template <int32_t KIND>
inline Floats load_cell(const void* data, int64_t i) {
  if constexpr (KIND != INT8) return load_as<KIND>(data, i);
  const int8_t* p = static_cast<const int8_t*>(data) + i;
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Floats v;
  for (int j = 0; j < LANES; j++) v[j] = float(p[j]);
  return v;
#endif
}

template <int32_t KIND>
inline Floats load_cell_some(const void* data, int64_t i, int n) {
  if (n == LANES) return load_cell<KIND>(data, i);
  Floats v = {};
  for (int j = 0; j < n; j++)
    v[j] = KIND == INT8 ? float(static_cast<const int8_t*>(data)[i + j]) : element(data, KIND, i + j);
  return v;
}

// One chunk's result for one head: largest score, sum of exponentials, weighted values.
inline int64_t partial_floats(const Model& m) { return m.head_dim + 2; }

// The chunks of a token at `position`: from `first` on, `count` of them.
struct Chunks {
  int first, count, start;  // `start`: the first slot that the query sees
};

inline Chunks chunks_of(const Layer& layer, int position) {
  int start = layer.window && position + 1 > layer.window ? position + 1 - layer.window : 0;
  return {start / CHUNK, position / CHUNK - start / CHUNK + 1, start};
}

struct Softmax {
  float largest, total;
};

// Replace n scores by exp(score - largest); there is room for a whole number of vectors.
inline Softmax exponentials(float* scores, int n) {
  int n_padded = (n + LANES - 1) / LANES * LANES;
  for (int s = n; s < n_padded; s++) scores[s] = -1e30f;
  Floats most = load(scores);
  for (int s = LANES; s < n_padded; s += LANES) {
    Floats v = load(scores + s);
    most = v > most ? v : most;
  }
  float largest = most[0];
  for (int lane = 1; lane < LANES; lane++) largest = most[lane] > largest ? most[lane] : largest;
  Floats totals = {};
  for (int s = 0; s < n_padded; s += LANES) {
    Floats e = exp(load(scores + s) - largest);
    store(scores + s, e);
    if (s + LANES > n) {
      for (int i = n; i < n_padded; i++) scores[i] = 0;
      e = load(scores + s);
    }
    totals += e;
  }
  return {largest, sum(totals)};
}

// The cells of slots begin..end of a row: consecutive ones within a page.
inline void cells_of(const Model& m, const Cache& cache, const LayerCache& layer, int row, int begin, int end,
                     int kv_head, int64_t* cells) {
  for (int s = begin; s < end;) {
    int64_t cell = cell_of(m, cache, layer, row, s, kv_head);
    int page_end = (s / cache.page_size + 1) * cache.page_size;
    for (; s < end && s < page_end; s++) *cells++ = cell++;
  }
}

// scores[s] = key s . query, for four slots at a time, each with one accumulator.
template <int32_t KIND>
inline void score_slots(const void* keys, const int64_t* cells, int n, const float* query, int dim, float* scores) {
  for (int s = 0; s < n; s += 4) {
    int64_t at[4];
    for (int j = 0; j < 4; j++) at[j] = cells[s + j < n ? s + j : n - 1] * dim;
    Floats acc[4] = {};
    int i = 0;
    for (; i + LANES <= dim; i += LANES) {
      Floats q = load(query + i);
      for (int j = 0; j < 4; j++) acc[j] = fused_multiply_add(load_cell<KIND>(keys, at[j] + i), q, acc[j]);
    }
    if (i < dim) {
      Floats q = load_tail<FP32>(query, i, dim - i);
      for (int j = 0; j < 4; j++) acc[j] = fused_multiply_add(load_cell_some<KIND>(keys, at[j] + i, dim - i), q, acc[j]);
    }
    sum4(acc, 1, scores + s);
  }
}

// to[i] = the sum over slots of weight times value, for V vectors of features from `i` on.
template <int32_t KIND, int V>
inline void weigh_values(const void* values, const int64_t* cells, int n, const float* weights, int dim, int i, float* to) {
  Floats acc[V] = {};
  for (int s = 0; s < n; s++) {
    Floats weight = all(weights[s]);
    for (int v = 0; v < V; v++)
      acc[v] = fused_multiply_add(load_cell<KIND>(values, cells[s] * dim + i + v * LANES), weight, acc[v]);
  }
  for (int v = 0; v < V; v++) store(to + i + v * LANES, acc[v]);
}

// Query heads of one key-value head against one chunk. query (n_group, head_dim); out (n_group, n_partial).
template <int32_t KIND>
inline void attend_chunk(const Model& m, const Cache& cache, const LayerCache& layer, int row, int kv_head, int begin,
                         int end, const float* query, float* out, int64_t out_stride) {
  const int n_group = m.n_heads / m.n_kv_heads, dim = m.head_dim, n = end - begin;
  float scores[CHUNK];
  int64_t cells[CHUNK];
  cells_of(m, cache, layer, row, begin, end, kv_head, cells);
  for (int h = 0; h < n_group; h++) {
    score_slots<KIND>(layer.keys, cells, n, query + h * dim, dim, scores);
    for (int s = 0; s < n; s++) {
      scores[s] *= m.attention_scale;
      if constexpr (KIND == INT8) scores[s] *= layer.key_scales[cells[s]];
    }
    if (m.attention_soft_cap > 0) soft_cap(scores, m.attention_soft_cap, n);
    Softmax softmax = exponentials(scores, n);
    float* to = out + h * out_stride;
    to[0] = softmax.largest;
    to[1] = softmax.total;
    if constexpr (KIND == INT8)
      for (int s = 0; s < n; s++) scores[s] *= layer.value_scales[cells[s]];
    int i = 0;
    for (; i + 8 * LANES <= dim; i += 8 * LANES) weigh_values<KIND, 8>(layer.values, cells, n, scores, dim, i, to + 2);
    for (; i + 2 * LANES <= dim; i += 2 * LANES) weigh_values<KIND, 2>(layer.values, cells, n, scores, dim, i, to + 2);
    for (; i < dim; i += LANES) {
      int have = dim - i < LANES ? dim - i : LANES;
      Floats acc = {};
      for (int s = 0; s < n; s++)
        acc = fused_multiply_add(load_cell_some<KIND>(layer.values, cells[s] * dim + i, have), all(scores[s]), acc);
      store_some(to + 2 + i, acc, have);
    }
  }
}

inline void attend(const Model& m, const Cache& cache, const LayerCache& layer, int row, int kv_head, int begin, int end,
                   const float* query, float* out, int64_t out_stride) {
  switch (cache.kind) {
    case FP32: return attend_chunk<FP32>(m, cache, layer, row, kv_head, begin, end, query, out, out_stride);
    case BF16: return attend_chunk<BF16>(m, cache, layer, row, kv_head, begin, end, query, out, out_stride);
    case FP16: return attend_chunk<FP16>(m, cache, layer, row, kv_head, begin, end, query, out, out_stride);
    default: return attend_chunk<INT8>(m, cache, layer, row, kv_head, begin, end, query, out, out_stride);
  }
}

// Add a chunk's result to those before it: `values` (dim) are relative to `state.largest`.
inline void join(Softmax& state, float* values, const float* partial, int dim) {
  float weight = 1;
  if (partial[0] > state.largest) {
    float shrink = std::exp(state.largest - partial[0]);
    state = {partial[0], state.total * shrink};
    for (int i = 0; i < dim; i++) values[i] *= shrink;
  } else {
    weight = std::exp(partial[0] - state.largest);
  }
  state.total += weight * partial[1];
  for (int i = 0; i < dim; i++) values[i] += weight * partial[2 + i];
}

// What a head's softmax holds before the first chunk: nothing, or the sink's weight.
inline Softmax empty_softmax(const Layer& layer, int head) {
  if (layer.sinks) return {element(layer.sinks, layer.sinks_kind, head), 1};
  return {-INFINITY, 0};
}

// Join the `count` partial results of one head, `stride` floats apart, into (head_dim) values.
inline void merge(const float* partials, int count, int64_t stride, const Layer& layer, int head, int dim, float* to) {
  Softmax state = empty_softmax(layer, head);
  for (int i = 0; i < dim; i++) to[i] = 0;
  for (int c = 0; c < count; c++) join(state, to, partials + c * stride, dim);
  for (int i = 0; i < dim; i++) to[i] /= state.total;
}

}  // namespace parakit

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

// Within what float16 holds: a large key or value is cut, not infinite. A NaN stays one.
inline float saturated(float x) {
  x = x > 65504.0f ? 65504.0f : x;
  return x < -65504.0f ? -65504.0f : x;
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
    for (int i = 0; i < n; i++) to[i] = kind == BF16 ? bf16_bits(x[i]) : fp16_bits(saturated(x[i]));
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

// Fetch the cache lines of n elements.
template <int32_t KIND>
inline void fetch(const void* data, int64_t i, int n) {
  constexpr int bytes = KIND == FP32 ? 4 : KIND == INT8 ? 1 : 2;
  const char* from = static_cast<const char*>(data) + i * bytes;
  for (int at = 0; at < n * bytes; at += 64) __builtin_prefetch(from + at);
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

// scores[h][s] = key s . query h for H heads that share the keys: four slots at a time, each with one accumulator a head.
// Values of the same cells are fetched meanwhile.
template <int32_t KIND, int H>
inline void score_slots(const void* keys, const void* values, const int64_t* cells, int n, const float* queries, int dim,
                        float (*scores)[CHUNK]) {
  for (int s = 0; s < n; s += 4) {
    int64_t at[4];
    for (int j = 0; j < 4; j++) at[j] = cells[s + j < n ? s + j : n - 1] * dim;
    Floats acc[H][4];
    clear<4, H>(acc);
    for (int j = 0; j < 4; j++) fetch<KIND>(values, at[j], dim);
    int i = 0;
    for (; i + LANES <= dim; i += LANES) {
      Floats q[H];
      for (int h = 0; h < H; h++) q[h] = load(queries + h * dim + i);
      for (int j = 0; j < 4; j++) {
        Floats key = load_cell<KIND>(keys, at[j] + i);
        for (int h = 0; h < H; h++) acc[h][j] = fused_multiply_add(key, q[h], acc[h][j]);
      }
    }
    if (i < dim) {
      for (int j = 0; j < 4; j++) {
        Floats key = load_cell_some<KIND>(keys, at[j] + i, dim - i);
        for (int h = 0; h < H; h++)
          acc[h][j] = fused_multiply_add(key, load_tail<FP32>(queries + h * dim, i, dim - i), acc[h][j]);
      }
    }
    for (int h = 0; h < H; h++) sum4(acc[h], 1, scores[h] + s);
  }
}

// to[h][i] = the sum over slots of weight times value, for V vectors of features from `i` on and H heads.
template <int32_t KIND, int H, int V>
inline void weigh_values(const void* values, const int64_t* cells, int n, const float (*weights)[CHUNK], int dim, int i,
                         float* to, int64_t stride) {
  Floats acc[H][V];
  clear<V, H>(acc);
  for (int s = 0; s < n; s++) {
    Floats value[V];
    for (int v = 0; v < V; v++) value[v] = load_cell<KIND>(values, cells[s] * dim + i + v * LANES);
    for (int h = 0; h < H; h++)
      for (int v = 0; v < V; v++) acc[h][v] = fused_multiply_add(value[v], all(weights[h][s]), acc[h][v]);
  }
  for (int h = 0; h < H; h++)
    for (int v = 0; v < V; v++) store(to + h * stride + i + v * LANES, acc[h][v]);
}

// H query heads of one key-value head against one chunk. queries (H, head_dim); out: a partial result of each, a stride apart.
template <int32_t KIND, int H>
inline void attend_heads(const Model& m, const LayerCache& layer, const int64_t* cells, int n, const float* queries,
                         float* out, int64_t out_stride) {
  const int dim = m.head_dim;
  float scores[H][CHUNK];
  score_slots<KIND, H>(layer.keys, layer.values, cells, n, queries, dim, scores);
  for (int h = 0; h < H; h++) {
    for (int s = 0; s < n; s++) {
      scores[h][s] *= m.attention_scale;
      if constexpr (KIND == INT8) scores[h][s] *= layer.key_scales[cells[s]];
    }
    if (m.attention_soft_cap > 0) soft_cap(scores[h], m.attention_soft_cap, n);
    Softmax softmax = exponentials(scores[h], n);
    out[h * out_stride] = softmax.largest;
    out[h * out_stride + 1] = softmax.total;
    if constexpr (KIND == INT8)
      for (int s = 0; s < n; s++) scores[h][s] *= layer.value_scales[cells[s]];
  }
  float* to = out + 2;
  constexpr int V = H == 1 ? 8 : 4;
  int i = 0;
  for (; i + V * LANES <= dim; i += V * LANES)
    weigh_values<KIND, H, V>(layer.values, cells, n, scores, dim, i, to, out_stride);
  for (; i + LANES <= dim; i += LANES) weigh_values<KIND, H, 1>(layer.values, cells, n, scores, dim, i, to, out_stride);
  if (i < dim) {
    for (int h = 0; h < H; h++) {
      Floats acc = {};
      for (int s = 0; s < n; s++)
        acc = fused_multiply_add(load_cell_some<KIND>(layer.values, cells[s] * dim + i, dim - i), all(scores[h][s]), acc);
      store_some(to + h * out_stride + i, acc, dim - i);
    }
  }
}

// Query heads of one key-value head against one chunk. query (n_group, head_dim); out (n_group, n_partial).
template <int32_t KIND>
inline void attend_chunk(const Model& m, const Cache& cache, const LayerCache& layer, int row, int kv_head, int begin,
                         int end, const float* query, float* out, int64_t out_stride) {
  const int n_group = m.n_heads / m.n_kv_heads, n = end - begin;
  int64_t cells[CHUNK];
  cells_of(m, cache, layer, row, begin, end, kv_head, cells);
  for (int h = 0; h < n_group;) {
    const float* queries = query + h * m.head_dim;
    float* to = out + h * out_stride;
    int left = n_group - h, count = left == 4 ? 2 : left < 3 ? left : 3;
    if (count == 3) attend_heads<KIND, 3>(m, layer, cells, n, queries, to, out_stride);
    else if (count == 2) attend_heads<KIND, 2>(m, layer, cells, n, queries, to, out_stride);
    else attend_heads<KIND, 1>(m, layer, cells, n, queries, to, out_stride);
    h += count;
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

// Attention of a training step and its gradients, without the scores of all pairs in memory (Dao et al. 2022,
// "FlashAttention"): forward a block of queries has all of its scores at once, backward they are computed again from the
// normaliser of each query, tile by tile. Tiles that a mask hides are left out.
//
// Each head of each row is one piece of work, whose sums have one order; the gradients of keys and values that several
// heads share are added up head by head afterwards. The result is the same for any number of threads.
//
// Shapes: B rows, H heads, G heads of keys and values, T queries, S keys, D head_dim, W = D rounded up to vectors.
#pragma once
#include "attention_tiles.h"
#include "elementwise.h"
#include "pool.h"
#include "training.h"

namespace parakit {

struct Strides {
  int64_t batch, head, token;  // in floats; the last dimension has stride 1
};

// As `training.py` lays it out.
struct AttentionSizes {
  int64_t n_batch, n_heads, n_kv_heads, n_queries, n_keys, head_dim;
  int64_t causal;                        // n_queries = n_keys, and no mask
  int64_t mask_batch, mask_query;        // strides of the mask in bytes; keys have stride 1
  Strides query, key, value, output;     // the gradient of each has the same strides
};

enum TileKind : uint8_t { HIDDEN, VISIBLE, MIXED };

inline int64_t tiles_of(int64_t n) { return (n + TILE - 1) / TILE; }

// What all threads know: the sizes, and for each pair of tiles whether its queries see its keys.
struct AttentionPlan {
  const AttentionSizes& s;
  const uint8_t* mask;  // (B, T, S), or null
  float scale;
  int64_t n_query_tiles, n_key_tiles, width;
  std::vector<uint8_t> kinds;  // (B, query tiles, key tiles); empty without a mask

  AttentionPlan(const AttentionSizes& sizes, const uint8_t* mask, float scale) : s(sizes), mask(mask), scale(scale) {
    n_query_tiles = tiles_of(s.n_queries), n_key_tiles = tiles_of(s.n_keys);
    width = (s.head_dim + LANES - 1) / LANES * LANES;
    if (mask) kinds.resize((s.mask_batch ? s.n_batch : 1) * n_query_tiles * n_key_tiles);
  }

  int queries_of(int64_t i) const { return int(std::min<int64_t>(TILE, s.n_queries - i * TILE)); }
  int keys_of(int64_t j) const { return int(std::min<int64_t>(TILE, s.n_keys - j * TILE)); }
  const uint8_t* mask_of(int64_t batch, int64_t query) const { return mask + batch * s.mask_batch + query * s.mask_query; }
  size_t kind_at(int64_t batch, int64_t i, int64_t j) const {
    return size_t(((s.mask_batch ? batch : 0) * n_query_tiles + i) * n_key_tiles + j);
  }

  // A part of the work on the mask, then a barrier.
  void read_mask(Team& team) {
    if (!mask) return;
    int64_t n = int64_t(kinds.size());
    for (int64_t at; (at = team.take(16)) < n;)
      for (int64_t k = at; k < std::min(n, at + 16); k++) {
        int64_t j = k % n_key_tiles, i = k / n_key_tiles % n_query_tiles, batch = k / n_key_tiles / n_query_tiles;
        int64_t n_visible = 0, keys = keys_of(j);
        for (int64_t q = 0; q < queries_of(i); q++) {
          const uint8_t* row = mask_of(batch, i * TILE + q) + j * TILE;
          for (int64_t key = 0; key < keys; key++) n_visible += row[key];
        }
        kinds[k] = !n_visible ? HIDDEN : n_visible == queries_of(i) * keys && keys == TILE ? VISIBLE : MIXED;
      }
    team.barrier();
  }

  TileKind kind(int64_t batch, int64_t i, int64_t j) const {
    if (s.causal) return j > i ? HIDDEN : j == i ? MIXED : VISIBLE;
    if (mask) return TileKind(kinds[kind_at(batch, i, j)]);
    return keys_of(j) == TILE ? VISIBLE : MIXED;
  }
  Part part(int64_t i, int64_t j) const { return s.causal && i == j ? LOWER : WHOLE; }

  // Scores (TILE, TILE) that a query does not see become -infinity.
  void hide(int64_t batch, int64_t i, int64_t j, float* scores) const {
    int n_queries = queries_of(i), n_keys = keys_of(j);
    for (int q = 0; q < TILE; q++) {
      float* row = scores + q * TILE;
      int n = s.causal ? std::min(n_keys, q + 1) : n_keys;
      if (mask && q < n_queries) {
        const uint8_t* seen = mask_of(batch, i * TILE + q) + j * TILE;
        for (int key = 0; key < n; key++) row[key] = seen[key] ? row[key] : -INFINITY;
      }
      for (int key = n; key < TILE; key++) row[key] = -INFINITY;
    }
  }
};

// Rows (n, d) of any stride, times `factor`, as (tiles of n, TILE, width) with zeros around them.
inline void pack_rows(const float* from, int64_t stride, int64_t n, int64_t d, int64_t width, float factor, float* to) {
  int64_t n_padded = tiles_of(n) * TILE;
  for (int64_t row = 0; row < n; row++, from += stride, to += width) {
    each_vector(from, int(d), [&](int i, Floats v, int) { store(to + i, v * factor); });
  }
  memset(to, 0, (n_padded - n) * width * sizeof(float));
}

inline void transpose_tiles(const float* rows, int64_t n_tiles, int64_t width, float* to) {
  for (int64_t j = 0; j < n_tiles; j++)
    transpose_rows<TILE>(rows + j * TILE * width, width, width, to + j * TILE * width);
}

struct AttentionForward {
  const AttentionPlan& plan;
  const float *query, *key, *value;
  float *output, *normalizer;  // (B, H, T): the logarithm to base 2 of the sum of 2^score
  std::vector<int64_t> visible;  // tiles of keys that the tile of queries sees

  void run(int64_t piece) {
    const AttentionSizes& s = plan.s;
    int64_t batch = piece / s.n_heads, head = piece % s.n_heads, group = head / (s.n_heads / s.n_kv_heads);
    int64_t width = plan.width, n_keys = plan.n_key_tiles * TILE;
    static thread_local Scratch scratch;
    int64_t n_floats = n_keys * (2 * width + TILE) + 2 * TILE * width;
    float* keys = static_cast<float*>(scratch.at_least(n_floats * sizeof(float)));
    float *values = keys + n_keys * width, *weights = values + n_keys * width, *queries = weights + n_keys * TILE,
          *sums = queries + TILE * width;
    pack_rows(key + batch * s.key.batch + group * s.key.head, s.key.token, s.n_keys, s.head_dim, width, 1.0f, values);
    transpose_tiles(values, plan.n_key_tiles, width, keys);
    pack_rows(value + batch * s.value.batch + group * s.value.head, s.value.token, s.n_keys, s.head_dim, width, 1.0f, values);
    for (int64_t i = 0; i < plan.n_query_tiles; i++) {
      const float* from = query + batch * s.query.batch + head * s.query.head + i * TILE * s.query.token;
      pack_rows(from, s.query.token, plan.queries_of(i), s.head_dim, width, plan.scale * LOG2_E, queries);
      compute_scores(batch, i, queries, keys, weights);
      float inverse[TILE];
      normalize(plan.queries_of(i), weights, normalizer + piece * s.n_queries + i * TILE, inverse);
      if (visible.empty()) memset(sums, 0, TILE * width * sizeof(float));
      for (int64_t j : visible)
        weighted_sums<false>(weights + j * TILE * TILE, values + j * TILE * width, width, plan.keys_of(j), plan.part(i, j),
                             j != visible.front(), sums);
      float* to = output + batch * s.output.batch + head * s.output.head + i * TILE * s.output.token;
      for (int q = 0; q < plan.queries_of(i); q++, to += s.output.token) unpack_row(sums + q * width, inverse[q], to);
    }
  }

  void compute_scores(int64_t batch, int64_t i, const float* queries, const float* keys, float* weights) {
    visible.clear();
    for (int64_t j = 0; j < plan.n_key_tiles; j++) {
      TileKind kind = plan.kind(batch, i, j);
      if (kind == HIDDEN) continue;
      visible.push_back(j);
      float* tile = weights + j * TILE * TILE;
      scores(queries, plan.width, keys + j * TILE * plan.width, int(plan.width), plan.part(i, j), tile);
      if (kind == MIXED) plan.hide(batch, i, j, tile);
    }
  }

  // Scores become 2^(score - largest); `inverse`: 1 / their sum.
  void normalize(int n_queries, float* weights, float* normalizers, float* inverse) {
    float largest[TILE], totals[TILE];
    for (int q = 0; q < n_queries; q++) {
      Floats most = all(-INFINITY), total = {};
      for (int64_t j : visible)
        for (int v = 0; v < VECTORS; v++) most = larger(load(weights + (j * TILE + q) * TILE + v * LANES), most);
      float shift = largest_of(most);
      largest[q] = shift = shift == -INFINITY ? 0.0f : shift;
      for (int64_t j : visible)
        for (int v = 0; v < VECTORS; v++) {
          float* at = weights + (j * TILE + q) * TILE + v * LANES;
          Floats e = exp2(load(at) - shift);
          total += e;
          store(at, e);
        }
      totals[q] = sum(total);
    }
    for (int q = 0; q < n_queries; q++) {
      inverse[q] = totals[q] == 0 ? 0.0f : 1.0f / totals[q];
      normalizers[q] = totals[q] == 0 ? INFINITY : largest[q] + std::log2(totals[q]);
    }
  }

  void unpack_row(const float* from, float factor, float* to) {
    each_vector(from, int(plan.s.head_dim), [&](int at, Floats v, int have) { store_some(to + at, v * factor, have); });
  }
};

// The gradients of one head; those of its keys and values go to (S, W) of its own where heads share them.
struct AttentionBackward {
  const AttentionPlan& plan;
  const float *query, *key, *value, *output, *normalizer, *slope;  // slope: the gradient of `output`
  float *grad_query, *grad_key, *grad_value;
  float* shared;  // (B, H, 2, S, D): gradients of keys and values by head; null where each head has its own
  // of the piece at work
  int64_t batch_ = 0, head_ = 0, width_ = 0;
  float *queries_ = nullptr, *slopes_ = nullptr, *keys_ = nullptr, *turned_keys_ = nullptr, *turned_values_ = nullptr;
  float *sums_ = nullptr, *sum_keys_ = nullptr, *sum_values_ = nullptr, *weights_ = nullptr, *slope_weights_ = nullptr;
  float *normalizers_ = nullptr, *means_ = nullptr;

  void run(int64_t piece) {
    const AttentionSizes& s = plan.s;
    batch_ = piece / s.n_heads, head_ = piece % s.n_heads;
    int64_t group = head_ / (s.n_heads / s.n_kv_heads);
    allocate();
    pack_rows(query + at(s.query, head_), s.query.token, s.n_queries, s.head_dim, width_, plan.scale * LOG2_E, queries_);
    pack_rows(slope + at(s.output, head_), s.output.token, s.n_queries, s.head_dim, width_, 1.0f, slopes_);
    pack_rows(key + at(s.key, group), s.key.token, s.n_keys, s.head_dim, width_, 1.0f, keys_);
    pack_rows(value + at(s.value, group), s.value.token, s.n_keys, s.head_dim, width_, 1.0f, sums_);
    transpose_tiles(sums_, plan.n_key_tiles, width_, turned_values_);
    transpose_tiles(keys_, plan.n_key_tiles, width_, turned_keys_);
    compute_means(piece);
    memset(sums_, 0, plan.n_query_tiles * TILE * width_ * sizeof(float));
    for (int64_t j = 0; j < plan.n_key_tiles; j++) {
      memset(sum_keys_, 0, 2 * TILE * width_ * sizeof(float));
      for (int64_t i = 0; i < plan.n_query_tiles; i++) run_tile(i, j);
      float *to_key = grad_key + at(s.key, group), *to_value = grad_value + at(s.value, group);
      int64_t key_stride = s.key.token, value_stride = s.value.token;
      if (shared) {
        to_key = shared + piece * 2 * s.n_keys * s.head_dim, to_value = to_key + s.n_keys * s.head_dim;
        key_stride = value_stride = s.head_dim;
      }
      unpack(sum_keys_, plan.keys_of(j), LN_2, to_key + j * TILE * key_stride, key_stride);
      unpack(sum_values_, plan.keys_of(j), 1.0f, to_value + j * TILE * value_stride, value_stride);
    }
    unpack(sums_, s.n_queries, plan.scale, grad_query + at(s.query, head_), s.query.token);
  }

  // The gradients of keys and values that heads share, added up head by head; a part of the rows.
  void add_shared(Team& team) {
    const AttentionSizes& s = plan.s;
    int64_t n_shared = s.n_heads / s.n_kv_heads, n_floats = s.n_keys * s.head_dim;
    share_rows(team, s.n_batch * s.n_kv_heads * s.n_keys, n_shared * s.head_dim, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        int64_t token = row % s.n_keys, group = row / s.n_keys % s.n_kv_heads, batch = row / s.n_keys / s.n_kv_heads;
        const float* from = shared + (batch * s.n_heads + group * n_shared) * 2 * n_floats + token * s.head_dim;
        float* to = grad_key + batch * s.key.batch + group * s.key.head + token * s.key.token;
        for (int part = 0; part < 2; part++, from += n_floats) {
          if (part) to = grad_value + batch * s.value.batch + group * s.value.head + token * s.value.token;
          each_vector(from, int(s.head_dim), [&](int i, Floats v, int have) {
            for (int64_t head = 1; head < n_shared; head++) v += load_some(from + head * 2 * n_floats + i, FP32, 0, have);
            store_some(to + i, v, have);
          });
        }
      }
    });
  }

  int64_t at(const Strides& strides, int64_t head) const { return batch_ * strides.batch + head * strides.head; }

  void allocate() {
    static thread_local Scratch scratch;
    width_ = plan.width;
    int64_t n_queries = plan.n_query_tiles * TILE, n_keys = plan.n_key_tiles * TILE, n_most = std::max(n_queries, n_keys);
    int64_t n_floats = (2 * n_queries + 3 * n_keys + n_most + 2 * TILE) * width_ + 2 * n_queries + 2 * TILE * TILE;
    float* next = static_cast<float*>(scratch.at_least(n_floats * sizeof(float)));
    auto take = [&](int64_t n) { return next += n, next - n; };
    queries_ = take(n_queries * width_), slopes_ = take(n_queries * width_), keys_ = take(n_keys * width_);
    turned_keys_ = take(n_keys * width_), turned_values_ = take(n_keys * width_), sums_ = take(n_most * width_);
    sum_keys_ = take(TILE * width_), sum_values_ = take(TILE * width_);
    weights_ = take(TILE * TILE), slope_weights_ = take(TILE * TILE);
    normalizers_ = take(n_queries), means_ = take(n_queries);
  }

  // The mean slope of a query's weights, the sum of slope * output; of queries that do not exist all is zero.
  void compute_means(int64_t piece) {
    const AttentionSizes& s = plan.s;
    const float* from = output + at(s.output, head_);
    for (int64_t q = 0; q < plan.n_query_tiles * TILE; q++, from += s.output.token) {
      bool exists = q < s.n_queries;
      normalizers_[q] = exists ? normalizer[piece * s.n_queries + q] : INFINITY;
      Floats total = {};
      if (exists)
        each_vector(from, int(s.head_dim), [&](int i, Floats v, int) {
          total = fused_multiply_add(v, load(slopes_ + q * width_ + i), total);
        });
      means_[q] = sum(total);
    }
  }

  void run_tile(int64_t i, int64_t j) {
    TileKind kind = plan.kind(batch_, i, j);
    if (kind == HIDDEN) return;
    Part part = plan.part(i, j);
    const float *queries = queries_ + i * TILE * width_, *slopes = slopes_ + i * TILE * width_;
    if (part == LOWER) memset(slope_weights_, 0, TILE * TILE * sizeof(float));  // the rest must be finite
    scores(queries, width_, turned_keys_ + j * TILE * width_, int(width_), part, weights_);
    scores(slopes, width_, turned_values_ + j * TILE * width_, int(width_), part, slope_weights_);
    if (kind == MIXED) plan.hide(batch_, i, j, weights_);
    for (int q = 0; q < TILE; q++) {
      float normalizer = normalizers_[i * TILE + q], mean = means_[i * TILE + q];
      for (int k = q * TILE; k < (q + 1) * TILE; k += LANES) {
        Floats weight = exp2(load(weights_ + k) - normalizer);
        store(weights_ + k, weight);
        store(slope_weights_ + k, weight * (load(slope_weights_ + k) - mean));
      }
    }
    int n_queries = plan.queries_of(i), n_keys = plan.keys_of(j);
    weighted_sums<true>(weights_, slopes, width_, n_queries, part, true, sum_values_);
    weighted_sums<true>(slope_weights_, queries, width_, n_queries, part, true, sum_keys_);
    weighted_sums<false>(slope_weights_, keys_ + j * TILE * width_, width_, n_keys, part, true, sums_ + i * TILE * width_);
  }

  void unpack(const float* from, int64_t n_rows, float factor, float* to, int64_t stride) {
    for (int64_t row = 0; row < n_rows; row++, from += width_, to += stride)
      each_vector(from, int(plan.s.head_dim), [&](int at, Floats v, int have) { store_some(to + at, v * factor, have); });
  }

};

}  // namespace parakit

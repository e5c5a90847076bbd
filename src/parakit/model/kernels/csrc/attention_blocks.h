// Attention of many tokens of one row to its cache: keys and values are read once for a block of queries.
//
// A chunk of 64 slots becomes a tile of floats that stays in the first caches while the block's queries pass by
// (Dao et al. 2022, "FlashAttention"). Scores are the panels of panels.h with keys for weights. Each query's sums are
// those of attention.h in the same order, so that a token's result is the same in a block and alone.
#pragma once
#include "attention.h"
#include "panels.h"

namespace parakit {

constexpr int BLOCK_TOKENS = 32;

// Consecutive tokens of a pass, of one row and at consecutive positions.
struct QueryBlock {
  int first, count;
};

// to[j][...] = sum of weights[j][s] values[s][...], in the order of s; values (n, stride).
template <int QUERIES, int VECTORS>
inline void sum_values(const float* values, int64_t stride, int n, const float* const* weights, float* const* to) {
  Floats acc[QUERIES][VECTORS] = {};
  const float *weight0 = weights[0], *weight1 = weights[1], *weight2 = weights[2], *weight3 = weights[3];
  static_assert(QUERIES == 4, "the four below");
  for (int64_t s = 0; s < n; s++, values += stride) {
    Floats value[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      value[v] = load(values + v * LANES);
      keep_in_register(value[v]);
    }
    for (int v = 0; v < VECTORS; v++) acc[0][v] = fused_multiply_add(value[v], all(weight0[s]), acc[0][v]);
    for (int v = 0; v < VECTORS; v++) acc[1][v] = fused_multiply_add(value[v], all(weight1[s]), acc[1][v]);
    for (int v = 0; v < VECTORS; v++) acc[2][v] = fused_multiply_add(value[v], all(weight2[s]), acc[2][v]);
    for (int v = 0; v < VECTORS; v++) acc[3][v] = fused_multiply_add(value[v], all(weight3[s]), acc[3][v]);
  }
  for (int j = 0; j < QUERIES; j++)
    for (int v = 0; v < VECTORS; v++) store(to[j] + v * LANES, acc[j][v]);
}

class BlockAttention {
 public:
  BlockAttention(const Model& m, const Cache& cache, const Batch& batch, const Layer& layer, const LayerCache& cells,
                 int kv_head, Scratch& scratch)
      : m_(m), cache_(cache), batch_(batch), layer_(layer), cells_(cells), kv_head_(kv_head) {
    n_steps_ = (m.head_dim + LANES - 1) / LANES;
    width_ = n_steps_ * LANES;
    n_group_ = m.n_heads / m.n_kv_heads;
    n_panels_ = panels_of(BLOCK_TOKENS * n_group_);
    int64_t n_queries = int64_t(n_panels_) * PANEL_TOKENS;
    int64_t floats = 2 * CHUNK * width_ + n_queries * (width_ + CHUNK) + PARTIALS * (width_ + LANES);
    keys_ = static_cast<float*>(scratch.at_least(floats * sizeof(float) + n_queries * sizeof(Softmax)));
    values_ = keys_ + CHUNK * width_;
    queries_ = reinterpret_cast<Floats*>(values_ + CHUNK * width_);
    scores_ = values_ + CHUNK * width_ + n_queries * width_;
    partials_ = scores_ + n_queries * CHUNK;
    states_ = reinterpret_cast<Softmax*>(partials_ + PARTIALS * (width_ + LANES));
  }

  // queries and results: (n_tokens of the pass, n_heads, head_dim)
  void run(QueryBlock block, const float* queries, float* to) {
    block_ = block;
    n_queries_ = block.count * n_group_;
    row_ = batch_.rows[block.first];
    for (int q = 0; q < n_queries_; q++) {
      states_[q] = empty_softmax(layer_, head_of(q));
      memset(result(to, q), 0, m_.head_dim * sizeof(float));
    }
    pack_queries(queries);
    Chunks first = chunks_of(layer_, position(0)), last = chunks_of(layer_, position(n_queries_ - 1));
    for (int c = first.first; c < last.first + last.count; c++) run_chunk(c, to);
    for (int q = 0; q < n_queries_; q++) {
      float* values = result(to, q);
      for (int i = 0; i < m_.head_dim; i++) values[i] /= states_[q].total;
    }
  }

 private:
  static constexpr int PARTIALS = 4;  // queries whose weighted values are summed together

  int head_of(int q) const { return kv_head_ * n_group_ + q % n_group_; }
  int position(int q) const { return batch_.positions[block_.first + q / n_group_]; }
  float* result(float* to, int q) const {
    return to + (int64_t(block_.first + q / n_group_) * m_.n_heads + head_of(q)) * m_.head_dim;
  }

  void pack_queries(const float* queries) {
    for (int q = 0; q < panels_of(n_queries_) * PANEL_TOKENS; q++) {
      Floats* panel = queries_ + int64_t(q / PANEL_TOKENS) * n_steps_ * PANEL_TOKENS + q % PANEL_TOKENS;
      const float* from = q < n_queries_ ? result(const_cast<float*>(queries), q) : nullptr;
      for (int s = 0; s < n_steps_; s++)
        panel[s * PANEL_TOKENS] = from ? load_some(from, FP32, s * LANES, std::min(LANES, m_.head_dim - s * LANES)) : Floats{};
    }
  }

  template <int32_t KIND>
  void unpack(const void* data, int begin, int end, float* tile) {
    for (int s = begin; s < end; s++) {
      int64_t at = cell_of(m_, cache_, cells_, row_, chunk_ + s, kv_head_) * m_.head_dim;
      for (int i = 0; i < m_.head_dim; i += LANES)
        store(tile + s * width_ + i, load_cell_some<KIND>(data, at + i, std::min(LANES, m_.head_dim - i)));
    }
  }

  void unpack(const void* data, int begin, int end, float* tile) {
    switch (cache_.kind) {
      case FP32: return unpack<FP32>(data, begin, end, tile);
      case BF16: return unpack<BF16>(data, begin, end, tile);
      case FP16: return unpack<FP16>(data, begin, end, tile);
      default: return unpack<INT8>(data, begin, end, tile);
    }
  }

  // The slots of this chunk that query q sees, counted from the chunk's first.
  int begin_of(int q) const {
    int p = position(q);
    return layer_.window && p + 1 > layer_.window ? std::max(0, p + 1 - layer_.window - chunk_) : 0;
  }
  int end_of(int q) const { return std::min(CHUNK, position(q) + 1 - chunk_); }

  void run_chunk(int c, float* to) {
    chunk_ = c * CHUNK;
    int from = 0, until = n_queries_;  // queries that see something of the chunk
    while (from < until && end_of(from) <= 0) from += n_group_;
    while (until > from && begin_of(until - 1) >= CHUNK) until -= n_group_;
    if (from == until) return;
    int begin = begin_of(from), end = end_of(until - 1);
    unpack(cells_.keys, begin, end, keys_);
    unpack(cells_.values, begin, end, values_);
    compute_scores(from, until, begin, end);
    for (int q = from; q < until; q += PARTIALS) add_values(q, std::min(until - q, PARTIALS), begin, end, to);
  }

  void compute_scores(int from, int until, int begin, int end) {
    for (int s = begin / PANEL_ROWS * PANEL_ROWS; s < end; s += PANEL_ROWS) {
      const char* rows[PANEL_ROWS];
      for (int r = 0; r < PANEL_ROWS; r++)  // those outside are computed and not used
        rows[r] = reinterpret_cast<const char*>(keys_ + std::min(std::max(s + r, begin), end - 1) * width_);
      for (int p = from / PANEL_TOKENS; p * PANEL_TOKENS < until; p++) {
        Floats acc[PANEL] = {};
        float_panel<FP32, PANEL_TOKENS>(rows, queries_ + int64_t(p) * n_steps_ * PANEL_TOKENS, 0, n_steps_, acc);
        for (int n = 0; n < PANEL_TOKENS; n++)
          sum4(acc + n, PANEL_TOKENS, scores_ + int64_t(p * PANEL_TOKENS + n) * CHUNK + s);
      }
    }
  }

  // Scores of query q become weights; zero outside of what it sees.
  Softmax weigh(int q, int begin, int end, float* scores) {
    int first = begin_of(q), n = end_of(q) - first;
    alignas(64) float seen[CHUNK];
    for (int s = 0; s < n; s++) {
      float score = scores[first + s] * m_.attention_scale;
      seen[s] = cache_.kind == INT8 ? score * cells_.key_scales[cell(first + s)] : score;
    }
    if (m_.attention_soft_cap > 0) soft_cap(seen, m_.attention_soft_cap, n);
    Softmax result = exponentials(seen, n);
    if (cache_.kind == INT8)
      for (int s = 0; s < n; s++) seen[s] *= cells_.value_scales[cell(first + s)];
    for (int s = begin; s < end; s++) scores[s] = s >= first && s < first + n ? seen[s - first] : 0.0f;
    return result;
  }

  int64_t cell(int s) const { return cell_of(m_, cache_, cells_, row_, chunk_ + s, kv_head_); }

  void add_values(int q, int count, int begin, int end, float* to) {
    alignas(64) static const float nothing[CHUNK] = {};
    const float* weights[PARTIALS];
    float *partials[PARTIALS], *sums[PARTIALS];
    bool sees[PARTIALS];
    for (int j = 0; j < PARTIALS; j++) {
      partials[j] = partials_ + j * (width_ + LANES);
      sees[j] = j < count && begin_of(q + j) < end_of(q + j);
      weights[j] = nothing;
      if (!sees[j]) continue;
      float* scores = scores_ + int64_t(q + j) * CHUNK;
      Softmax chunk = weigh(q + j, begin, end, scores);
      partials[j][0] = chunk.largest;
      partials[j][1] = chunk.total;
      weights[j] = scores + begin;
    }
    for (int i = 0; i < width_;) {
      int vectors = i + 2 * LANES <= width_ ? 2 : 1;
      for (int j = 0; j < PARTIALS; j++) sums[j] = partials[j] + 2 + i;
      const float* values = values_ + int64_t(begin) * width_ + i;
      if (vectors == 2) sum_values<PARTIALS, 2>(values, width_, end - begin, weights, sums);
      else sum_values<PARTIALS, 1>(values, width_, end - begin, weights, sums);
      i += vectors * LANES;
    }
    for (int j = 0; j < count; j++)
      if (sees[j]) join(states_[q + j], result(to, q + j), partials[j], m_.head_dim);
  }

  const Model& m_;
  const Cache& cache_;
  const Batch& batch_;
  const Layer& layer_;
  const LayerCache& cells_;
  const int kv_head_;
  QueryBlock block_{};
  int n_steps_, width_, n_group_, n_panels_, n_queries_ = 0, row_ = 0, chunk_ = 0;
  float *keys_, *values_, *scores_, *partials_;
  Floats* queries_;
  Softmax* states_;
};

}  // namespace parakit

// A decoder's whole forward pass of N new tokens, run by all threads of a team.
//
// With few tokens (decoding) each thread computes norms, activations and the residual stream of all tokens for itself:
// that takes less time than a barrier. Only products, the cache's new cells and attention are shared out. With many
// tokens the threads share these out too.
#pragma once
#include <algorithm>
#include <vector>

#include "attention_blocks.h"
#include "matmul.h"

namespace parakit {


// Memory of a pass, cut from one block that is kept for the next.
class Arena {
 public:
  void reserve(int64_t bytes) {
    if (bytes > int64_t(memory_.size())) memory_.resize(bytes);
    used_ = (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64;
  }
  template <class T>
  T* take(int64_t n) {
    T* p = reinterpret_cast<T*>(memory_.data() + used_);
    used_ += (n * sizeof(T) + 63) / 64 * 64;
    return p;
  }
  static int64_t size_of(int64_t n_bytes) { return (n_bytes + 63) / 64 * 64; }

 private:
  std::vector<char> memory_;
  int64_t used_ = 0;
};

class Forward {
 public:
  Forward(const Model& model, const Cache& cache, const Batch& batch, int n_threads)
      : m_(model), cache_(cache), batch_(batch), n_threads_(n_threads), n_(batch.n_tokens), few_(n_ <= FEW) {}

  void allocate(Arena& arena) {
    int64_t n = n_, width = m_.d_model, heads = int64_t(m_.n_heads) * m_.head_dim;
    int64_t kv = int64_t(m_.n_kv_heads) * m_.head_dim, d_ff = m_.d_ff;
    int copies = few_ ? n_threads_ : 1;
    longest_ = 0;
    for (int t = 0; t < n_; t++)
      for (int l = 0; l < m_.n_layers; l++)
        longest_ = std::max(longest_, chunks_of(m_.layers[l], batch_.positions[t]).count);
    split_chunks_ = n * m_.n_kv_heads < 4 * n_threads_ && longest_ > 1;
    n_group_ = m_.n_heads / m_.n_kv_heads;
    for (int t = 0; t < n_; t++) {
      bool next = t && batch_.rows[t] == batch_.rows[t - 1] && batch_.positions[t] == batch_.positions[t - 1] + 1;
      if (!next || blocks_.back().count == BLOCK_TOKENS) blocks_.push_back({t, 0});
      blocks_.back().count++;
    }
    partials_per_token_ = int64_t(m_.n_heads) * longest_ * partial_floats(m_);
    int64_t n_partials = split_chunks_ ? n * partials_per_token_ : int64_t(n_threads_) * n_group_ * longest_ * partial_floats(m_);
    int64_t floats = copies * n * (2 * width + heads) + n * (2 * width + 2 * heads + 2 * kv + 2 * d_ff) +
                     copies * std::max<int64_t>(batch_.n_logits, 1) * width + n_partials;
    arena.reserve(floats * 4 + 64 * 16 * (copies + 2) + 4096);
    y_ = arena.take<float>(n * width);
    y2_ = arena.take<float>(n * width);
    query_ = arena.take<float>(n * heads);
    key_ = arena.take<float>(n * kv);
    value_ = arena.take<float>(n * kv);
    attended_ = arena.take<float>(n * heads);
    gate_ = arena.take<float>(n * d_ff);
    up_ = arena.take<float>(n * d_ff);
    partials_ = arena.take<float>(n_partials);
    for (int c = 0; c < copies; c++) {
      Own own;
      own.x = arena.take<float>(n * width);
      own.normed = arena.take<float>(n * width);
      own.attended = few_ && split_chunks_ ? arena.take<float>(n * heads) : attended_;
      own.head_input = arena.take<float>(std::max<int64_t>(batch_.n_logits, 1) * width);
      own_.push_back(own);
    }
  }

  void run(Team& team) {
    Own own = own_[few_ ? team.thread : 0];
    each_token(team, [&](int t) { begin(t, own.x + int64_t(t) * m_.d_model); });
    for (int l = 0; l < m_.n_layers; l++) {
      run_layer(m_.layers[l], cache_.layers[l], l, own, team);
    }
    finish(own, team);
  }

 private:
  struct Own {
    float *x, *normed, *attended, *head_input;
  };

  // f(token) for all tokens: by every thread, or shared out and followed by a barrier.
  template <class F>
  void each_token(Team& team, F f) {
    if (few_) {
      for (int t = 0; t < n_; t++) f(t);
      return;
    }
    for (int64_t t; (t = team.take(1)) < n_;) f(int(t));
    team.barrier();
  }

  void begin(int t, float* x) {
    embed(m_.embedding, batch_.token_ids[t], x);
    if (m_.embedding_scale != 1.0f)
      for (int i = 0; i < m_.d_model; i++) x[i] *= m_.embedding_scale;
    if (m_.positions) {
      int64_t at = int64_t(batch_.positions[t] + m_.position_offset) * m_.d_model;
      for (int i = 0; i < m_.d_model; i++) x[i] += element(m_.positions, m_.position_kind, at + i);
    }
    apply_norm(m_.embedding_norm, x, m_.d_model, x);
  }

  // Add what a sublayer computed to the residual stream; its norms are before the sum, or behind it.
  void absorb(float* x, const float* y, const Norm& output_norm, const Norm& post_norm, float* scratch) {
    if (output_norm.type) {
      apply_norm(output_norm, y, m_.d_model, scratch);
      y = scratch;
    }
    add_scaled(x, y, m_.residual_scale, m_.d_model);
    if (m_.block_type == POST_NORM) apply_norm(post_norm, x, m_.d_model, x);
  }

  void run_layer(const Layer& layer, const LayerCache& cache, int number, Own& own, Team& team) {
    const int64_t width = m_.d_model, heads = int64_t(m_.n_heads) * m_.head_dim, kv = int64_t(m_.n_kv_heads) * m_.head_dim;
    const bool parallel = m_.block_type >= PARALLEL;
    const Norm none{};
    each_token(team, [&](int t) {
      float *x = own.x + t * width, *normed = own.normed + t * width;
      if (number) absorb_feed_forward(m_.layers[number - 1], t, x, normed);
      apply_norm(m_.block_type == POST_NORM ? none : layer.attention_norm, x, m_.d_model, normed);
    });
    Product first[3] = {{&layer.query, query_, heads}, {&layer.key, key_, kv}, {&layer.value, value_, kv}};
    multiply(first, 3, own.normed, width, n_, team);
    for (int64_t t; (t = team.take(1)) < n_;) place(layer, cache, int(t));
    team.barrier();
    attend_all(layer, cache, own, team);
    Product second[1] = {{&layer.output, y_, width}};
    multiply(second, 1, own.attended, heads, n_, team);
    each_token(team, [&](int t) {
      float *x = own.x + t * width, *normed = own.normed + t * width;
      if (parallel && m_.block_type == PARALLEL_SHARED_NORM) return;  // `normed` is that of the attention
      if (!parallel) absorb(x, y_ + t * width, layer.attention_output_norm, layer.attention_norm, normed);
      apply_norm(m_.block_type == POST_NORM ? none : layer.feed_forward_norm, x, m_.d_model, normed);
    });
    feed_forward(layer, own, team);
  }

  void feed_forward(const Layer& layer, Own& own, Team& team) {
    const int64_t d_ff = m_.d_ff;
    Product first[2] = {{&layer.up, up_, d_ff}, {&layer.gate, gate_, d_ff}};
    const int count = m_.gated ? 2 : 1;
    auto activate_rows = [&](int t, int64_t from, int64_t end) {
      int64_t at = t * d_ff + from;
      gate_and_up(m_.activation, m_.gated ? gate_ + at : nullptr, up_ + at, int(end - from), up_ + at);
    };
    if (few_) {
      few_tokens_together(first, count, own.normed, m_.d_model, n_, team, [&](int64_t from, int64_t end) {
        for (int t = 0; t < n_; t++) activate_rows(t, from, end);
      });
      team.barrier();
    } else {
      multiply(first, count, own.normed, m_.d_model, n_, team);
      each_token(team, [&](int t) { activate_rows(t, 0, d_ff); });
    }
    Product second[1] = {{&layer.down, y2_, m_.d_model}};
    multiply(second, 1, up_, d_ff, n_, team);
  }

  void absorb_feed_forward(const Layer& layer, int t, float* x, float* scratch) {
    const int64_t at = int64_t(t) * m_.d_model;
    if (m_.block_type >= PARALLEL) absorb(x, y_ + at, layer.attention_output_norm, layer.attention_norm, scratch);
    absorb(x, y2_ + at, layer.feed_forward_output_norm, layer.feed_forward_norm, scratch);
  }

  // Norm and rotate one token's query and key; put its key and value into the cache.
  void place(const Layer& layer, const LayerCache& cache, int t) {
    const int dim = m_.head_dim, position = batch_.positions[t], row = batch_.rows[t];
    float *query = query_ + int64_t(t) * m_.n_heads * dim, *key = key_ + int64_t(t) * m_.n_kv_heads * dim;
    const float* value = value_ + int64_t(t) * m_.n_kv_heads * dim;
    norm_heads(layer.query_norm, query, m_.n_heads, dim);
    norm_heads(layer.key_norm, key, m_.n_kv_heads, dim);
    if (layer.rotation < 2) {
      const float* cos = (layer.rotation ? m_.local_cos : m_.cos) + int64_t(position) * m_.rotary_dim;
      const float* sin = (layer.rotation ? m_.local_sin : m_.sin) + int64_t(position) * m_.rotary_dim;
      rotate_heads(query, m_.n_heads, dim, m_.rotary_dim, cos, sin);
      rotate_heads(key, m_.n_kv_heads, dim, m_.rotary_dim, cos, sin);
    }
    for (int g = 0; g < m_.n_kv_heads; g++) {
      int64_t cell = cell_of(m_, cache_, cache, row, position, g);
      store_cell(cache_.kind, cache.keys, cache.key_scales, cell, key + g * dim, dim);
      store_cell(cache_.kind, cache.values, cache.value_scales, cell, value + g * dim, dim);
    }
  }

  // Many tokens: in blocks of one row, the last first, as they take longest.
  void attend_blocks(const Layer& layer, const LayerCache& cache, Team& team) {
    static thread_local Scratch scratch;
    const int64_t groups = m_.n_kv_heads, items = int64_t(blocks_.size()) * groups;
    for (int64_t item; (item = team.take(1)) < items;) {
      QueryBlock block = blocks_[blocks_.size() - 1 - item / groups];
      if (block.count == 1) {  // a row that decodes: a tile of its keys would be used once
        attend_token(layer, cache, block.first, int(item % groups), team.thread);
        continue;
      }
      BlockAttention attention(m_, cache_, batch_, layer, cache, int(item % groups), scratch);
      attention.run(block, query_, attended_);
    }
  }

  // One token's query heads of key-value head `g` against chunks `from` to `to` of those that it sees.
  void attend_some(const Layer& layer, const LayerCache& cache, int t, int g, int from, int to, float* out) {
    const int position = batch_.positions[t];
    const int64_t size = partial_floats(m_), heads = int64_t(m_.n_heads) * m_.head_dim;
    Chunks chunks = chunks_of(layer, position);
    const float* query = query_ + t * heads + int64_t(g) * n_group_ * m_.head_dim;
    for (int c = from; c < to; c++) {
      int begin = std::max((chunks.first + c) * CHUNK, chunks.start);
      int end = std::min((chunks.first + c + 1) * CHUNK, position + 1);
      attend(m_, cache_, cache, batch_.rows[t], g, begin, end, query, out + c * size, longest_ * size);
    }
  }

  // All chunks of it, by one thread.
  void attend_token(const Layer& layer, const LayerCache& cache, int t, int g, int thread) {
    const int64_t size = partial_floats(m_), stride = longest_ * size, heads = int64_t(m_.n_heads) * m_.head_dim;
    const int count = chunks_of(layer, batch_.positions[t]).count;
    float* out = partials_ + int64_t(thread) * n_group_ * stride;
    attend_some(layer, cache, t, g, 0, count, out);
    for (int h = 0; h < n_group_; h++)
      merge(out + h * stride, count, size, layer, g * n_group_ + h, m_.head_dim,
            attended_ + t * heads + (int64_t(g) * n_group_ + h) * m_.head_dim);
  }

  // Every token's attention; complete in `own.attended` afterwards.
  void attend_all(const Layer& layer, const LayerCache& cache, Own& own, Team& team) {
    const int64_t size = partial_floats(m_), stride = longest_ * size;
    const int groups = m_.n_kv_heads, dim = m_.head_dim;
    const int64_t heads = int64_t(m_.n_heads) * dim;
    if (!split_chunks_ && n_ > FEW) {
      attend_blocks(layer, cache, team);
      return team.barrier();
    }
    int64_t items = int64_t(n_) * groups * (split_chunks_ ? longest_ : 1);
    for (int64_t item; (item = team.take(1)) < items;) {
      int64_t pair = split_chunks_ ? item / longest_ : item;
      int t = int(pair / groups), g = int(pair % groups);
      if (!split_chunks_) {
        attend_token(layer, cache, t, g, team.thread);
      } else if (int c = int(item % longest_); c < chunks_of(layer, batch_.positions[t]).count) {
        attend_some(layer, cache, t, g, c, c + 1, partials_ + t * partials_per_token_ + int64_t(g) * n_group_ * stride);
      }
    }
    team.barrier();
    if (!split_chunks_) return;
    each_token(team, [&](int t) {
      int count = chunks_of(layer, batch_.positions[t]).count;
      for (int h = 0; h < m_.n_heads; h++)
        merge(partials_ + t * partials_per_token_ + h * stride, count, size, layer, h, dim,
              own.attended + t * heads + int64_t(h) * dim);
    });
  }

  // Products of the same inputs, and a barrier.
  void multiply(const Product* products, int count, const float* x, int64_t x_stride, int n, Team& team) {
    matmul(products, count, x, x_stride, n, team);
    team.barrier();
  }

  // The final norm and the head, for the tokens whose logits are wanted.
  void finish(Own& own, Team& team) {
    const int64_t width = m_.d_model, n_logits = batch_.n_logits;
    if (n_logits == 0) return;
    auto last = [&](int64_t i) {
      int t = batch_.logits_of[i];
      float *x = own.x + t * width, *to = own.head_input + i * width;
      memcpy(to, x, width * sizeof(float));
      absorb_feed_forward(m_.layers[m_.n_layers - 1], t, to, own.normed + t * width);
      apply_norm(m_.final_norm, to, m_.d_model, to);
      if (batch_.hidden && (!few_ || team.thread == 0)) memcpy(batch_.hidden + i * width, to, width * sizeof(float));
      if (m_.logit_scale != 1.0f)
        for (int j = 0; j < m_.d_model; j++) to[j] *= m_.logit_scale;
    };
    if (few_) {
      for (int64_t i = 0; i < n_logits; i++) last(i);
    } else {
      for (int64_t i; (i = team.take(1)) < n_logits;) last(i);
      team.barrier();
    }
    Product head[1] = {{&m_.head, batch_.logits, m_.vocab_size}};
    multiply(head, 1, own.head_input, width, int(n_logits), team);
    if (m_.logit_soft_cap > 0) {
      for (int64_t i; (i = team.take(1)) < n_logits;)
        soft_cap(batch_.logits + i * m_.vocab_size, m_.logit_soft_cap, m_.vocab_size);
    }
  }

  const Model& m_;
  const Cache& cache_;
  const Batch& batch_;
  const int n_threads_, n_;
  const bool few_;
  bool split_chunks_ = false;
  int longest_ = 0, n_group_ = 1;
  int64_t partials_per_token_ = 0;
  float *y_, *y2_, *query_, *key_, *value_, *attended_, *gate_, *up_, *partials_;
  std::vector<Own> own_;
  std::vector<QueryBlock> blocks_;
};

}  // namespace parakit

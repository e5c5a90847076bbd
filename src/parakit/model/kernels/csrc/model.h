// What Python describes of a model, its cache and one pass; `layout.py` has the same structures.
#pragma once
#include "types.h"

namespace parakit {

struct Norm {
  int32_t type;      // 0: none; 1: RMS; 2: LayerNorm
  int32_t kind;      // of weight and bias
  const void* weight;
  const void* bias;
  float eps;
  int32_t plus_one;  // multiply by 1 + weight
  int32_t shape;     // of queries and keys. 0: each head, one weight; 1: each head, weights of its own; 2: all together
  int32_t padding;
};

struct Layer {
  Norm attention_norm, attention_output_norm, feed_forward_norm, feed_forward_output_norm, query_norm, key_norm;
  Weight query, key, value, output, gate, up, down;
  const void* sinks;  // (n_heads), or null
  int32_t sinks_kind;
  int32_t window;     // tokens that a query sees, itself included; 0: all
  int32_t rotation;   // 0: `cos`; 1: `local_cos`; 2: none
  int32_t padding;
};

enum BlockType : int32_t { PRE_NORM = 0, POST_NORM = 1, PARALLEL = 2, PARALLEL_SHARED_NORM = 3 };
enum Activation : int32_t { SILU = 0, GELU = 1, GELU_TANH = 2, RELU = 3, SQUARED_RELU = 4 };

struct Model {
  int32_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size, rotary_dim;
  int32_t block_type, activation, gated, position_kind, position_offset, max_seq_len;
  float attention_scale, attention_soft_cap, residual_scale, embedding_scale, logit_scale, logit_soft_cap;  // cap 0: none
  Weight embedding, head;
  Norm embedding_norm, final_norm;
  const float *cos, *sin, *local_cos, *local_sin;  // (max_seq_len, rotary_dim)
  const void* positions;                           // added to the embedding; (max_seq_len, d_model), or null
  const Layer* layers;
};

// Keys and values (n_pages, n_kv_heads, page_size, head_dim) of one layer, and which page holds which slots of a row:
// slot i of row r is slot i % page_size of page page_table[r * pages_per_row + i / page_size].
struct LayerCache {
  void *keys, *values;
  float *key_scales, *value_scales;  // INT8: (n_pages, n_kv_heads, page_size)
  const int32_t* page_table;
};

struct Cache {
  int32_t kind;  // FP32, BF16, FP16 or INT8
  int32_t page_size, pages_per_row, n_pages;
  const LayerCache* layers;
};

// New tokens of any rows; those of one row in ascending order of positions. `logits_of`: tokens whose logits are wanted.
struct Batch {
  int32_t n_tokens, n_logits;
  const int64_t* token_ids;
  const int32_t *positions, *rows, *logits_of;
  float* logits;  // (n_logits, vocab_size)
  float* hidden;  // (n_logits, d_model), the vectors before the head; or null
};

}  // namespace parakit

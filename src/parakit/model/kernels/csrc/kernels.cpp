// The C interface.
#include "matmul.h"

using namespace parakit;

static Pool& pool() {
  static Pool* only = new Pool;  // never destroyed: its threads wait until the process ends
  return *only;
}

extern "C" void parakit_matmul(const Weight* w, const float* x, int64_t n_tokens, float* y, int n_threads) {
  pool().run(n_threads, [&](Team& team) { matmul(*w, x, w->n_in, int(n_tokens), y, w->n_out, team); });
}

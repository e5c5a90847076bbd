// A pool of threads that run one function together, with barriers inside.
//
// All threads of a `Team` run the same code, so a forward pass wakes them once and not at every product. A thread
// that waits spins for a short time, then yields its processor, then sleeps: on a busy machine spinning takes the time
// of the thread that is waited for.
//
// Kernels that alternate with PyTorch's own operations must run on its threads: those of OpenMP spin for milliseconds after
// an operation, and threads of another pool would wait for their processors. `use_openmp` gives PyTorch's runtime.
#pragma once
#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace parakit {

inline void pause_thread() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// What the threads of one run share.
struct Shared {
  explicit Shared(int n) : n_threads(n) {}
  std::atomic<int> n_threads;
  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<int> phase{0};
  alignas(64) std::atomic<int64_t> next{0};
};

// One thread's view of the run.
struct Team {
  Shared& shared;
  int thread;
  int n_threads() const { return shared.n_threads.load(std::memory_order_relaxed); }

  // Wait until all threads are here. `take` starts from 0 again.
  void barrier() {
    if (n_threads() == 1) {
      shared.next.store(0, std::memory_order_relaxed);
      return;
    }
    int phase = shared.phase.load(std::memory_order_relaxed);
    if (shared.arrived.fetch_add(1, std::memory_order_acq_rel) == n_threads() - 1) {
      shared.arrived.store(0, std::memory_order_relaxed);
      shared.next.store(0, std::memory_order_relaxed);
      shared.phase.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; shared.phase.load(std::memory_order_acquire) == phase; spins++) {
      if (spins < 4000) pause_thread();
      else std::this_thread::yield();
    }
  }

  // The next `n` of the work items between two barriers: the index of the first. Fast threads take more. Only one
  // loop between two barriers may use it.
  int64_t take(int64_t n) { return shared.next.fetch_add(n, std::memory_order_relaxed); }
};

// An OpenMP runtime, by the functions that gcc calls for `#pragma omp parallel`; clang's and Intel's runtimes have them too.
struct OpenMp {
  void (*parallel)(void (*work)(void*), void* data, unsigned n_threads, unsigned flags) = nullptr;
  int (*thread)() = nullptr;
  int (*n_threads)() = nullptr;

  void run(int n, const std::function<void(Team&)>& work) const {
    struct Run {
      const OpenMp& openmp;
      Shared shared;
      const std::function<void(Team&)>& work;
    } run = {*this, Shared(n), work};
    parallel(
        [](void* data) {
          Run& run = *static_cast<Run*>(data);
          // may be fewer than were asked for; all threads store the same number
          run.shared.n_threads.store(run.openmp.n_threads(), std::memory_order_relaxed);
          Team team{run.shared, run.openmp.thread()};
          run.work(team);
        },
        &run, unsigned(n), 0);
  }
};

class Pool {
 public:
  OpenMp openmp;  // runs everything where it is set

  // Runs `work` on `n_threads` threads, this one included, and returns when all are done. One run at a time.
  void run(int n_threads, const std::function<void(Team&)>& work) {
    if (n_threads > 1 && openmp.parallel) return openmp.run(n_threads, work);
    std::lock_guard<std::mutex> only(one_run_);
    Shared shared(n_threads);
    if (n_threads > 1) {
      grow(n_threads - 1);
      {
        std::lock_guard<std::mutex> lock(mutex_);
        work_ = &work;
        shared_ = &shared;
        n_threads_ = n_threads;
        n_busy_.store(n_threads - 1, std::memory_order_relaxed);
        ticket_.fetch_add(1, std::memory_order_release);
      }
      wake_.notify_all();
    }
    Team team{shared, 0};
    work(team);
    for (int spins = 0; n_busy_.load(std::memory_order_acquire) > 0; spins++) {
      if (spins < 4000) pause_thread();
      else std::this_thread::yield();
    }
  }

 private:
  void grow(int n_workers) {
    while (workers_ < n_workers) {
      int number = ++workers_;
      uint64_t seen = ticket_.load(std::memory_order_acquire);
      std::thread([this, number, seen] { work_forever(number, seen); }).detach();
    }
  }

  void work_forever(int number, uint64_t seen) {
    for (;;) {
      for (int spins = 0; spins < 20000 && ticket_.load(std::memory_order_acquire) == seen; spins++) pause_thread();
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return ticket_.load(std::memory_order_acquire) != seen; });
      seen = ticket_.load(std::memory_order_acquire);
      Shared* shared = shared_;
      const std::function<void(Team&)>* work = work_;
      bool takes_part = number < n_threads_;
      lock.unlock();
      if (!takes_part) continue;
      Team team{*shared, number};
      (*work)(team);
      n_busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex one_run_, mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> n_busy_{0};
  int workers_ = 0, n_threads_ = 0;
  Shared* shared_ = nullptr;
  const std::function<void(Team&)>* work_ = nullptr;
};

namespace {  // each library has its own

Pool* only_pool = nullptr;  // never destroyed: its threads wait until the process ends

void start_pool() { only_pool = new Pool; }

Pool& pool() {
  static bool once = [] {
    start_pool();
    pthread_atfork(nullptr, nullptr, start_pool);  // a forked process has no threads of ours, nor of OpenMP's
    return true;
  }();
  (void)once;
  return *only_pool;
}

}  // namespace

}  // namespace parakit

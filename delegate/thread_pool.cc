#include "delegate/thread_pool.h"

#include <chrono>
#include <exception>

#include "delegate/denormals.h"

namespace bireal {
namespace {

// Between two steps of a partition pass a few microseconds, or what one thread needs for a gate, a
// mean with its two products and sigmoids: 20 of them in Real-to-Binary nets. Between two
// partitions the interpreter's own threads need the cores.
constexpr std::chrono::microseconds kStayAwake{60};

uint64_t MakeLeft(uint32_t job, int count) {
  return static_cast<uint64_t>(job) << 32 | static_cast<uint32_t>(count);
}

uint32_t JobOf(uint64_t left) { return static_cast<uint32_t>(left >> 32); }

int CountOf(uint64_t left) { return static_cast<int>(static_cast<uint32_t>(left)); }

int ShareEnd(int count, int thread, int threads) {
  return static_cast<int>(static_cast<int64_t>(count) * (thread + 1) / threads);
}

// Tells the CPU that this is a loop that waits.
void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads)
    : process_(getpid()), shares_(new Share[num_threads]), crew_(new Crew) {
  // Before there are threads: from then on nothing may throw.
  crew_->workers.reserve(num_threads - 1);
  try {
    for (int thread = 1; thread < num_threads; ++thread) {
      crew_->workers.emplace_back([this, thread] { Work(thread); });
    }
  } catch (const std::exception&) {
    // The system grants no more threads, or no memory for them: those we have do the work.
  }
}

ThreadPool::~ThreadPool() {
  if (IsForked()) {
    static_cast<void>(crew_.release());
    return;
  }
  stop_ = true;
  Wake();
  for (std::thread& worker : crew_->workers) worker.join();
}

template <typename Ready>
void ThreadPool::WaitUntil(const Ready& ready) {
  const auto sleep_time = std::chrono::steady_clock::now() + kStayAwake;
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < sleep_time);
  std::unique_lock<std::mutex> lock(crew_->mutex);
  // Sleepers count themselves before they look again, and whoever makes `ready` true looks for
  // sleepers after: one of the two sees the other.
  ++crew_->sleepers;
  crew_->woken.wait(lock, ready);
  --crew_->sleepers;
}

void ThreadPool::Wake() {
  if (crew_->sleepers == 0) return;
  {
    std::lock_guard<std::mutex> lock(crew_->mutex);
  }  // Whoever was about to sleep, sleeps now.
  crew_->woken.notify_all();
}

void ThreadPool::DoShares(uint32_t job, int thread) {
  const int threads = num_threads();
  for (int i = 0; i < threads; ++i) {
    const int owner = (thread + i) % threads;
    std::atomic<uint64_t>& share = shares_[owner].left;
    uint64_t left = share;
    while (JobOf(left) == job && CountOf(left) > 0) {
      if (!share.compare_exchange_weak(left, left - 1)) continue;
      // The job's fields stay until this index is done.
      const int count = count_;
      task_(context_, ShareEnd(count, owner, threads) - CountOf(left), thread);
      if (++done_ == count) Wake();
      left = share;
    }
  }
}

void ThreadPool::Work(int thread) {
  const FlushDenormals flush_denormals;
  const std::atomic<uint64_t>& share = shares_[thread].left;
  uint32_t seen = 0;
  while (true) {
    WaitUntil([&] { return stop_ || JobOf(share) != seen; });
    if (stop_) return;
    seen = JobOf(share);
    DoShares(seen, thread);
  }
}

void ThreadPool::Run(int count, Task task, const void* context) {
  // Interpreters that share a delegate may run at once.
  if (crew_->workers.empty() || count <= 1 || IsForked() || busy_.exchange(true)) {
    for (int index = 0; index < count; ++index) task(context, index, 0);
    return;
  }
  task_ = task;
  context_ = context;
  count_ = count;
  done_ = 0;
  const uint32_t job = ++job_;
  for (int thread = 0, begin = 0; thread < num_threads(); ++thread) {
    const int end = ShareEnd(count, thread, num_threads());
    shares_[thread].left = MakeLeft(job, end - begin);
    begin = end;
  }
  Wake();
  DoShares(job, 0);
  WaitUntil([&] { return done_ == count; });
  busy_ = false;
}

}  // namespace bireal

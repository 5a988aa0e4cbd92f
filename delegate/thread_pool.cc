#include "delegate/thread_pool.h"

#include <cstdint>
#include <system_error>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace bireal {
namespace {

// The interpreter computes with denormals flushed to zero, results and operands both. A
// worker must do the same, or the sign of -1e-45 depends on the thread that sees it.
void FlushDenormals() {
#if defined(__SSE__)
  constexpr unsigned int kFlushToZero = 0x8000;
  constexpr unsigned int kDenormalsAreZero = 0x0040;
  _mm_setcsr(_mm_getcsr() | kFlushToZero | kDenormalsAreZero);
#elif defined(__aarch64__)
  constexpr uint64_t kFlushToZero = uint64_t{1} << 24;
  uint64_t fpcr;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  asm volatile("msr fpcr, %0" : : "r"(fpcr | kFlushToZero));
#elif defined(__arm__) && defined(__ARM_FP)
  constexpr uint32_t kFlushToZero = uint32_t{1} << 24;
  uint32_t fpscr;
  asm volatile("vmrs %0, fpscr" : "=r"(fpscr));
  asm volatile("vmsr fpscr, %0" : : "r"(fpscr | kFlushToZero));
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  try {
    for (int thread = 1; thread < num_threads; ++thread) {
      workers_.emplace_back([this, thread] { Work(thread); });
    }
  } catch (const std::system_error&) {
    // The system grants no more threads: those we have do the work.
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::TakeIndices(int thread) {
  for (int index = next_++; index < count_; index = next_++) task_(context_, index, thread);
}

void ThreadPool::Work(int thread) {
  FlushDenormals();
  int seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    start_.wait(lock, [&] { return stop_ || generation_ != seen; });
    if (stop_) return;
    seen = generation_;
    lock.unlock();
    TakeIndices(thread);
    lock.lock();
    if (--busy_ == 0) done_.notify_one();
  }
}

void ThreadPool::Run(int count, Task task, const void* context) {
  if (workers_.empty() || count <= 1) {
    for (int index = 0; index < count; ++index) task(context, index, 0);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    task_ = task;
    context_ = context;
    count_ = count;
    next_ = 0;
    busy_ = static_cast<int>(workers_.size());
    ++generation_;
  }
  start_.notify_all();
  TakeIndices(0);
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [&] { return busy_ == 0; });
}

}  // namespace bireal

#include "delegate/thread_pool.h"

#include <system_error>

#include "delegate/denormals.h"

namespace bireal {

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
  const FlushDenormals flush_denormals;
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
  // Interpreters that share a delegate may run at once.
  std::unique_lock<std::mutex> caller(caller_, std::defer_lock);
  if (workers_.empty() || count <= 1 || !caller.try_lock()) {
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

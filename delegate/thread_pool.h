// A few threads that wait for rows to compute.
#ifndef BIREAL_DELEGATE_THREAD_POOL_H_
#define BIREAL_DELEGATE_THREAD_POOL_H_

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "delegate/aligned.h"

namespace bireal {

class ThreadPool {
 public:
  // `num_threads` counts the calling thread: 1 makes none.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(crew_->workers.size()) + 1; }

  // Calls body(i, thread) for every i in [0, count), each once, in no particular order, though
  // each thread tends to get the same part of [0, count) again, which its cache may hold, from
  // this thread and the workers; `thread` is in [0, num_threads()). Returns when all are done;
  // does not wait for workers that have not begun. While the workers are at one call, the threads
  // of other calls do theirs alone. So does a process that was forked: it has no workers.
  template <typename Body>
  void ParallelFor(int count, const Body& body) {
    Run(
        count,
        [](const void* context, int index, int thread) {
          (*static_cast<const Body*>(context))(index, thread);
        },
        &body);
  }

 private:
  // What must not be destroyed without the workers, which the pool of a forked process lacks:
  // it would wait for them for ever.
  struct Crew {
    std::vector<std::thread> workers;
    // Threads that fall asleep, and those that wake them, need the rest.
    std::atomic<int> sleepers{0};
    std::mutex mutex;
    std::condition_variable woken;
  };

  using Task = void (*)(const void* context, int index, int thread);

  bool IsForked() const { return getpid() != process_; }
  void Run(int count, Task task, const void* context);
  void Work(int thread);
  // Does the indices of that job that nobody has taken, the thread's own share first.
  void DoShares(uint32_t job, int thread);
  // Waits until `ready`: at first awake, because the next job tends to follow at once, and then
  // asleep until somebody calls Wake.
  template <typename Ready>
  void WaitUntil(const Ready& ready);
  void Wake();

  // A thread's part of the indices, [count * thread / threads, count * (thread + 1) / threads).
  // The job's number is in the upper half and how many indices nobody has taken in the lower, in
  // one word: whoever is late finds another number and cannot take what is not there.
  struct alignas(kCacheLine) Share {
    std::atomic<uint64_t> left{0};
  };

  const pid_t process_;
  std::unique_ptr<Share[]> shares_;
  std::unique_ptr<Crew> crew_;
  std::atomic<bool> busy_{false};  // The workers are at some call.
  std::atomic<bool> stop_{false};
  std::atomic<int> done_{0};  // Of the job's indices.
  // These are the job's, and constant while it has indices that are not done:
  uint32_t job_ = 0;
  Task task_ = nullptr;
  const void* context_ = nullptr;
  int count_ = 0;
};

// Calls body(first row, number of rows, thread) for pieces that together are all `rows`, at least
// one. It is meant for rows that are cheap.
template <typename Body>
void ForRows(ThreadPool& pool, size_t rows, const Body& body) {
  constexpr size_t kRowsPerPiece = 64;
  const int pieces = static_cast<int>((rows - 1) / kRowsPerPiece + 1);
  pool.ParallelFor(pieces, [&](int piece, int thread) {
    const size_t begin = piece * kRowsPerPiece;
    body(begin, std::min(kRowsPerPiece, rows - begin), thread);
  });
}

}  // namespace bireal

#endif  // BIREAL_DELEGATE_THREAD_POOL_H_

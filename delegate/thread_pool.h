// A few threads that wait for rows to compute.
#ifndef BIREAL_DELEGATE_THREAD_POOL_H_
#define BIREAL_DELEGATE_THREAD_POOL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

namespace bireal {

class ThreadPool {
 public:
  // `num_threads` counts the calling thread: 1 makes none.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(i, thread) for every i in [0, count), each once, in no particular order, from
  // this thread and the workers; `thread` is in [0, num_threads()). Returns when all are done.
  // While the workers are at one call, the threads of other calls do theirs alone.
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
  using Task = void (*)(const void* context, int index, int thread);

  void Run(int count, Task task, const void* context);
  void Work(int thread);
  void TakeIndices(int thread);

  std::vector<std::thread> workers_;
  std::mutex caller_;  // Held by the call that the workers are at.
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  // Under mutex_:
  int generation_ = 0;  // Counts the calls of Run.
  int busy_ = 0;        // Workers that have not finished this one.
  bool stop_ = false;
  // Written before a generation starts, constant during it:
  Task task_ = nullptr;
  const void* context_ = nullptr;
  int count_ = 0;

  std::atomic<int> next_{0};
};

// Calls body(first row, number of rows) for pieces that together are all `rows`, at least one.
// For rows that are cheap.
template <typename Body>
void ForRows(ThreadPool& pool, size_t rows, const Body& body) {
  constexpr size_t kRowsPerPiece = 64;
  const int pieces = static_cast<int>((rows - 1) / kRowsPerPiece + 1);
  pool.ParallelFor(pieces, [&](int piece, int) {
    const size_t begin = piece * kRowsPerPiece;
    body(begin, std::min(kRowsPerPiece, rows - begin));
  });
}

}  // namespace bireal

#endif  // BIREAL_DELEGATE_THREAD_POOL_H_

// Where the time of an invocation goes, written to a CSV file for whoever asked.
#ifndef BIREAL_DELEGATE_PROFILE_H_
#define BIREAL_DELEGATE_PROFILE_H_

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

namespace bireal {

class Profile {
 public:
  // Throws std::runtime_error when the file cannot be written, here and below.
  explicit Profile(const char* path);

  // Appends a line `done_ns,what`: the time now, on the clock of std::chrono::steady_clock, and
  // what has just been done.
  void Done(const std::string& what);

 private:
  [[noreturn]] void Fail() const;

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  const std::string path_;
  std::mutex mutex_;  // Interpreters in several threads may share a delegate.
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_PROFILE_H_

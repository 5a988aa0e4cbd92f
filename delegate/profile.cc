#include "delegate/profile.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace bireal {

Profile::Profile(const char* path) : path_(path), file_(std::fopen(path, "w")) {
  if (file_ == nullptr) Fail();
  // Line by line: whoever reads the file need not wait until the delegate is gone.
  std::setvbuf(file_.get(), nullptr, _IOLBF, BUFSIZ);
  if (std::fputs("done_ns,what\n", file_.get()) < 0) Fail();
}

void Profile::Fail() const {
  throw std::runtime_error("`profile` must be the path of a file to write. Received: profile=" +
                           path_ + ": " + std::strerror(errno) + ".");
}

void Profile::Done(const std::string& what) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const long long ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  std::lock_guard<std::mutex> lock(mutex_);
  if (std::fprintf(file_.get(), "%lld,%s\n", ns, what.c_str()) < 0) Fail();
}

}  // namespace bireal

// Flushing denormals to zero, operands and results both, for the lifetime of an object.
//
// LCE's ops take -1e-45 for zero, because LCE's interpreter computes in this mode. Not every
// interpreter does, and no new thread does; so the delegate says what it needs.
#ifndef BIREAL_DELEGATE_DENORMALS_H_
#define BIREAL_DELEGATE_DENORMALS_H_

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace bireal {

class FlushDenormals {
 public:
  FlushDenormals() : before_(Get()) { Set(before_ | kFlush); }
  ~FlushDenormals() { Set(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__SSE__)
  using Register = unsigned int;
  static constexpr Register kFlush = 0x8000 | 0x0040;  // Flush to zero, denormals are zero.
  static Register Get() { return _mm_getcsr(); }
  static void Set(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
  using Register = uint64_t;
  static constexpr Register kFlush = Register{1} << 24;
  static Register Get() {
    Register value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void Set(Register value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#elif defined(__arm__) && defined(__ARM_FP)
  using Register = uint32_t;
  static constexpr Register kFlush = Register{1} << 24;
  static Register Get() {
    Register value;
    asm volatile("vmrs %0, fpscr" : "=r"(value));
    return value;
  }
  static void Set(Register value) { asm volatile("vmsr fpscr, %0" : : "r"(value)); }
#else
  using Register = int;
  static constexpr Register kFlush = 0;
  static Register Get() { return 0; }
  static void Set(Register) {}
#endif

  const Register before_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_DENORMALS_H_

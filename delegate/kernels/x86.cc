#if defined(__x86_64__)

#include "delegate/kernels/x86.h"

#include <cpuid.h>

#include <cstdint>

namespace bireal {
namespace {

// Intel's manual, volume 1, chapter 13: the register state that the system saves.
constexpr uint32_t kSavesAvx = 0x06;     // XMM and the upper halves of YMM.
constexpr uint32_t kSavesAvx512 = 0xe6;  // Those, masks, and all of ZMM.

// CPUID's leaf 1, register ECX.
uint32_t BasicFeatures() {
  uint32_t eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) ? ecx : 0;
}

bool Saves(uint32_t state) {
  constexpr uint32_t kOsxsave = 1u << 27;
  if ((BasicFeatures() & kOsxsave) == 0) return false;
  uint32_t eax, edx;
  asm volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return (eax & state) == state;
}

struct Features {
  uint32_t ebx = 0, ecx = 0;
};

// CPUID's leaf 7.
Features ExtendedFeatures() {
  Features features;
  uint32_t eax, edx;
  if (!__get_cpuid_count(7, 0, &eax, &features.ebx, &features.ecx, &edx)) return {};
  return features;
}

}  // namespace

bool HasAvx2() {
  constexpr uint32_t kAvx2 = 1u << 5;
  constexpr uint32_t kFma = 1u << 12;
  return Saves(kSavesAvx) && (ExtendedFeatures().ebx & kAvx2) != 0 && (BasicFeatures() & kFma) != 0;
}

bool HasAvx512() {
  constexpr uint32_t kAvx512f = 1u << 16;
  constexpr uint32_t kVnni = 1u << 11;
  constexpr uint32_t kVpopcntdq = 1u << 14;
  const Features features = ExtendedFeatures();
  return Saves(kSavesAvx512) && (features.ebx & kAvx512f) != 0 && (features.ecx & kVnni) != 0 &&
         (features.ecx & kVpopcntdq) != 0;
}

}  // namespace bireal

#endif  // defined(__x86_64__)

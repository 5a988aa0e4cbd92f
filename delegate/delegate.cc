// The delegate's C interface: what an interpreter finds when it loads the library.
//
// `tflite_plugin_create_delegate` and `tflite_plugin_destroy_delegate` are the external-delegate
// convention of TensorFlow Lite, understood by load_delegate() in Python, by
// TfLiteExternalDelegateCreate in C and by benchmark_model --external_delegate_path.
//
// The environment variable BIREAL_KERNEL says which kernels to take where the option `kernel` does
// not.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "delegate/claim.h"
#include "delegate/kernels/kernels.h"
#include "delegate/model.h"
#include "delegate/partition.h"
#include "delegate/profile.h"
#include "delegate/tflite_abi.h"
#include "delegate/thread_pool.h"

namespace bireal {
namespace {

constexpr int kMaxThreads = 64;

// Who runs the float operators that the delegate has steps for.
enum class FloatOps {
  kFastest,   // The delegate, where its kernels are faster than LiteRT or take less memory.
  kDelegate,  // The delegate: the same bytes on every CPU.
  kLiteRT,
};

struct Options {
  int num_threads = 1;
  const Kernels* kernels = nullptr;
  FloatOps float_ops = FloatOps::kFastest;
  bool verbose = false;
  std::string profile;
};

bool ParseInt(const char* text, int min, int max, int* value) {
  char* end = nullptr;
  errno = 0;
  const long parsed = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || parsed < min || parsed > max) return false;
  *value = static_cast<int>(parsed);
  return true;
}

std::string MustBeAKernel() {
  return std::string("must be one of: ") + KernelNames() + ", and one that this CPU can run.";
}

// Chooses the kernels where no option has. Returns what is wrong, or an empty string.
std::string SetDefaultKernels(Options* options) {
  if (options->kernels != nullptr) return "";
  const char* name = std::getenv("BIREAL_KERNEL");
  if (name != nullptr && *name == '\0') name = nullptr;
  options->kernels = FindKernels(name);
  if (options->kernels != nullptr) return "";
  return "the environment variable BIREAL_KERNEL " + MustBeAKernel() +
         " Received: BIREAL_KERNEL=" + name + ".";
}

// Returns what is wrong with the option, or an empty string.
std::string SetOption(const char* key, const char* value, Options* options) {
  const std::string received = std::string(" Received: ") + key + "=" + value + ".";
  if (std::strcmp(key, "num_threads") == 0) {
    if (ParseInt(value, 1, kMaxThreads, &options->num_threads)) return "";
    return "`num_threads` must be an integer from 1 to " + std::to_string(kMaxThreads) + "." +
           received;
  }
  if (std::strcmp(key, "kernel") == 0) {
    options->kernels = FindKernels(value);
    if (options->kernels != nullptr) return "";
    return "`kernel` " + MustBeAKernel() + received;
  }
  if (std::strcmp(key, "float_ops") == 0) {
    constexpr std::pair<const char*, FloatOps> kValues[] = {
        {"fastest", FloatOps::kFastest},
        {"delegate", FloatOps::kDelegate},
        {"litert", FloatOps::kLiteRT},
    };
    for (const auto& [name, float_ops] : kValues) {
      if (std::strcmp(value, name) != 0) continue;
      options->float_ops = float_ops;
      return "";
    }
    return "`float_ops` must be one of: fastest, delegate, litert." + received;
  }
  if (std::strcmp(key, "verbose") == 0) {
    int verbose = 0;
    if (ParseInt(value, 0, 1, &verbose)) {
      options->verbose = verbose != 0;
      return "";
    }
    return "`verbose` must be 0 or 1." + received;
  }
  if (std::strcmp(key, "profile") == 0) {
    options->profile = value;
    return "";
  }
  return "an option must be one of: num_threads, kernel, float_ops, verbose, profile." + received;
}

struct Delegate {
  explicit Delegate(const Options& options);

  TfLiteDelegate c_struct = {};
  Options options;
  ThreadPool pool;
  std::unique_ptr<Profile> profile;  // Null unless the options ask for it.
};

Delegate& FromC(TfLiteDelegate* delegate) { return *static_cast<Delegate*>(delegate->data); }

// Runs `body`, which may throw, on behalf of the interpreter, which is C.
template <typename Body>
TfLiteStatus Guarded(TfLiteContext* context, const Body& body) {
  try {
    body();
    return kTfLiteOk;
  } catch (const std::exception& error) {
    context->ReportError(context, "bireal delegate: %s\n", error.what());
    return kTfLiteError;
  }
}

void* InitKernel(TfLiteContext* context, const char* buffer, size_t) {
  const auto& params = *reinterpret_cast<const TfLiteDelegateParams*>(buffer);
  Delegate& delegate = FromC(params.delegate);
  Partition* partition = nullptr;
  Guarded(context, [&] {
    partition = new Partition(context, params, *delegate.options.kernels, delegate.pool);
    if (delegate.options.verbose) {
      std::fprintf(stderr, "bireal delegate: %d nodes in %zu steps\n",
                   params.nodes_to_replace->size, partition->step_count());
    }
  });
  return partition;  // Null after an error, which the next call reports as a failure.
}

void FreeKernel(TfLiteContext*, void* partition) { delete static_cast<Partition*>(partition); }

TfLiteStatus PrepareKernel(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  if (partition == nullptr) return kTfLiteError;
  return Guarded(context, [&] { partition->Prepare(context); });
}

TfLiteStatus InvokeKernel(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  if (partition == nullptr) return kTfLiteError;
  return Guarded(context, [&] { partition->Invoke(context); });
}

// Lets every partition write down when it runs, and which nodes the interpreter ran before it.
void WriteProfile(TfLiteContext* context, Profile* profile) {
  std::string before = "interpreter";
  for (const PlannedNode& planned : ExecutionPlan(context)) {
    if (planned.registration->invoke == InvokeKernel) {
      auto* partition = static_cast<Partition*>(planned.node->user_data);
      if (partition != nullptr) partition->WriteProfile(profile, before);
      before = "interpreter";
    } else {
      before += " (node " + std::to_string(planned.index) + ")";
    }
  }
}

bool ClaimsFloat(const Options& options) {
  return options.float_ops == FloatOps::kDelegate ||
         (options.float_ops == FloatOps::kFastest && options.kernels->float_ops->is_default);
}

void ClaimNodes(TfLiteContext* context, TfLiteDelegate* c_delegate) {
  const Delegate& delegate = FromC(c_delegate);
  const std::vector<PlannedNode> plan = ExecutionPlan(context);
  const std::vector<std::vector<int>> turns =
      ClaimedTurns(*context, plan, ClaimsFloat(delegate.options));
  if (delegate.options.verbose) {
    size_t claimed = 0;
    for (const std::vector<int>& turn : turns) claimed += turn.size();
    std::fprintf(stderr, "bireal delegate: %zu of %zu nodes, kernel %s, %d threads\n", claimed,
                 plan.size(), delegate.options.kernels->name, delegate.pool.num_threads());
  }

  TfLiteRegistration registration = {};
  registration.init = InitKernel;
  registration.free = FreeKernel;
  registration.prepare = PrepareKernel;
  registration.invoke = InvokeKernel;
  registration.custom_name = "BirealDelegate";
  registration.version = 1;
  for (const std::vector<int>& turn : turns) {
    // In the layout of a TfLiteIntArray: the size, then the elements.
    std::vector<int> nodes = {static_cast<int>(turn.size())};
    nodes.insert(nodes.end(), turn.begin(), turn.end());
    if (context->ReplaceNodeSubsetsWithDelegateKernels(
            context, registration, reinterpret_cast<const TfLiteIntArray*>(nodes.data()),
            c_delegate) != kTfLiteOk) {
      throw ModelError("the interpreter did not hand over the LCE ops");
    }
  }
}

TfLiteStatus PrepareDelegate(TfLiteContext* context, TfLiteDelegate* delegate) {
  return Guarded(context, [&] {
    ClaimNodes(context, delegate);
    if (Profile* profile = FromC(delegate).profile.get()) WriteProfile(context, profile);
  });
}

Delegate::Delegate(const Options& chosen) : options(chosen), pool(chosen.num_threads) {
  if (!options.profile.empty()) profile = std::make_unique<Profile>(options.profile.c_str());
  c_struct.data = this;
  c_struct.Prepare = PrepareDelegate;
  // Without this flag the interpreter prepares every op before it asks a delegate, and stops
  // at the first LCE op as unresolved.
  c_struct.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
}

}  // namespace
}  // namespace bireal

#ifdef _WIN32
#define BIREAL_EXPORT extern "C" __declspec(dllexport)
#else
#define BIREAL_EXPORT extern "C" __attribute__((visibility("default")))
#endif

BIREAL_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values,
                                                            size_t num_options,
                                                            void (*report_error)(const char*)) {
  const auto report = [&](const char* error) -> TfLiteDelegate* {
    char message[512];
    std::snprintf(message, sizeof(message), "bireal delegate: %s", error);
    if (report_error != nullptr) {
      report_error(message);
    } else {
      // TensorFlow Lite's own loader, benchmark_model's, passes none and says nothing itself.
      std::fprintf(stderr, "%s\n", message);
    }
    return nullptr;
  };
  try {
    bireal::Options options;
    std::string error;
    // Python passes the number as a C int, which leaves the upper half of the register
    // undefined.
    const int count = static_cast<int>(num_options);
    for (int i = 0; i < count && error.empty(); ++i) {
      error = bireal::SetOption(keys[i], values[i], &options);
    }
    if (error.empty()) error = bireal::SetDefaultKernels(&options);
    if (!error.empty()) return report(error.c_str());
    return &(new bireal::Delegate(options))->c_struct;
  } catch (const std::exception& exception) {
    return report(exception.what());
  }
}

BIREAL_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete &bireal::FromC(delegate);
}

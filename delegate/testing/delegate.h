// The delegate as a host creates it: through its C interface.
#ifndef BIREAL_DELEGATE_TESTING_DELEGATE_H_
#define BIREAL_DELEGATE_TESTING_DELEGATE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "delegate/tflite_abi.h"

extern "C" {
TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values, size_t num_options,
                                              void (*report_error)(const char*));
void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate);
}

namespace bireal::testing {

struct DestroyDelegate {
  void operator()(TfLiteDelegate* delegate) const { tflite_plugin_destroy_delegate(delegate); }
};
using Delegate = std::unique_ptr<TfLiteDelegate, DestroyDelegate>;

// Null when the options are refused.
inline Delegate MakeDelegate(std::vector<std::pair<std::string, std::string>> options) {
  std::vector<char*> keys;
  std::vector<char*> values;
  for (auto& option : options) {
    keys.push_back(option.first.data());
    values.push_back(option.second.data());
  }
  return Delegate(tflite_plugin_create_delegate(keys.data(), values.data(), options.size(),
                                                [](const char*) {}));
}

}  // namespace bireal::testing

#endif  // BIREAL_DELEGATE_TESTING_DELEGATE_H_

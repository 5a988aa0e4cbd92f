// Runs a .tflite model with 1-bit layers from C++, without Python.
//
//   run_model MODEL DELEGATE [KEY:VALUE;KEY:VALUE...] < input > output
//
// MODEL     a .tflite file with one input and one output
// DELEGATE  libbireal_delegate.so, as `python -c "from bireal_keras import runtime;
//           print(runtime.delegate_path())"` prints it
// KEY:VALUE its options, num_threads:2 say, as in benchmark_model --external_delegate_options
//
// Input and output are the bytes of the tensors. Build against TensorFlow Lite's C library, of
// any version from 2.5 on: c++ -std=c++17 run_model.cc -ltensorflowlite_c
#include <cstdio>
#include <cstring>
#include <memory>

#include "tensorflow/lite/c/c_api.h"
#include "tensorflow/lite/delegates/external/external_delegate.h"

namespace {

int Fail(const char* message) {
  std::fprintf(stderr, "run_model: %s\n", message);
  return 1;
}

bool SetOptions(char* text, TfLiteExternalDelegateOptions* options) {
  for (char* pair = std::strtok(text, ";"); pair != nullptr; pair = std::strtok(nullptr, ";")) {
    char* colon = std::strchr(pair, ':');
    if (colon == nullptr) return false;
    *colon = '\0';
    if (options->insert(options, pair, colon + 1) != kTfLiteOk) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    return Fail("usage: run_model MODEL DELEGATE [KEY:VALUE;KEY:VALUE...] < input > output");
  }
  const std::unique_ptr<TfLiteModel, void (*)(TfLiteModel*)> model(
      TfLiteModelCreateFromFile(argv[1]), TfLiteModelDelete);
  if (model == nullptr) return Fail("the model cannot be read");

  TfLiteExternalDelegateOptions options = TfLiteExternalDelegateOptionsDefault(argv[2]);
  if (argc == 4 && !SetOptions(argv[3], &options)) return Fail("options are KEY:VALUE;KEY:VALUE");
  // Outlives the interpreter. Where the library cannot be loaded or refuses its options, this is
  // a delegate that does nothing, and the model's ops stay unresolved.
  const std::unique_ptr<TfLiteDelegate, void (*)(TfLiteDelegate*)> delegate(
      TfLiteExternalDelegateCreate(&options), TfLiteExternalDelegateDelete);
  const std::unique_ptr<TfLiteInterpreterOptions, void (*)(TfLiteInterpreterOptions*)> settings(
      TfLiteInterpreterOptionsCreate(), TfLiteInterpreterOptionsDelete);
  TfLiteInterpreterOptionsAddDelegate(settings.get(), delegate.get());
  const std::unique_ptr<TfLiteInterpreter, void (*)(TfLiteInterpreter*)> interpreter(
      TfLiteInterpreterCreate(model.get(), settings.get()), TfLiteInterpreterDelete);
  if (interpreter == nullptr || TfLiteInterpreterAllocateTensors(interpreter.get()) != kTfLiteOk) {
    return Fail("the delegate cannot be loaded, or not run this model");
  }

  TfLiteTensor* input = TfLiteInterpreterGetInputTensor(interpreter.get(), 0);
  const size_t input_size = TfLiteTensorByteSize(input);
  if (std::fread(TfLiteTensorData(input), 1, input_size, stdin) != input_size) {
    return Fail("the input is too short");
  }
  if (TfLiteInterpreterInvoke(interpreter.get()) != kTfLiteOk) return Fail("the model fails");

  const TfLiteTensor* output = TfLiteInterpreterGetOutputTensor(interpreter.get(), 0);
  const size_t output_size = TfLiteTensorByteSize(output);
  if (std::fwrite(TfLiteTensorData(output), 1, output_size, stdout) != output_size) {
    return Fail("the output cannot be written");
  }
  return 0;
}

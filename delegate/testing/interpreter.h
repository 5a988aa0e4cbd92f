// What TensorFlow Lite's interpreter is to a delegate, in little: it partitions a graph, plans
// and allocates its tensors and runs it, all through tflite_abi.h.
//
// It is strict where the real one is roomy, so that a sanitizer sees every byte too many:
// buffers are exactly as large as their tensors, hold garbage before they are written, and move
// whenever tensors are allocated anew; constants cannot be written and need not be aligned;
// tensors that no node of the plan uses have no buffer.
#ifndef BIREAL_DELEGATE_TESTING_INTERPRETER_H_
#define BIREAL_DELEGATE_TESTING_INTERPRETER_H_

#include <climits>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "delegate/testing/graph.h"
#include "delegate/tflite_abi.h"

namespace bireal::testing {

struct CFree {
  void operator()(void* memory) const { std::free(memory); }
};
using IntArray = std::unique_ptr<TfLiteIntArray, CFree>;
using FloatArray = std::unique_ptr<TfLiteFloatArray, CFree>;
using Buffer = std::unique_ptr<char, CFree>;

// Bytes that end where the memory that may be read ends.
class ReadOnlyBuffer {
 public:
  // They start `misalignment`, 0 to 3, bytes off a multiple of 4 if their number is one.
  ReadOnlyBuffer(const std::vector<uint8_t>& bytes, int misalignment);
  ~ReadOnlyBuffer();
  ReadOnlyBuffer(const ReadOnlyBuffer&) = delete;
  ReadOnlyBuffer& operator=(const ReadOnlyBuffer&) = delete;

  void* data() const { return data_; }

 private:
  void* pages_;
  size_t page_bytes_;  // Without the guard page.
  char* data_;
};

class Interpreter {
 public:
  // Adjacent nodes that the delegate claims become one partition, of `max_partition` at most; only
  // a conversion of types is never the last of one.
  // No tensor is given more than `max_bytes`. `graph` may be malformed.
  explicit Interpreter(const Graph& graph, int max_partition = INT_MAX,
                       size_t max_bytes = size_t{1} << 24);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // These mean what they mean in TensorFlow Lite, and return false where that fails.
  bool ModifyGraphWithDelegate(TfLiteDelegate* delegate);
  bool ResizeInputTensor(int index, const std::vector<int>& dims);
  bool AllocateTensors();
  bool Invoke();

  int tensor_count() const { return static_cast<int>(tensors_.size()); }
  const TfLiteTensor& tensor(int index) const { return tensors_[index]; }
  // What the delegate complained about last.
  const std::string& error() const { return error_; }

 private:
  struct GraphNode;
  struct Scales;

  static Interpreter& From(TfLiteContext* context);
  static TfLiteStatus GetExecutionPlan(TfLiteContext* context, TfLiteIntArray** plan);
  static TfLiteStatus GetNodeAndRegistration(TfLiteContext* context, int index, TfLiteNode** node,
                                             TfLiteRegistration** registration);
  static TfLiteStatus ReplaceNodes(TfLiteContext* context, TfLiteRegistration registration,
                                   const TfLiteIntArray* nodes, TfLiteDelegate* delegate);
  static TfLiteStatus ResizeTensor(TfLiteContext* context, TfLiteTensor* tensor,
                                   TfLiteIntArray* dims);
  static void ReportError(TfLiteContext* context, const char* format, ...);

  bool BytesRequired(TfLiteType type, const TfLiteIntArray& dims, size_t* bytes) const;
  bool IsTensor(int index) const { return index >= 0 && index < tensor_count(); }
  // Replaces `nodes` by one of the delegate's and returns its index.
  int AddPartition(const std::vector<int>& nodes, const TfLiteRegistration& registration,
                   TfLiteDelegate* delegate);
  // The distinct tensors that nodes of the plan read or write, and the graph's own.
  std::vector<int> TensorsInUse() const;

  TfLiteContext context_ = {};
  std::vector<TfLiteTensor> tensors_;
  std::vector<std::unique_ptr<ReadOnlyBuffer>> constants_;
  std::vector<std::unique_ptr<Scales>> scales_;
  std::vector<Buffer> buffers_;
  std::vector<int> outputs_;
  std::vector<std::unique_ptr<GraphNode>> nodes_;
  std::vector<int> plan_;
  IntArray plan_array_;
  const int max_partition_;
  const size_t max_bytes_;
  std::string error_;
};

}  // namespace bireal::testing

#endif  // BIREAL_DELEGATE_TESTING_INTERPRETER_H_

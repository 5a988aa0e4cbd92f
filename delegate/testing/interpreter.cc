#include "delegate/testing/interpreter.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>
#include <set>

#include "delegate/denormals.h"

namespace bireal::testing {
namespace {

constexpr auto kTfLiteArenaRw = static_cast<TfLiteAllocationType>(2);

IntArray MakeIntArray(const std::vector<int>& values) {
  void* memory = std::malloc(sizeof(TfLiteIntArray) + values.size() * sizeof(int));
  if (memory == nullptr) throw std::bad_alloc();
  IntArray array(static_cast<TfLiteIntArray*>(memory));
  array->size = static_cast<int>(values.size());
  std::copy(values.begin(), values.end(), array->data);
  return array;
}

FloatArray MakeFloatArray(const std::vector<float>& values) {
  void* memory = std::malloc(sizeof(TfLiteFloatArray) + values.size() * sizeof(float));
  if (memory == nullptr) throw std::bad_alloc();
  FloatArray array(static_cast<TfLiteFloatArray*>(memory));
  array->size = static_cast<int>(values.size());
  std::copy(values.begin(), values.end(), array->data);
  return array;
}

size_t ElementSize(TfLiteType type) {
  switch (type) {
    case kTfLiteFloat32:
    case kTfLiteInt32:
      return 4;
    case kTfLiteFloat16:
      return 2;
    case kTfLiteBool:
    case kTfLiteInt8:
    case kTfLiteUInt8:
      return 1;
    default:
      return 0;
  }
}

bool SameDims(const TfLiteIntArray& a, const TfLiteIntArray& b) {
  return a.size == b.size && std::equal(a.data, a.data + a.size, b.data);
}

// The operators that the interpreter has itself.

TfLiteStatus PrepareLikeFirstInput(TfLiteContext* context, TfLiteNode* node) {
  const TfLiteTensor& input = context->tensors[node->inputs->data[0]];
  TfLiteTensor& output = context->tensors[node->outputs->data[0]];
  for (int i = 0; i < node->inputs->size; ++i) {
    const TfLiteTensor& other = context->tensors[node->inputs->data[i]];
    if (other.type != input.type || !SameDims(*other.dims, *input.dims)) return kTfLiteError;
  }
  if (output.type != input.type) return kTfLiteError;
  const std::vector<int> dims(input.dims->data, input.dims->data + input.dims->size);
  return context->ResizeTensor(context, &output, MakeIntArray(dims).release());
}

// Another operator of a malformed graph may have resized a tensor in the meantime.
bool SizesAreEqual(const TfLiteContext& context, const TfLiteNode& node) {
  const size_t bytes = context.tensors[node.outputs->data[0]].bytes;
  return std::all_of(node.inputs->data, node.inputs->data + node.inputs->size,
                     [&](int input) { return context.tensors[input].bytes == bytes; });
}

TfLiteStatus InvokeCopy(TfLiteContext* context, TfLiteNode* node) {
  if (!SizesAreEqual(*context, *node)) return kTfLiteError;
  const TfLiteTensor& input = context->tensors[node->inputs->data[0]];
  std::memcpy(context->tensors[node->outputs->data[0]].data, input.data, input.bytes);
  return kTfLiteOk;
}

TfLiteStatus InvokeAdd(TfLiteContext* context, TfLiteNode* node) {
  if (!SizesAreEqual(*context, *node)) return kTfLiteError;
  const FlushDenormals flush_denormals;
  const TfLiteTensor& output = context->tensors[node->outputs->data[0]];
  const auto* a = static_cast<const float*>(context->tensors[node->inputs->data[0]].data);
  const auto* b = static_cast<const float*>(context->tensors[node->inputs->data[1]].data);
  const int activation = static_cast<const TfLiteAddParams*>(node->builtin_data)->activation;
  auto* out = static_cast<float*>(output.data);
  for (size_t i = 0; i < output.bytes / sizeof(float); ++i) {
    out[i] = a[i] + b[i];
    if (activation == kTfLiteActRelu) out[i] = out[i] < 0.0f ? 0.0f : out[i];
  }
  return kTfLiteOk;
}

// Pages of memory, as the system gives them.

enum class Access { kNone, kRead };

#ifdef _WIN32

// MinGW has no address sanitizer.
#define ASAN_POISON_MEMORY_REGION(address, size)
#define ASAN_UNPOISON_MEMORY_REGION(address, size)

size_t PageBytes() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

void* AllocatePages(size_t bytes) {
  void* const pages = VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
  if (pages == nullptr) throw std::bad_alloc();
  return pages;
}

void ProtectPages(void* pages, size_t bytes, Access access) {
  DWORD before;
  VirtualProtect(pages, bytes, access == Access::kRead ? PAGE_READONLY : PAGE_NOACCESS, &before);
}

void FreePages(void* pages, size_t) { VirtualFree(pages, 0, MEM_RELEASE); }

#else

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

void* AllocatePages(size_t bytes) {
  void* const pages =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return pages;
}

void ProtectPages(void* pages, size_t bytes, Access access) {
  mprotect(pages, bytes, access == Access::kRead ? PROT_READ : PROT_NONE);
}

void FreePages(void* pages, size_t bytes) { munmap(pages, bytes); }

#endif

}  // namespace

ReadOnlyBuffer::ReadOnlyBuffer(const std::vector<uint8_t>& bytes, int misalignment) {
  const size_t page = PageBytes();
  const size_t after = (4 - misalignment) % 4;
  page_bytes_ = (bytes.size() + after + page - 1) / page * page;
  pages_ = AllocatePages(page_bytes_ + page);
  char* const begin = static_cast<char*>(pages_);
  data_ = begin + page_bytes_ - after - bytes.size();
  std::copy(bytes.begin(), bytes.end(), data_);
  ProtectPages(begin, page_bytes_, Access::kRead);
  ProtectPages(begin + page_bytes_, page, Access::kNone);
  ASAN_POISON_MEMORY_REGION(begin, data_ - begin);
  ASAN_POISON_MEMORY_REGION(data_ + bytes.size(), after);
}

ReadOnlyBuffer::~ReadOnlyBuffer() {
  ASAN_UNPOISON_MEMORY_REGION(pages_, page_bytes_);
  FreePages(pages_, page_bytes_ + PageBytes());
}

struct Interpreter::GraphNode {
  TfLiteNode node = {};
  TfLiteRegistration registration = {};
  IntArray inputs;
  IntArray outputs;
  std::string op;
  std::unique_ptr<ReadOnlyBuffer> options;
  TfLiteAddParams add = {};
  TfLiteMulParams mul = {};
  TfLiteConcatenationParams concatenation = {};
  TfLiteConvParams conv = {};
  TfLitePoolParams pool = {};
  TfLiteDepthwiseConvParams depthwise = {};
  TfLiteFullyConnectedParams fully_connected = {};
  TfLiteReducerParams reducer = {};
  TfLiteSoftmaxParams softmax = {};
  TfLiteSubParams sub = {};

  bool converts() const {
    const int32_t code = registration.builtin_code;
    return code == kTfLiteBuiltinDequantize || code == kTfLiteBuiltinCast ||
           code == kTfLiteBuiltinMul || code == kTfLiteBuiltinSub;
  }
};

struct Interpreter::Scales {
  FloatArray scales;
  IntArray zeros;
  TfLiteAffineQuantization affine;
};

Interpreter::Interpreter(const Graph& graph, int max_partition, size_t max_bytes)
    : tensors_(graph.tensors.size()),
      buffers_(graph.tensors.size()),
      outputs_(graph.outputs),
      max_partition_(max_partition),
      max_bytes_(max_bytes) {
  for (size_t i = 0; i < graph.tensors.size(); ++i) {
    const Tensor& described = graph.tensors[i];
    TfLiteTensor& tensor = tensors_[i];
    tensor.type = described.type;
    tensor.dims = MakeIntArray(described.dims).release();
    tensor.params = {described.scale, described.zero_point};
    if (!described.scales.empty()) {
      auto owned = std::make_unique<Scales>();
      owned->scales = MakeFloatArray(described.scales);
      owned->zeros = MakeIntArray(std::vector<int>(described.scales.size(), described.zero_point));
      owned->affine = {owned->scales.get(), owned->zeros.get(), 0};
      tensor.quantization = {kTfLiteAffineQuantization, &owned->affine};
      scales_.push_back(std::move(owned));
    }
    if (described.is_constant) {
      constants_.push_back(
          std::make_unique<ReadOnlyBuffer>(described.data, static_cast<int>(i % 4)));
      tensor.allocation_type = kTfLiteMmapRo;
      tensor.data = constants_.back()->data();
      tensor.bytes = described.data.size();
    } else {
      tensor.allocation_type = kTfLiteArenaRw;
      if (!BytesRequired(tensor.type, *tensor.dims, &tensor.bytes)) tensor.bytes = 0;
    }
  }
  for (const Node& described : graph.nodes) {
    auto owned = std::make_unique<GraphNode>();
    TfLiteNode& node = owned->node;
    TfLiteRegistration& registration = owned->registration;
    owned->inputs = MakeIntArray(described.inputs);
    owned->outputs = MakeIntArray(described.outputs);
    owned->op = described.op;
    node.inputs = owned->inputs.get();
    node.outputs = owned->outputs.get();
    registration.builtin_code = kTfLiteBuiltinCustom;
    registration.custom_name = owned->op.c_str();
    const bool is_well_formed =
        described.outputs.size() == 1 && IsTensor(described.outputs[0]) &&
        described.inputs.size() == (described.op == "ADD" ? 2 : 1) &&
        std::all_of(described.inputs.begin(), described.inputs.end(),
                    [&](int index) { return IsTensor(index) && index != described.outputs[0]; });
    const auto attribute = [&](const char* name) {
      const auto found = described.attributes.find(name);
      return found != described.attributes.end() ? found->second : 0;
    };
    // Only the delegate has these.
    if (described.op == "CONV_2D") {
      registration.builtin_code = kTfLiteBuiltinConv2d;
      owned->conv = {attribute("padding"),
                     attribute("stride_width"),
                     attribute("stride_height"),
                     attribute("fused_activation_function"),
                     attribute("dilation_width_factor"),
                     attribute("dilation_height_factor")};
      node.builtin_data = &owned->conv;
    } else if (described.op == "DEPTHWISE_CONV_2D") {
      registration.builtin_code = kTfLiteBuiltinDepthwiseConv2d;
      owned->depthwise = {attribute("padding"),
                          attribute("stride_width"),
                          attribute("stride_height"),
                          attribute("depth_multiplier"),
                          attribute("fused_activation_function"),
                          attribute("dilation_width_factor"),
                          attribute("dilation_height_factor")};
      node.builtin_data = &owned->depthwise;
    } else if (described.op == "FULLY_CONNECTED") {
      registration.builtin_code = kTfLiteBuiltinFullyConnected;
      owned->fully_connected = {attribute("fused_activation_function"), 0,
                                attribute("keep_num_dims") != 0};
      node.builtin_data = &owned->fully_connected;
    } else if (described.op == "MUL") {
      registration.builtin_code = kTfLiteBuiltinMul;
      owned->mul.activation = attribute("fused_activation_function");
      node.builtin_data = &owned->mul;
    } else if (described.op == "PRELU") {
      registration.builtin_code = kTfLiteBuiltinPrelu;
    } else if (described.op == "SPLIT_V") {
      registration.builtin_code = kTfLiteBuiltinSplitV;
    } else if (described.op == "LOGISTIC") {
      registration.builtin_code = kTfLiteBuiltinLogistic;
    } else if (described.op == "CONCATENATION") {
      registration.builtin_code = kTfLiteBuiltinConcatenation;
      owned->concatenation.axis = attribute("axis");
      node.builtin_data = &owned->concatenation;
    } else if (described.op == "MEAN") {
      registration.builtin_code = kTfLiteBuiltinMean;
      owned->reducer = {attribute("keep_dims") != 0};
      node.builtin_data = &owned->reducer;
    } else if (described.op == "DEQUANTIZE") {
      registration.builtin_code = kTfLiteBuiltinDequantize;
    } else if (described.op == "CAST") {
      registration.builtin_code = kTfLiteBuiltinCast;
    } else if (described.op == "SUB") {
      registration.builtin_code = kTfLiteBuiltinSub;
      owned->sub = {attribute("fused_activation_function"), false};
      node.builtin_data = &owned->sub;
    } else if (described.op == "SOFTMAX") {
      registration.builtin_code = kTfLiteBuiltinSoftmax;
      owned->softmax = {static_cast<float>(attribute("beta"))};
      node.builtin_data = &owned->softmax;
    } else if (described.op == "MAX_POOL_2D" || described.op == "AVERAGE_POOL_2D") {
      registration.builtin_code =
          described.op == "MAX_POOL_2D" ? kTfLiteBuiltinMaxPool2d : kTfLiteBuiltinAveragePool2d;
      owned->pool = {attribute("padding"),       attribute("stride_width"),
                     attribute("stride_height"), attribute("filter_width"),
                     attribute("filter_height"), attribute("fused_activation_function")};
      node.builtin_data = &owned->pool;
    } else if (described.op == "ADD") {
      registration.builtin_code = kTfLiteBuiltinAdd;
      owned->add.activation = attribute("fused_activation_function");
      node.builtin_data = &owned->add;
      if (is_well_formed && tensors_[described.inputs[0]].type == kTfLiteFloat32 &&
          owned->add.activation <= kTfLiteActRelu) {
        registration.prepare = PrepareLikeFirstInput;
        registration.invoke = InvokeAdd;
      }
    } else {
      owned->options = std::make_unique<ReadOnlyBuffer>(described.options, 1);
      node.custom_initial_data = described.options.empty() ? nullptr : owned->options->data();
      node.custom_initial_data_size = static_cast<int>(described.options.size());
      if (is_well_formed && described.op == "Copy") {
        registration.prepare = PrepareLikeFirstInput;
        registration.invoke = InvokeCopy;
      }
    }
    plan_.push_back(static_cast<int>(nodes_.size()));
    nodes_.push_back(std::move(owned));
  }
  context_.tensors_size = tensors_.size();
  context_.tensors = tensors_.data();
  context_.impl = this;
  context_.GetExecutionPlan = GetExecutionPlan;
  context_.ResizeTensor = ResizeTensor;
  context_.ReportError = ReportError;
  context_.GetNodeAndRegistration = GetNodeAndRegistration;
  context_.ReplaceNodeSubsetsWithDelegateKernels = ReplaceNodes;
}

Interpreter::~Interpreter() {
  for (const auto& owned : nodes_) {
    if (owned->registration.free != nullptr) {
      owned->registration.free(&context_, owned->node.user_data);
    }
  }
  for (TfLiteTensor& tensor : tensors_) std::free(tensor.dims);
}

Interpreter& Interpreter::From(TfLiteContext* context) {
  return *static_cast<Interpreter*>(context->impl);
}

TfLiteStatus Interpreter::GetExecutionPlan(TfLiteContext* context, TfLiteIntArray** plan) {
  Interpreter& self = From(context);
  self.plan_array_ = MakeIntArray(self.plan_);
  *plan = self.plan_array_.get();
  return kTfLiteOk;
}

TfLiteStatus Interpreter::GetNodeAndRegistration(TfLiteContext* context, int index,
                                                 TfLiteNode** node,
                                                 TfLiteRegistration** registration) {
  Interpreter& self = From(context);
  if (index < 0 || static_cast<size_t>(index) >= self.nodes_.size()) return kTfLiteError;
  *node = &self.nodes_[index]->node;
  *registration = &self.nodes_[index]->registration;
  return kTfLiteOk;
}

TfLiteStatus Interpreter::ReplaceNodes(TfLiteContext* context, TfLiteRegistration registration,
                                       const TfLiteIntArray* nodes, TfLiteDelegate* delegate) {
  Interpreter& self = From(context);
  const std::set<int> claimed(nodes->data, nodes->data + nodes->size);
  const std::vector<int> old_plan = std::move(self.plan_);
  self.plan_.clear();
  std::vector<int> partition;
  const auto close = [&] {
    if (partition.empty()) return;
    self.plan_.push_back(self.AddPartition(partition, registration, delegate));
    partition.clear();
  };
  for (int node : old_plan) {
    const bool is_claimed = claimed.count(node) != 0;
    const bool is_full = static_cast<int>(partition.size()) >= self.max_partition_ &&
                         !self.nodes_[partition.back()]->converts();
    if (!is_claimed || is_full) close();
    (is_claimed ? partition : self.plan_).push_back(node);
  }
  close();
  return kTfLiteOk;
}

int Interpreter::AddPartition(const std::vector<int>& nodes, const TfLiteRegistration& registration,
                              TfLiteDelegate* delegate) {
  const std::set<int> inside(nodes.begin(), nodes.end());
  std::set<int> read;
  std::set<int> written;
  std::set<int> wanted(outputs_.begin(), outputs_.end());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const bool is_inside = inside.count(static_cast<int>(i)) != 0;
    const TfLiteNode& node = nodes_[i]->node;
    for (int j = 0; j < node.inputs->size; ++j) {
      if (IsTensor(node.inputs->data[j])) (is_inside ? read : wanted).insert(node.inputs->data[j]);
    }
    for (int j = 0; j < node.outputs->size && is_inside; ++j) {
      if (IsTensor(node.outputs->data[j])) written.insert(node.outputs->data[j]);
    }
  }
  std::vector<int> inputs;
  std::vector<int> outputs;
  std::set_difference(read.begin(), read.end(), written.begin(), written.end(),
                      std::back_inserter(inputs));
  std::set_intersection(written.begin(), written.end(), wanted.begin(), wanted.end(),
                        std::back_inserter(outputs));

  auto owned = std::make_unique<GraphNode>();
  owned->registration = registration;
  owned->inputs = MakeIntArray(inputs);
  owned->outputs = MakeIntArray(outputs);
  owned->node.inputs = owned->inputs.get();
  owned->node.outputs = owned->outputs.get();
  owned->node.delegate = delegate;
  const IntArray replaced = MakeIntArray(nodes);
  const TfLiteDelegateParams params = {delegate, replaced.get(), owned->inputs.get(),
                                       owned->outputs.get()};
  // The interpreter frees whatever init returns: nothing may come between the two.
  nodes_.push_back(std::move(owned));
  TfLiteNode& node = nodes_.back()->node;
  node.user_data = registration.init(&context_, reinterpret_cast<const char*>(&params), 0);
  return static_cast<int>(nodes_.size()) - 1;
}

bool Interpreter::BytesRequired(TfLiteType type, const TfLiteIntArray& dims, size_t* bytes) const {
  *bytes = ElementSize(type);
  for (int i = 0; i < dims.size; ++i) {
    if (dims.data[i] < 0 ||
        __builtin_mul_overflow(*bytes, static_cast<size_t>(dims.data[i]), bytes)) {
      return false;
    }
  }
  return *bytes <= max_bytes_;
}

TfLiteStatus Interpreter::ResizeTensor(TfLiteContext* context, TfLiteTensor* tensor,
                                       TfLiteIntArray* dims) {
  IntArray owned(dims);
  if (tensor->allocation_type == kTfLiteMmapRo) return kTfLiteError;
  if (!From(context).BytesRequired(tensor->type, *dims, &tensor->bytes)) return kTfLiteError;
  if (!SameDims(*tensor->dims, *dims)) tensor->data = nullptr;
  std::free(tensor->dims);
  tensor->dims = owned.release();
  return kTfLiteOk;
}

void Interpreter::ReportError(TfLiteContext* context, const char* format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof(message), format, arguments);
  va_end(arguments);
  From(context).error_ = message;
}

bool Interpreter::ModifyGraphWithDelegate(TfLiteDelegate* delegate) {
  return delegate->Prepare(&context_, delegate) == kTfLiteOk;
}

bool Interpreter::ResizeInputTensor(int index, const std::vector<int>& dims) {
  return ResizeTensor(&context_, &tensors_[index], MakeIntArray(dims).release()) == kTfLiteOk;
}

std::vector<int> Interpreter::TensorsInUse() const {
  std::set<int> used(outputs_.begin(), outputs_.end());
  used.insert(0);
  for (int index : plan_) {
    const TfLiteNode& node = nodes_[index]->node;
    for (const TfLiteIntArray* tensors : {node.inputs, node.outputs}) {
      used.insert(tensors->data, tensors->data + tensors->size);
    }
  }
  std::vector<int> indices;
  std::copy_if(used.begin(), used.end(), std::back_inserter(indices),
               [this](int index) { return IsTensor(index); });
  return indices;
}

bool Interpreter::AllocateTensors() {
  for (int index : plan_) {
    GraphNode& owned = *nodes_[index];
    if (owned.registration.prepare == nullptr) {
      error_ = "Encountered unresolved op: " + owned.op;
      return false;
    }
    if (owned.registration.prepare(&context_, &owned.node) != kTfLiteOk) return false;
  }
  // All the new ones before any old one goes: none lies where it lay.
  std::vector<Buffer> buffers(tensors_.size());
  for (int index : TensorsInUse()) {
    TfLiteTensor& tensor = tensors_[index];
    if (tensor.allocation_type == kTfLiteMmapRo) continue;
    buffers[index].reset(static_cast<char*>(std::malloc(tensor.bytes)));
    tensor.data = buffers[index].get();
  }
  buffers_ = std::move(buffers);
  return true;
}

bool Interpreter::Invoke() {
  static std::atomic<int> invocations{0};
  const int garbage = 0x55 + ++invocations % 64;
  for (int index : plan_) {
    GraphNode& owned = *nodes_[index];
    for (int i = 0; i < owned.outputs->size; ++i) {
      const int output = owned.outputs->data[i];
      // A malformed graph may write its input or a constant.
      if (output == 0 || !buffers_[output]) continue;
      std::memset(tensors_[output].data, garbage, tensors_[output].bytes);
    }
    if (owned.registration.invoke(&context_, &owned.node) != kTfLiteOk) return false;
  }
  return true;
}

}  // namespace bireal::testing

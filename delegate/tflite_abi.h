// The part of TensorFlow Lite's C ABI that a delegate talks to.
//
// No wheel and no distribution package ships these headers, and a delegate needs only a few
// structs: everything it calls it reaches through function pointers in TfLiteContext. The
// layouts below follow tensorflow/lite/core/c/common.h, which has appended fields over the
// years and moved none of these; the static_asserts at the end pin them down, and the tests
// load the library into every interpreter that we claim to support.
#ifndef BIREAL_DELEGATE_TFLITE_ABI_H_
#define BIREAL_DELEGATE_TFLITE_ABI_H_

#include <cstddef>
#include <cstdint>

extern "C" {

enum TfLiteStatus : int { kTfLiteOk = 0, kTfLiteError = 1 };

enum TfLiteType : int {
  kTfLiteNoType = 0,
  kTfLiteFloat32 = 1,
  kTfLiteInt32 = 2,
  kTfLiteUInt8 = 3,
  kTfLiteBool = 6,
  kTfLiteInt8 = 9,
  kTfLiteFloat16 = 10,
};

enum TfLiteAllocationType : int { kTfLiteMmapRo = 1 };

constexpr int kTfLiteOptionalTensor = -1;
constexpr int32_t kTfLiteBuiltinAdd = 0;
constexpr int32_t kTfLiteBuiltinAveragePool2d = 1;
constexpr int32_t kTfLiteBuiltinConcatenation = 2;
constexpr int32_t kTfLiteBuiltinConv2d = 3;
constexpr int32_t kTfLiteBuiltinDepthwiseConv2d = 4;
constexpr int32_t kTfLiteBuiltinDequantize = 6;
constexpr int32_t kTfLiteBuiltinFullyConnected = 9;
constexpr int32_t kTfLiteBuiltinLogistic = 14;
constexpr int32_t kTfLiteBuiltinMaxPool2d = 17;
constexpr int32_t kTfLiteBuiltinMul = 18;
constexpr int32_t kTfLiteBuiltinSoftmax = 25;
constexpr int32_t kTfLiteBuiltinCustom = 32;
constexpr int32_t kTfLiteBuiltinMean = 40;
constexpr int32_t kTfLiteBuiltinSub = 41;
constexpr int32_t kTfLiteBuiltinCast = 53;
constexpr int32_t kTfLiteBuiltinPrelu = 54;
constexpr int32_t kTfLiteBuiltinSplitV = 102;
constexpr int kTfLiteActNone = 0;
constexpr int kTfLiteActRelu = 1;
constexpr int kTfLiteAffineQuantization = 1;
constexpr int kTfLitePaddingSame = 1;
constexpr int kTfLitePaddingValid = 2;
constexpr int64_t kTfLiteDelegateFlagsAllowDynamicTensors = 1;

struct TfLiteContext;
struct TfLiteDelegate;
struct TfLiteNode;

struct TfLiteIntArray {
  int size;
  int data[];  // A GNU extension in C++, and the ABI.
};

struct TfLiteFloatArray {
  int size;
  float data[];
};

struct TfLiteQuantizationParams {
  float scale;
  int32_t zero_point;
};

struct TfLiteQuantization {
  int type;
  void* params;
};

// The params of a TfLiteQuantization of type kTfLiteAffineQuantization.
struct TfLiteAffineQuantization {
  TfLiteFloatArray* scale;
  TfLiteIntArray* zero_point;
  int32_t quantized_dimension;
};

struct TfLiteTensor {
  TfLiteType type;
  void* data;
  TfLiteIntArray* dims;
  TfLiteQuantizationParams params;
  TfLiteAllocationType allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  TfLiteDelegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  TfLiteQuantization quantization;
  void* sparsity;
  const TfLiteIntArray* dims_signature;
};

struct TfLiteNode {
  TfLiteIntArray* inputs;
  TfLiteIntArray* outputs;
  TfLiteIntArray* intermediates;
  TfLiteIntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  TfLiteDelegate* delegate;
  bool might_have_side_effect;
};

struct TfLiteRegistration {
  void* (*init)(TfLiteContext*, const char* buffer, size_t length);
  void (*free)(TfLiteContext*, void* user_data);
  TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
  const char* (*profiling_string)(const TfLiteContext*, const TfLiteNode*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
};

struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext*, TfLiteIntArray** execution_plan);
  TfLiteTensor* tensors;
  void* impl;
  // Takes ownership of `new_size`, which must come from malloc.
  TfLiteStatus (*ResizeTensor)(TfLiteContext*, TfLiteTensor*, TfLiteIntArray* new_size);
  void (*ReportError)(TfLiteContext*, const char* format, ...);
  void* add_tensors;
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext*, int node_index, TfLiteNode**,
                                         TfLiteRegistration**);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext*, TfLiteRegistration,
                                                        const TfLiteIntArray* nodes_to_replace,
                                                        TfLiteDelegate*);
  int recommended_num_threads;
  void* unused[15];
};

struct TfLiteDelegate {
  void* data;
  TfLiteStatus (*Prepare)(TfLiteContext*, TfLiteDelegate*);
  void* copy_from_buffer_handle;
  void* copy_to_buffer_handle;
  void* free_buffer_handle;
  int64_t flags;
  void* opaque_delegate_builder;
};

// The builtin_data of an ADD.
struct TfLiteAddParams {
  int activation;
  bool pot_scale_int16;
};

// The builtin_data of a MUL.
struct TfLiteMulParams {
  int activation;
};

// The builtin_data of a SUB.
struct TfLiteSubParams {
  int activation;
  bool pot_scale_int16;
};

// The builtin_data of a CONCATENATION; there is more of it.
struct TfLiteConcatenationParams {
  int axis;
  int activation;
};

// The builtin_data of a CONV_2D; there is more of it.
struct TfLiteConvParams {
  int padding;
  int stride_width;
  int stride_height;
  int activation;
  int dilation_width_factor;
  int dilation_height_factor;
};

// The builtin_data of a DEPTHWISE_CONV_2D.
struct TfLiteDepthwiseConvParams {
  int padding;
  int stride_width;
  int stride_height;
  int depth_multiplier;
  int activation;
  int dilation_width_factor;
  int dilation_height_factor;
};

// The builtin_data of a FULLY_CONNECTED; there is more of it.
struct TfLiteFullyConnectedParams {
  int activation;
  int weights_format;
  bool keep_num_dims;
};

// The builtin_data of a SOFTMAX.
struct TfLiteSoftmaxParams {
  float beta;
};

// The builtin_data of a MEAN.
struct TfLiteReducerParams {
  bool keep_dims;
};

// The builtin_data of a MAX_POOL_2D and of an AVERAGE_POOL_2D; there is more of it.
struct TfLitePoolParams {
  int padding;
  int stride_width;
  int stride_height;
  int filter_width;
  int filter_height;
  int activation;
};

// What a delegate kernel's `init` receives as its buffer.
struct TfLiteDelegateParams {
  TfLiteDelegate* delegate;
  TfLiteIntArray* nodes_to_replace;
  TfLiteIntArray* input_tensors;
  TfLiteIntArray* output_tensors;
};

}  // extern "C"

#if UINTPTR_MAX == UINT64_MAX
static_assert(sizeof(TfLiteTensor) == 112, "TfLiteTensor");
static_assert(offsetof(TfLiteTensor, bytes) == 40, "TfLiteTensor::bytes");
static_assert(sizeof(TfLiteNode) == 80, "TfLiteNode");
static_assert(offsetof(TfLiteNode, custom_initial_data_size) == 56, "TfLiteNode");
static_assert(sizeof(TfLiteRegistration) == 88, "TfLiteRegistration");
static_assert(sizeof(TfLiteContext) == 200, "TfLiteContext");
static_assert(offsetof(TfLiteContext, GetExecutionPlan) == 8, "TfLiteContext");
static_assert(offsetof(TfLiteContext, ReplaceNodeSubsetsWithDelegateKernels) == 64,
              "TfLiteContext");
static_assert(sizeof(TfLiteDelegate) == 56, "TfLiteDelegate");
static_assert(offsetof(TfLiteDelegate, flags) == 40, "TfLiteDelegate::flags");
#elif defined(__arm__)
static_assert(sizeof(TfLiteTensor) == 64, "TfLiteTensor");
static_assert(offsetof(TfLiteTensor, bytes) == 24, "TfLiteTensor::bytes");
static_assert(sizeof(TfLiteNode) == 40, "TfLiteNode");
static_assert(offsetof(TfLiteNode, custom_initial_data_size) == 28, "TfLiteNode");
// Passed by value, partly in registers: which ones follows from its size and alignment.
static_assert(sizeof(TfLiteRegistration) == 48, "TfLiteRegistration");
static_assert(alignof(TfLiteRegistration) == 8, "TfLiteRegistration");
static_assert(sizeof(TfLiteContext) == 100, "TfLiteContext");
static_assert(offsetof(TfLiteContext, GetExecutionPlan) == 4, "TfLiteContext");
static_assert(offsetof(TfLiteContext, ReplaceNodeSubsetsWithDelegateKernels) == 32,
              "TfLiteContext");
static_assert(sizeof(TfLiteDelegate) == 40, "TfLiteDelegate");
static_assert(offsetof(TfLiteDelegate, flags) == 24, "TfLiteDelegate::flags");
#endif

#endif  // BIREAL_DELEGATE_TFLITE_ABI_H_

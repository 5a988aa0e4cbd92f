// What LCE's ops mean, on unpacked values and without a thought of speed. Shares nothing with
// the kernels: it multiplies signs where they count bits.
#ifndef BIREAL_DELEGATE_TESTING_NAIVE_H_
#define BIREAL_DELEGATE_TESTING_NAIVE_H_

#include <map>
#include <vector>

#include "delegate/testing/graph.h"

namespace bireal::testing {

// An activation, NHWC; a packed one as -1 and +1.
struct Values {
  std::vector<int> dims;
  std::vector<float> values;
};

// Between values and the bytes that a tensor holds.
std::vector<uint8_t> ToBytes(const Tensor& tensor, const Values& values);
Values FromBytes(const Tensor& tensor, const std::vector<int>& dims,
                 const std::vector<uint8_t>& bytes);

// The activations of a graph that MakeGraph made, by tensor.
std::map<int, Values> RunNaively(const Graph& graph, const Values& input);

}  // namespace bireal::testing

#endif  // BIREAL_DELEGATE_TESTING_NAIVE_H_

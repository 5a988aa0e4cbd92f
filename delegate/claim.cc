#include "delegate/claim.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "delegate/model.h"
#include "delegate/ops.h"

namespace bireal {
namespace {

std::vector<int> Elements(const TfLiteIntArray* array) {
  if (array == nullptr) return {};
  return std::vector<int>(array->data, array->data + array->size);
}

// Throws when a node reads what only it or a later node writes. A stock interpreter that is asked
// to partition such a graph may write where it must not.
void RequireOrder(const std::vector<PlannedNode>& plan) {
  std::unordered_map<int, size_t> first_writer;  // By tensor.
  for (size_t i = 0; i < plan.size(); ++i) {
    for (int output : Elements(plan[i].node->outputs)) first_writer.emplace(output, i);
  }
  for (size_t i = 0; i < plan.size(); ++i) {
    for (int input : Elements(plan[i].node->inputs)) {
      const auto writer = first_writer.find(input);
      if (input == kTfLiteOptionalTensor || writer == first_writer.end() || writer->second < i) {
        continue;
      }
      Fail("node %d reads tensor %d before node %d writes it", plan[i].index, input,
           plan[writer->second].index);
    }
  }
}

bool HasLceOps(const TfLiteContext& context, const std::vector<PlannedNode>& plan) {
  return std::any_of(plan.begin(), plan.end(), [&](const PlannedNode& planned) {
    const Op* op = FindOp(context, *planned.node, *planned.registration);
    return op != nullptr && op->builtin_code == kTfLiteBuiltinCustom;
  });
}

}  // namespace

std::vector<PlannedNode> ExecutionPlan(TfLiteContext* context) {
  TfLiteIntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) {
    throw ModelError("the graph has no execution plan");
  }
  std::vector<PlannedNode> nodes;
  for (int index : Elements(plan)) {
    PlannedNode planned = {index, nullptr, nullptr};
    if (context->GetNodeAndRegistration(context, index, &planned.node, &planned.registration) !=
        kTfLiteOk) {
      throw ModelError("the graph lacks a node of its execution plan");
    }
    nodes.push_back(planned);
  }
  return nodes;
}

std::vector<std::vector<int>> ClaimedTurns(const TfLiteContext& context,
                                           const std::vector<PlannedNode>& plan,
                                           bool claims_float) {
  RequireOrder(plan);
  claims_float = claims_float && HasLceOps(context, plan);
  struct Node {
    const Op* op = nullptr;  // Null where the interpreter runs the node.
    int turn = 0;  // How often the interpreter hands over to the delegate on the way to it.
    std::vector<size_t> producers;
    int readers = 0;
  };
  std::vector<Node> nodes(plan.size());
  std::unordered_map<int, size_t> producer_of;  // By tensor.
  for (size_t i = 0; i < plan.size(); ++i) {
    Node& node = nodes[i];
    bool follows_ours = false;
    for (int input : Elements(plan[i].node->inputs)) {
      const auto producer = producer_of.find(input);
      if (producer == producer_of.end()) continue;
      node.producers.push_back(producer->second);
      ++nodes[producer->second].readers;
      follows_ours = follows_ours || nodes[producer->second].op != nullptr;
    }
    const Op* op = FindOp(context, *plan[i].node, *plan[i].registration);
    if (op != nullptr && (claims_float || !op->is_float) && (follows_ours || !op->follows)) {
      node.op = op;
    }
    for (size_t producer : node.producers) {
      const bool handed_over = node.op != nullptr && nodes[producer].op == nullptr;
      node.turn = std::max(node.turn, nodes[producer].turn + handed_over);
    }
    for (int output : Elements(plan[i].node->outputs)) producer_of[output] = i;
  }

  for (size_t i = 0; i < plan.size(); ++i) {
    if (nodes[i].op == nullptr || !nodes[i].op->follows) continue;
    for (size_t producer : nodes[i].producers) {
      Node& node = nodes[producer];
      if (node.op != nullptr && node.readers == 1) node.turn = nodes[i].turn;
    }
  }

  std::map<int, std::vector<int>> turns;
  for (size_t i = 0; i < plan.size(); ++i) {
    if (nodes[i].op != nullptr) turns[nodes[i].turn].push_back(plan[i].index);
  }
  std::vector<std::vector<int>> in_order;
  for (auto& turn : turns) in_order.push_back(std::move(turn.second));
  return in_order;
}

}  // namespace bireal

#include "delegate/claim.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "delegate/model.h"
#include "delegate/ops.h"
#include "delegate/sources.h"

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
    const Op* op = FindOp(context, Sources(), *planned.node, *planned.registration);
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
    // A conversion that a step of ours reads through; and whether this node does so.
    bool is_read_through = false;
    bool reads_through = false;
  };
  std::vector<Node> nodes(plan.size());
  std::unordered_map<int, size_t> producer_of;  // By tensor.
  const auto find_op = [&](size_t i, const Sources& sources) {
    const Op* op = FindOp(context, sources, *plan[i].node, *plan[i].registration);
    return op != nullptr && (claims_float || !op->is_float) ? op : nullptr;
  };
  const auto is_ours = [&](size_t producer) { return nodes[producer].op != nullptr; };

  const Sources sources(context, plan);
  const Sources no_sources;
  for (size_t i = 0; i < plan.size(); ++i) {
    Node& node = nodes[i];
    std::vector<size_t> conversions;
    std::vector<size_t> beyond;  // The producers of what the conversions read.
    for (int input : Elements(plan[i].node->inputs)) {
      const auto producer = producer_of.find(input);
      if (producer == producer_of.end()) continue;
      node.producers.push_back(producer->second);
      ++nodes[producer->second].readers;
      if (!sources.Converts(*plan[producer->second].node)) {
        beyond.push_back(producer->second);
        continue;
      }
      // A conversion has one reader: no conversion is met twice.
      for (size_t next = producer->second;;) {
        conversions.push_back(next);
        const std::vector<size_t>& before = nodes[next].producers;
        if (before.empty()) break;
        if (!sources.Converts(*plan[before[0]].node)) {
          beyond.insert(beyond.end(), before.begin(), before.end());
          break;
        }
        next = before[0];
      }
    }

    // In a later turn the interpreter may hand a conversion over before its reader.
    const bool is_first_turn = std::all_of(beyond.begin(), beyond.end(), [&](size_t producer) {
      return is_ours(producer) && nodes[producer].turn == 0;
    });
    if (!conversions.empty() && is_first_turn && !sources.Converts(*plan[i].node)) {
      const Op* op = find_op(i, sources);
      node.reads_through = op != nullptr && op->reads_through && (!op->follows || !beyond.empty());
    }
    if (node.reads_through) {
      for (size_t conversion : conversions) nodes[conversion].is_read_through = true;
      node.producers = std::move(beyond);
    }
    const Op* op = find_op(i, node.reads_through ? sources : no_sources);
    const bool follows_ours = std::any_of(node.producers.begin(), node.producers.end(), is_ours);
    if (op != nullptr && (follows_ours || !op->follows)) node.op = op;
    for (size_t producer : node.producers) {
      const bool handed_over = node.op != nullptr && !is_ours(producer);
      node.turn = std::max(node.turn, nodes[producer].turn + handed_over);
    }
    for (int output : Elements(plan[i].node->outputs)) producer_of[output] = i;
  }

  for (size_t i = 0; i < plan.size(); ++i) {
    if (nodes[i].op == nullptr || !nodes[i].op->follows) continue;
    for (size_t producer : nodes[i].producers) {
      Node& node = nodes[producer];
      if (node.op != nullptr && node.readers == 1 && !node.reads_through) {
        node.turn = nodes[i].turn;
      }
    }
  }

  std::map<int, std::vector<int>> turns;
  for (size_t i = 0; i < plan.size(); ++i) {
    if (nodes[i].is_read_through) {
      turns[0].push_back(plan[i].index);
    } else if (nodes[i].op != nullptr) {
      turns[nodes[i].turn].push_back(plan[i].index);
    }
  }
  std::vector<std::vector<int>> in_order;
  for (auto& turn : turns) in_order.push_back(std::move(turn.second));
  return in_order;
}

}  // namespace bireal

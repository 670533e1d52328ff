// Systems that are wrong on purpose, each of which the simulation must catch: engines (engine::Fault), and
// nodes whose mistake the harness makes in the node's stead.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/engine.h"

namespace turnpike::simulation {

enum class NodeFault : std::uint8_t {
  kNone,
  kAcknowledgesEarly,  // a submit is acknowledged before its batch is committed
  kStartsEarly,        // a try is started before its batch is committed
  kDropsRefillRow,     // the answer to a refill lacks a row
  kForgesReadBatch,    // an old read is passed off as a fresh one
  kForgetsProcessing,  // recovery lacks a job that was processing
  kForgetsQueue,       // recovery lacks the counts of a queue
  kRelabelsDeadTry,    // what a dead try reports is attributed to the job's live one
  kWritesTwice,        // a job that completed is written as completed again by a late report
  kLosesMutation,      // a mutation is left out when the batch is put together
};

struct Broken {
  std::string_view name;
  engine::Fault engine = engine::Fault::kNone;
  NodeFault node = NodeFault::kNone;
};

std::span<const Broken> broken_variants();
std::optional<Broken> broken_by_name(std::string_view name);

}  // namespace turnpike::simulation

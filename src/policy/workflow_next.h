// What follows in a run from what has ended: which steps begin, with which inputs, and in the end its result.
// Pure and thread-safe.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "policy/workflow.h"

namespace turnpike::policy {

enum class StepProgress : std::uint8_t { kWaiting, kRunning, kCompleted, kSkipped };
// A step as it stands. Of one that completed, what each of its jobs made, in order.
struct StepFacts {
  StepProgress state = StepProgress::kWaiting;
  std::vector<boost::json::value> outputs = {};
  std::vector<boost::json::array> artifacts = {};  // of each job: [{"id","mime","bytes"}]
};
struct RunFacts {
  const boost::json::object& input;
  const Plan& plan;              // that applies to the account
  std::vector<StepFacts> steps;  // as Workflow::steps
};

struct NextStep {
  std::size_t step = 0;
  bool skipped = false;
  std::vector<boost::json::object> inputs = {};  // one for each of its jobs; of an empty list: none
};
struct NextOf {
  // Steps that were waiting, in the workflow's order; what follows from one that is skipped, or whose list is
  // empty, is here too.
  std::vector<NextStep> begin;
  // All steps have ended well, `begin` included: the run's output.
  std::optional<boost::json::value> output;
};

// The content types that the input asks for by name (`content_types`, a list), of a workflow with branches
// for them. Errors, `param` "content_types": kInvalidRequest (there is no such type), kNotInPlan (names it,
// and what the plan has).
Result<void> check_content_types(const Policy& policy, const Plan& plan, const Workflow& workflow,
                                 const boost::json::object& input);

// Steps that will have one job for certain, once what they need has ended: they are skipped by nothing, and
// have no list. In the workflow's order.
std::vector<std::size_t> certain_steps(const Workflow& workflow, const boost::json::object& input,
                                       const Plan& plan);

// `jobs_max`: jobs that the run may have beside those of the steps that have begun. Errors: kUnprocessable,
// `param` the step's name ("output" for the run's): a value is not there, a list is none or too long, lists
// side by side differ in length, what begins is more than `jobs_max` jobs or kNextBytesMax of inputs; the
// output is more than Workflow::kOutputBytesMax. The run cannot go on.
constexpr std::size_t kNextBytesMax = 16U << 20;  // of the inputs of all jobs that begin at once
Result<NextOf> next_of(const Workflow& workflow, const RunFacts& facts, std::size_t jobs_max);

}  // namespace turnpike::policy

#include "policy/policy.h"

#include "policy/contains.h"

namespace turnpike::policy {

const char* class_name(PriorityClass c) {
  switch (c) {
    case PriorityClass::kLow:
      return "low";
    case PriorityClass::kStandard:
      return "standard";
    case PriorityClass::kHigh:
      return "high";
    case PriorityClass::kCritical:
      return "critical";
  }
  return "standard";
}

const char* failure_class_name(FailureClass c) {
  switch (c) {
    case FailureClass::kTransient:
      return "transient";
    case FailureClass::kRateLimited:
      return "rate_limited";
    case FailureClass::kTimeout:
      return "timeout";
    case FailureClass::kInvalidInput:
      return "invalid_input";
    case FailureClass::kMisconfigured:
      return "misconfigured";
    case FailureClass::kBadOutput:
      return "bad_output";
  }
  return "transient";
}

bool failure_class_retryable(FailureClass c) {
  switch (c) {
    case FailureClass::kTransient:
    case FailureClass::kRateLimited:
    case FailureClass::kTimeout:
    case FailureClass::kBadOutput:
      return true;
    case FailureClass::kInvalidInput:
    case FailureClass::kMisconfigured:
      return false;
  }
  return false;
}

bool Plan::has_task(std::string_view task) const {
  return !tasks || contains(*tasks, task);
}

const Plan* Policy::plan(std::string_view name) const {
  const auto found = plans.find(name);
  return found == plans.end() ? nullptr : &found->second;
}

}  // namespace turnpike::policy

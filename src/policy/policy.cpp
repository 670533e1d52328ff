#include "policy/policy.h"

#include <algorithm>

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

const std::string& Policy::anonymous_plan() const {
  static const std::string kNone;
  const auto found =
      std::ranges::find_if(endpoints, [](const Endpoint& endpoint) { return !endpoint.public_plan.empty(); });
  return found == endpoints.end() ? kNone : found->public_plan;
}

PricePtr Policy::price(std::string_view provider, std::string_view upstream_model) const {
  static const PricePtr kNothing = [] {
    Price free;
    free.request = Rate{};
    return std::make_shared<const Price>(std::move(free));
  }();
  if (const auto table = prices.find(provider); table != prices.end()) {
    auto entry = table->second.find(upstream_model);
    if (entry == table->second.end()) entry = table->second.find(kAnyModel);
    if (entry != table->second.end()) return entry->second;
  }
  const auto known = providers.find(provider);
  const bool local = known != providers.end() && !is_remote(known->second.kind);
  return local ? kNothing : nullptr;
}

const Secret* Provider::secret(std::string_view key_name) const {
  if (key_name.empty()) return &api_key;
  const auto found = std::ranges::find(keys, key_name, &ProviderKey::name);
  return found == keys.end() ? nullptr : &found->key;
}

std::uint32_t place_in_share(std::string_view of, std::string_view user_id) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a: the same on every machine
  const auto take = [&hash](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  };
  take(of);
  take(std::string_view("\0", 1));
  take(user_id);
  // FNV's low bits are its weakest: spread once more before the share is taken.
  hash ^= hash >> 32;
  hash *= 0x9e3779b97f4a7c15ULL;
  hash ^= hash >> 29;
  return static_cast<std::uint32_t>(hash % 1000);
}

bool flag_on(const Flag& flag, std::string_view user_id, std::string_view plan) {
  return contains(flag.accounts, user_id) || contains(flag.plans, plan) ||
         place_in_share(flag.name, user_id) < flag.share_permille;
}

}  // namespace turnpike::policy

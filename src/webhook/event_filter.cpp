#include "webhook/event_filter.h"

#include <algorithm>
#include <array>

namespace turnpike::webhook {
namespace {

using engine::EventType;

constexpr std::array kTypes = {
    EventType::kJobQueued,     EventType::kJobStarted,     EventType::kJobProgress,
    EventType::kJobCompleted,  EventType::kJobFailed,      EventType::kJobCancelled,
    EventType::kJobExpired,    EventType::kUsageThreshold, EventType::kModelDiscovered,
    EventType::kPolicyChanged, EventType::kPlanChanged,    EventType::kAlertRaised,
    EventType::kAlertCleared};

std::string family_of(std::string_view type) {
  return std::string(type.substr(0, type.find('.'))) + ".*";
}

}  // namespace

std::vector<std::string> known_filters() {
  std::vector<std::string> known{"*"};
  for (const EventType type : kTypes) {
    known.emplace_back(engine::event_type_name(type));
    std::string family = family_of(known.back());
    if (std::ranges::find(known, family) == known.end()) known.push_back(std::move(family));
  }
  return known;
}

bool ends_a_job(EventType type) {
  return type == EventType::kJobCompleted || type == EventType::kJobFailed ||
         type == EventType::kJobCancelled || type == EventType::kJobExpired;
}

bool wants(const std::vector<std::string>& filters, EventType type) {
  const std::string_view name = engine::event_type_name(type);
  return std::ranges::any_of(filters, [&](const std::string& filter) {
    return filter == name ||
           (type != EventType::kJobProgress && (filter == "*" || filter == family_of(name)));
  });
}

}  // namespace turnpike::webhook

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
    EventType::kAlertCleared,  EventType::kRunStarted,     EventType::kRunCompleted,
    EventType::kRunFailed,     EventType::kRunCancelled,   EventType::kStepQueued,
    EventType::kStepCompleted, EventType::kStepSkipped,    EventType::kStepFailed};

// "job.*"; of "run.step.queued": "run.*", and then "run.step.*".
std::vector<std::string> families_of(std::string_view type) {
  std::vector<std::string> families;
  for (auto dot = type.find('.'); dot != std::string_view::npos; dot = type.find('.', dot + 1))
    families.push_back(std::string(type.substr(0, dot)) + ".*");
  return families;
}

}  // namespace

std::vector<std::string> known_filters() {
  std::vector<std::string> known{"*"};
  for (const EventType type : kTypes) {
    known.emplace_back(engine::event_type_name(type));
    for (std::string& family : families_of(engine::event_type_name(type))) {
      if (std::ranges::find(known, family) == known.end()) known.push_back(std::move(family));
    }
  }
  return known;
}

bool ends_work(EventType type) {
  return type == EventType::kJobCompleted || type == EventType::kJobFailed ||
         type == EventType::kJobCancelled || type == EventType::kJobExpired ||
         type == EventType::kRunCompleted || type == EventType::kRunFailed ||
         type == EventType::kRunCancelled;
}

bool wants(const std::vector<std::string>& filters, EventType type) {
  const std::string_view name = engine::event_type_name(type);
  const std::vector<std::string> families = families_of(name);
  return std::ranges::any_of(filters, [&](const std::string& filter) {
    return filter == name || (type != EventType::kJobProgress &&
                              (filter == "*" || std::ranges::find(families, filter) != families.end()));
  });
}

}  // namespace turnpike::webhook

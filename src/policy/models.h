// The catalogue's models and their versions, and what a plan may use of them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "policy/versions.h"

namespace turnpike::policy {

struct ModelRoute {
  std::string provider;
  std::string upstream_model;  // the name the provider knows; "auto": the first that it lists
  friend bool operator==(const ModelRoute&, const ModelRoute&) = default;
};

// One version of a model. What it costs stands in the section `prices`, by the name that its provider knows.
struct ModelVersion {
  std::string version;  // as it is named in requests (NAME@VERSION), pins and answers
  VersionText parsed;   // what that text says
  VersionStatus status = VersionStatus::kApproved;     // as the file says; see Overlay::status_of
  std::optional<std::chrono::sys_days> released = {};  // where the text says no order
  std::vector<ModelRoute> routes = {};                 // in order of preference, at least one
  std::optional<Wall> discovered_at = {};              // nullopt: it stands in the file
  bool served_by(std::string_view provider) const;
  std::optional<std::chrono::sys_days> day() const;  // its own, where it is dated, else that of its release
};

// Which entries of a watched provider's list are versions of a model: their id is `match`, in which
// "{version}" stands for a number or a day ("gpt-4o-{version}").
struct DiscoverRule {
  std::string provider;
  std::string match;
  friend bool operator==(const DiscoverRule&, const DiscoverRule&) = default;
};
constexpr std::string_view kVersionMark = "{version}";

struct Model {
  std::string id;  // the name users see
  std::string task;
  std::vector<ModelVersion> versions;  // newest first, at least one
  // What plans that hold a version and pin none of this model hold: `default`, else the only version, else
  // the one that the file calls blessed. Empty: there is none, and every such plan pins one.
  std::string default_version;
  std::vector<DiscoverRule> discover = {};  // where versions of it may be found beside those
  // What bounds a request that does not say: the most is held.
  std::int64_t max_output_tokens = 4'096;     // task text, without max_tokens
  std::int64_t audio_ms_per_character = 250;  // task speech: slow speech, pauses included
  std::int64_t pixels_default = 1'048'576;    // task image, without width and height
  std::int64_t video_ms_max = 600'000;        // task video, without duration

  const ModelVersion* version(std::string_view text) const;  // null: there is none of exactly that text
  // Whether `text` names some version: exactly, or as a range ("2" where there is 2.1.0).
  bool has_version_within(std::string_view text) const;
  bool served_by(std::string_view provider) const;  // some version of it
  std::vector<std::string> version_names() const;
};

// Which version of a model a plan is served.
enum class VersionPolicy : std::uint8_t {
  kLatest,      // the newest that the plan sees
  kAllowMinor,  // the newest that the plan sees of the pinned one's major (same_major). Dates and names of
                // other kinds have no major: they stay on the pin.
  kPinned,      // exactly the pin; it never moves by itself
};
const char* version_policy_name(VersionPolicy policy);  // "latest", "allow_minor", "pinned"

struct Pin {
  std::string model;
  std::string version;
  friend bool operator==(const Pin&, const Pin&) = default;
};

// What a plan says of one task's models.
struct TaskModels {
  std::optional<VersionPolicy> policy;  // nullopt: the plan's
  // The versions that are held, one of a model; the first one's model serves requests that name none. Models
  // without a pin are held at their default_version, if the plan sees it. With kPinned the plan has the
  // models that are pinned here and no others, if there are any. Empty with kLatest. A pin is served whatever
  // its status, unless it is retired.
  std::vector<Pin> pins;
  friend bool operator==(const TaskModels&, const TaskModels&) = default;
};

// What a plan may use of the catalogue.
struct ModelPolicy {
  VersionPolicy policy = VersionPolicy::kLatest;
  std::map<std::string, TaskModels, std::less<>> tasks;
  bool beta = false;                              // visibility.beta: versions of status beta
  bool unverified = false;                        // visibility.unverified
  std::optional<std::vector<std::string>> allow;  // models by name; nullopt: all

  VersionPolicy policy_of(std::string_view task) const;
  const std::vector<Pin>& pins_of(std::string_view task) const;  // may be empty
  bool allows(std::string_view model) const;
  friend bool operator==(const ModelPolicy&, const ModelPolicy&) = default;
};

}  // namespace turnpike::policy

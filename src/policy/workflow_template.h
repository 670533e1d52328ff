// The language of a workflow's inputs and outputs: a JSON value whose texts are templates. Where it stands
// and what it means is said in workflow.h. Parsed once, expanded for each job. Immutable and thread-safe.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace turnpike::policy {

enum class WorkflowRoot : std::uint8_t { kInput, kOutput, kArtifacts, kItem, kIndex };

// One `${...}`.
struct WorkflowReference {
  WorkflowRoot root = WorkflowRoot::kInput;
  std::string step;                            // of kOutput and kArtifacts: whose
  std::vector<std::string> path;               // below the root: names, numbers of items from 0, and "*"
  std::optional<boost::json::value> fallback;  // what stands behind `:-`
  bool optional = false;                       // `?`

  std::string name() const;  // "steps.scenes.output.texts.*", for messages
};

// What references are looked up in. All is borrowed.
struct WorkflowScope {
  // What a step made. `list`: a list of what its jobs made, in order; else there is one.
  struct Step {
    bool list = false;
    std::vector<const boost::json::value*> outputs = {};
    std::vector<const boost::json::value*> artifacts = {};  // always a list: of all its jobs, in order
  };
  const boost::json::object* input = nullptr;                   // the run's; never null
  std::function<const Step*(std::string_view name)> step = {};  // null: it was skipped
  const boost::json::value* item = nullptr;                     // of a job of a step with `foreach`
  std::optional<std::size_t> index = {};
};

class WorkflowTemplate {
 public:
  static constexpr std::size_t kTextBytesMax = 64U << 10;  // of each text
  static constexpr std::size_t kReferencesMax = 256;       // in all texts together
  static constexpr std::size_t kSegmentsMax = 16;          // of a path, below its root
  static constexpr std::size_t kDepthMax = 16;             // of lists and objects
  static constexpr std::size_t kExpandedBytesMax = 1U << 20;
  static constexpr std::size_t kExpandedDepthMax = 64;

  struct Mistake {
    std::string where;  // within the value: "scenes[0].text"; empty: the whole
    std::string message;
  };
  // Every mistake is told, with the character where it stands; nothing is returned then.
  static std::shared_ptr<const WorkflowTemplate> parse(const boost::json::value& value,
                                                       const std::function<void(Mistake)>& mistake);

  // In order of appearance; `where` as of a mistake.
  struct Use {
    std::string where;
    const WorkflowReference* reference = nullptr;  // never null; of this template
  };
  const std::vector<Use>& uses() const { return uses_; }

  // If the whole is one text that is nothing but one reference; else null.
  const WorkflowReference* sole_reference() const;
  // The names of an object each of whose values is nothing but one reference; nullopt: it is something else.
  std::optional<std::vector<std::string>> names_of_references() const;

  // nullopt: the whole is left out. `bytes_left`: what may still be made, about; less afterwards. Errors:
  // kUnprocessable, with the path that is not there, or what is too much.
  Result<std::optional<boost::json::value>> expand(const WorkflowScope& scope, std::size_t& bytes_left) const;

  ~WorkflowTemplate();
  WorkflowTemplate(const WorkflowTemplate&) = delete;
  WorkflowTemplate& operator=(const WorkflowTemplate&) = delete;

 private:
  struct Node;
  class Parser;
  class Expansion;
  WorkflowTemplate();
  std::unique_ptr<Node> root_;  // never null once it has been parsed
  std::vector<Use> uses_;
};

// The names and numbers of a path, by the dots between; nullopt: it is none. `*` is one of them.
std::optional<std::vector<std::string>> parse_value_path(std::string_view text);

// What a path without `*` leads to; null: it is not there. A JSON null is there.
const boost::json::value* value_at(const boost::json::object& object, const std::vector<std::string>& path);

}  // namespace turnpike::policy

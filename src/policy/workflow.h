// A named graph of steps. Validated when the configuration is loaded; a run keeps the definition that it was
// started with, and reads it again by parse(). Immutable and thread-safe.
//
//   steps:                     in the file's order; names of [A-Za-z0-9_-], 1 to 64
//     scenes:
//       task: split            a task that a model serves, exec programs included
//       model: NAME            default: the task's
//       content_type: NAME     that each of its jobs counts for
//       needs: [other, ...]    steps that must have ended before; steps that its templates name are among
//                              them without being said
//       foreach: "${...}"      one job for each item of that list, at most `at_most` (default 100); with
//                              `${...?}` or a list as default none where there is no list
//                              or {NAME: "${...}", ...}: lists of one length side by side; `item` has these
//                              names, without those that `?` leaves out
//       at_most: 20
//       when:                  else it is skipped; all that are given must hold
//         feature: NAME        of the plan
//         content_type: NAME   that the plan has and, where the input has a list `content_types`, asks for
//         input: PATH          the field is there, and not false, null, 0, or an empty text, list or object;
//                              PATH as `options.voice`, within the input
//       timeout: 2m            of each attempt
//       retry: {...}           attempts, base, factor, cap, jitter, as a plan's
//       input: {...}           of each job: a mapping whose texts are templates; default: empty
//   output: ...                of the run: likewise, a list or one text too; default: the outputs of the
//                              steps that no other needs, by name (null where it was skipped)
//   artifacts: [video]         steps whose artifacts are the run's; default: those that no other needs
//
// Templates: `${PATH}` in a text, PATH of names and numbers with dots between, and `*` for each item of a
// list:
//   input.…                    the run's input; `input` alone is the whole
//   steps.NAME.output…         what a step it needs made; with `foreach`: the list of what its jobs made, in
//                              order
//   steps.NAME.artifacts…      its artifacts, [{"id","mime","bytes"}], all jobs together in order
//   item…, index               of a job of a step with `foreach`; `index` counts from 0
// A text that is nothing but one reference becomes the value itself, of whatever type; within other text a
// text is itself and anything else its JSON. Where a value is absent or null, or its step was skipped:
// `${PATH:-default}` is the default (JSON where it is that, as 3, [] or "3", else a text), `${PATH?}` alone
// leaves the field (or the item of a list) out, and with neither the step cannot begin, and the run fails
// with its name. Behind a `*` that holds for each item by itself, and a list within a list becomes part of
// it.
// `$${` is the two characters `${`.
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
#include "base/time.h"
#include "policy/policy.h"

namespace turnpike::policy {

class WorkflowTemplate;  // a JSON value whose texts are templates, parsed (workflow_template.h)

struct StepCondition {
  std::string feature;             // empty: none
  std::string content_type;        // empty: none
  std::vector<std::string> input;  // path; empty: none
  bool any() const { return !feature.empty() || !content_type.empty() || !input.empty(); }
};

struct WorkflowStep {
  std::string name;
  std::string task;
  std::string model;               // empty: the task's default
  std::string content_type;        // empty: none
  std::vector<std::size_t> needs;  // places of steps, ascending; what its templates name included
  std::shared_ptr<const WorkflowTemplate> foreach;  // a reference, or an object of them; null: one job
  std::uint32_t at_most = 100;                      // items of the list; 1..Workflow::kItemsMax
  StepCondition when;
  std::optional<Duration> timeout;
  std::optional<Backoff> retry;
  std::shared_ptr<const WorkflowTemplate> input;  // an object; never null
};

class Workflow {
 public:
  static constexpr std::size_t kStepsMax = 100;
  static constexpr std::size_t kDefinitionBytesMax = 256U << 10;
  static constexpr std::uint32_t kItemsMax = 1'000;          // of a list; as many as a run may have jobs
  static constexpr std::size_t kOutputBytesMax = 64U << 10;  // of a run's output, as JSON

  // `definition`: an object as above, durations as texts ("2m"). Whether its tasks, models, features and
  // content types exist is the caller's to look (load_workflows.cpp). Errors: kConfiguration; `param` is
  // where ("steps.video.needs"), and the message says what is wrong: a cycle (named whole), an unknown step,
  // a path that cannot exist, an unknown key, a bad template. The first mistake of several.
  static Result<std::shared_ptr<const Workflow>> parse(std::string_view name,
                                                       const boost::json::value& definition);
  // Likewise, and every mistake is told; null then.
  using Told = std::function<void(std::string where, std::string message)>;
  static std::shared_ptr<const Workflow> read(std::string_view name, const boost::json::value& definition,
                                              const Told& mistake);

  const std::string& name() const { return name_; }
  const std::string& text() const { return text_; }  // the definition: JSON that parse() reads
  const std::vector<WorkflowStep>& steps() const { return steps_; }
  const std::shared_ptr<const WorkflowTemplate>& output() const { return output_; }  // null: the default
  const std::vector<std::size_t>& results() const { return results_; }  // steps whose artifacts are the run's
  const std::vector<std::size_t>& last() const { return last_; }        // steps that no other needs
  const WorkflowStep* step(std::string_view name) const;                // null: there is none

 private:
  class Reader;
  Workflow() = default;
  std::string name_, text_;
  std::vector<WorkflowStep> steps_;
  std::shared_ptr<const WorkflowTemplate> output_;
  std::vector<std::size_t> results_, last_;
};
using WorkflowPtr = std::shared_ptr<const Workflow>;

}  // namespace turnpike::policy

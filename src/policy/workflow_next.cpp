#include "policy/workflow_next.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <map>
#include <string_view>
#include <utility>

#include "policy/contains.h"
#include "policy/workflow_template.h"

namespace turnpike::policy {
namespace {

namespace json = boost::json;

bool is_something(const json::value* value) {
  if (value == nullptr) return false;
  switch (value->kind()) {
    case json::kind::null:
      return false;
    case json::kind::bool_:
      return value->get_bool();
    case json::kind::int64:
      return value->get_int64() != 0;
    case json::kind::uint64:
      return value->get_uint64() != 0;
    case json::kind::double_:
      return value->get_double() != 0;
    case json::kind::string:
      return !value->get_string().empty();
    case json::kind::array:
      return !value->get_array().empty();
    case json::kind::object:
      return !value->get_object().empty();
  }
  return false;
}

bool asks_for(const json::object& input, const std::string& content_type) {
  const json::value* asked = input.if_contains("content_types");
  if (asked == nullptr || !asked->is_array()) return true;
  return std::ranges::any_of(asked->get_array(), [&](const json::value& item) {
    return item.is_string() && item.get_string() == content_type;
  });
}

bool holds(const StepCondition& when, const json::object& input, const Plan& plan) {
  if (!when.feature.empty()) {
    const auto feature = plan.features.find(when.feature);
    if (feature == plan.features.end() || !feature->second) return false;
  }
  if (!when.content_type.empty()) {
    const auto& has = plan.content_types;
    if (has && !contains(*has, when.content_type)) return false;
    if (!asks_for(input, when.content_type)) return false;
  }
  return when.input.empty() || is_something(value_at(input, when.input));
}

class Follow {
 public:
  Follow(const Workflow& workflow, const RunFacts& facts, std::size_t jobs_max)
      : workflow_(workflow), facts_(facts), jobs_left_(jobs_max), states_(workflow.steps().size()) {
    scope_.input = &facts.input;
    scope_.step = [this](std::string_view name) -> const WorkflowScope::Step* {
      const auto found = made_.find(name);
      return found == made_.end() ? nullptr : &found->second;
    };
    for (std::size_t i = 0; i < states_.size(); ++i) {
      states_[i] = facts.steps[i].state;
      if (states_[i] == StepProgress::kCompleted) note_made(i);
    }
  }

  Result<NextOf> run() {
    NextOf out;
    // A step that is skipped, or has no jobs, lets others begin.
    for (bool more = true; more;) {
      more = false;
      for (std::size_t i = 0; i < states_.size(); ++i) {
        if (states_[i] != StepProgress::kWaiting || !ready(i)) continue;
        auto step = begin(i);
        if (!step) return std::unexpected(std::move(step.error()));
        more |= ended(states_[i]);
        out.begin.push_back(*std::move(step));
      }
    }
    std::ranges::sort(out.begin, {}, &NextStep::step);
    if (std::ranges::all_of(states_, ended)) {
      auto output = make_output();
      if (!output) return std::unexpected(std::move(output.error()));
      out.output = *std::move(output);
    }
    return out;
  }

 private:
  static bool ended(StepProgress state) {
    return state == StepProgress::kCompleted || state == StepProgress::kSkipped;
  }
  bool ready(std::size_t place) const {
    return std::ranges::all_of(workflow_.steps()[place].needs,
                               [this](std::size_t need) { return ended(states_[need]); });
  }

  void note_made(std::size_t place) {
    const WorkflowStep& step = workflow_.steps()[place];
    WorkflowScope::Step made{.list = step.foreach != nullptr};
    for (const json::value& output : facts_.steps[place].outputs) made.outputs.push_back(&output);
    for (const json::array& artifacts : facts_.steps[place].artifacts) {
      for (const json::value& artifact : artifacts) made.artifacts.push_back(&artifact);
    }
    made_.insert_or_assign(step.name, std::move(made));
  }

  static std::unexpected<Error> cannot(const WorkflowStep& step, std::string_view why) {
    return fail(ErrorCode::kUnprocessable, fmt::format("step `{}` cannot begin: {}", step.name, why),
                step.name);
  }

  Result<NextStep> begin(std::size_t place) {
    const WorkflowStep& step = workflow_.steps()[place];
    NextStep out{.step = place};
    if (!holds(step.when, facts_.input, facts_.plan)) {
      out.skipped = true;
      states_[place] = StepProgress::kSkipped;
      return out;
    }
    if (step.foreach == nullptr) {
      if (auto added = add_input(step, scope_, out); !added) return std::unexpected(std::move(added.error()));
      states_[place] = StepProgress::kRunning;
      return out;
    }
    auto items = list_of(step);
    if (!items) return std::unexpected(std::move(items.error()));
    for (std::size_t i = 0; i < items->size(); ++i) {
      WorkflowScope scope = scope_;
      scope.item = &(*items)[i];
      scope.index = i;
      if (auto added = add_input(step, scope, out); !added) return std::unexpected(std::move(added.error()));
    }
    states_[place] = items->empty() ? StepProgress::kCompleted : StepProgress::kRunning;
    if (items->empty()) note_made(place);
    return out;
  }

  Result<void> add_input(const WorkflowStep& step, const WorkflowScope& scope, NextStep& out) {
    if (jobs_left_ == 0) return cannot(step, "the run would have too many jobs");
    --jobs_left_;
    if (bytes_left_ == 0)
      return cannot(step, fmt::format("the inputs of its jobs are more than {} bytes", kNextBytesMax));
    auto input = step.input->expand(scope, bytes_left_);
    if (!input) return cannot(step, input.error().message);
    // An object is never left out.
    out.inputs.push_back(std::move((*input)->as_object()));
    return {};
  }

  // The items that it is for.
  Result<json::array> list_of(const WorkflowStep& step) {
    auto lists = step.foreach->expand(scope_, bytes_left_);
    if (!lists) return cannot(step, lists.error().message);
    if (!*lists) return json::array{};
    json::array out;
    if (step.foreach->sole_reference() != nullptr) {
      if (!(*lists)->is_array()) {
        return cannot(step, fmt::format("`{}`, which it is to have a job for each item of, is no list",
                                        step.foreach->sole_reference()->name()));
      }
      out = std::move((*lists)->get_array());
    } else if (auto joined = side_by_side(step, (*lists)->get_object()); joined) {
      out = *std::move(joined);
    } else {
      return joined;
    }
    if (out.size() > step.at_most) {
      return cannot(step,
                    fmt::format("its list has {} items, and at_most allows {}", out.size(), step.at_most));
    }
    return out;
  }

  static Result<json::array> side_by_side(const WorkflowStep& step, json::object& lists) {
    std::optional<std::size_t> size;
    std::string first;
    for (auto& member : lists) {
      const std::string name(member.key());
      if (!member.value().is_array())
        return cannot(step, fmt::format("`{}` of its foreach is no list", name));
      const std::size_t own = member.value().get_array().size();
      if (size && own != *size) {
        return cannot(step, fmt::format("the lists of its foreach differ in length: `{}` has {} items, `{}` "
                                        "has {}",
                                        first, *size, name, own));
      }
      if (!size) first = name;
      size = own;
    }
    json::array out;
    if (size.value_or(0) > step.at_most) {
      return cannot(step, fmt::format("its lists have {} items, and at_most allows {}", *size, step.at_most));
    }
    for (std::size_t i = 0; i < size.value_or(0); ++i) {
      json::object item;
      for (auto& member : lists) item[member.key()] = std::move(member.value().get_array()[i]);
      out.push_back(std::move(item));
    }
    return out;
  }

  Result<json::value> make_output() {
    json::value out;
    if (workflow_.output() != nullptr) {
      std::size_t left = WorkflowTemplate::kExpandedBytesMax;
      auto made = workflow_.output()->expand(scope_, left);
      if (!made)
        return fail(ErrorCode::kUnprocessable, fmt::format("the run's output: {}", made.error().message),
                    "output");
      if (*made) out = std::move(**made);
    } else {
      json::object& named = out.emplace_object();
      for (const std::size_t place : workflow_.last())
        named[workflow_.steps()[place].name] = output_of(place);
    }
    // More than it weighs in memory need not be written to be seen to be too much.
    if (const std::size_t bytes = json::serialize(out).size(); bytes > Workflow::kOutputBytesMax) {
      return fail(ErrorCode::kUnprocessable,
                  fmt::format("the run's output has {} bytes, at most {} are kept: let files be artifacts, "
                              "and name in `output` of the workflow what is wanted",
                              bytes, Workflow::kOutputBytesMax),
                  "output");
    }
    return out;
  }

  json::value output_of(std::size_t place) const {
    const auto made = made_.find(workflow_.steps()[place].name);
    if (made == made_.end()) return nullptr;
    if (!made->second.list) {
      return made->second.outputs.empty() ? json::value() : *made->second.outputs.front();
    }
    json::array all;
    for (const json::value* output : made->second.outputs) all.push_back(*output);
    return all;
  }

  const Workflow& workflow_;
  const RunFacts& facts_;
  std::size_t jobs_left_;
  std::size_t bytes_left_ = kNextBytesMax;
  std::vector<StepProgress> states_;
  std::map<std::string, WorkflowScope::Step, std::less<>> made_;  // by step, of those that completed
  WorkflowScope scope_;
};

}  // namespace

Result<void> check_content_types(const Policy& policy, const Plan& plan, const Workflow& workflow,
                                 const json::object& input) {
  const bool branches = std::ranges::any_of(
      workflow.steps(), [](const WorkflowStep& step) { return !step.when.content_type.empty(); });
  const json::value* asked = input.if_contains("content_types");
  if (!branches || asked == nullptr || !asked->is_array()) return {};
  const auto list = [](const std::vector<std::string>& names) {
    return names.empty() ? std::string("none") : fmt::to_string(fmt::join(names, ", "));
  };
  for (const json::value& each : asked->get_array()) {
    const std::string type = each.is_string() ? std::string(each.get_string()) : json::serialize(each);
    if (!contains(policy.content_types, type)) {
      return fail(
          ErrorCode::kInvalidRequest,
          fmt::format("there is no content type `{}`; there are: {}", type, list(policy.content_types)),
          "content_types");
    }
    if (plan.content_types && !contains(*plan.content_types, type)) {
      return fail(ErrorCode::kNotInPlan,
                  fmt::format("plan {} does not have content type {}; it has: {}", plan.name, type,
                              list(*plan.content_types)),
                  "content_types");
    }
  }
  return {};
}

std::vector<std::size_t> certain_steps(const Workflow& workflow, const json::object& input,
                                       const Plan& plan) {
  std::vector<std::size_t> certain;
  for (std::size_t i = 0; i < workflow.steps().size(); ++i) {
    const WorkflowStep& step = workflow.steps()[i];
    if (step.foreach == nullptr && holds(step.when, input, plan)) certain.push_back(i);
  }
  return certain;
}

Result<NextOf> next_of(const Workflow& workflow, const RunFacts& facts, std::size_t jobs_max) {
  if (facts.steps.size() != workflow.steps().size()) {
    return fail(ErrorCode::kInternal, fmt::format("the run has {} steps, its workflow {}", facts.steps.size(),
                                                  workflow.steps().size()));
  }
  return Follow(workflow, facts, jobs_max).run();
}

}  // namespace turnpike::policy

#include "policy/workflow.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <initializer_list>
#include <span>
#include <utility>

#include "policy/contains.h"
#include "policy/nearest.h"
#include "policy/numbers.h"
#include "policy/workflow_template.h"

namespace turnpike::policy {
namespace {

namespace json = boost::json;

constexpr std::size_t kStepNameBytesMax = 64;
constexpr std::size_t kNameBytesMax = 128;  // of a task, a model, a content type, a feature
constexpr std::size_t kKeyShownBytesMax = 80;

bool is_step_name(std::string_view name) {
  return !name.empty() && name.size() <= kStepNameBytesMax && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

bool is_item_segment(std::string_view segment) {
  return segment == "*" || std::ranges::all_of(segment, [](char c) { return c >= '0' && c <= '9'; });
}

// A scalar as it would stand in a file.
std::string scalar_text(const json::value& value) {
  if (const auto* text = value.if_string()) return {text->data(), text->size()};
  if (value.is_double()) return fmt::format("{}", value.get_double());
  return json::serialize(value);
}

}  // namespace

class Workflow::Reader {
 public:
  Reader(Workflow& out, const Told& mistake) : out_(out), mistake_(mistake) {}

  bool read(const json::value& definition) {
    const auto* top = definition.if_object();
    if (top == nullptr) {
      tell({}, "must be a section with `steps`");
      return false;
    }
    out_.text_ = json::serialize(definition);
    if (out_.text_.size() > kDefinitionBytesMax) {
      tell({}, fmt::format("is larger than {} KiB", kDefinitionBytesMax >> 10));
      return false;
    }
    check_keys(*top, {}, {"steps", "output", "artifacts"});
    const json::value* steps = top->if_contains("steps");
    if (steps == nullptr) {
      tell({}, "`steps` is missing");
      return false;
    }
    if (!read_names(*steps)) return false;
    std::size_t place = 0;
    for (const auto& member : steps->get_object()) read_step(member.value(), place++);
    read_output(top->if_contains("output"));
    check_references();
    // What else there is to say of the graph would say the same again.
    if (good_) check_cycles();
    if (good_) find_last(top->if_contains("artifacts"));
    return good_;
  }

 private:
  void tell(std::string where, std::string message) {
    good_ = false;
    mistake_(std::move(where), std::move(message));
  }

  std::string at(std::size_t step, std::string_view key = {}) const {
    return fmt::format("steps.{}{}{}", names_[step], key.empty() ? "" : ".", key);
  }

  void check_keys(const json::object& object, const std::string& where,
                  std::initializer_list<const char*> known) {
    for (const auto& member : object) {
      const std::string key = std::string(member.key()).substr(0, kKeyShownBytesMax);
      const std::vector<std::string> names(known.begin(), known.end());
      if (contains(names, key)) continue;
      tell(where.empty() ? key : fmt::format("{}.{}", where, key),
           fmt::format("unknown key `{}`: {}", key, suggestion(key, names)));
    }
  }

  bool read_names(const json::value& steps) {
    const auto* object = steps.if_object();
    if (object == nullptr || object->empty()) {
      tell("steps", "must be a section with at least one step (name: {task: ...})");
      return false;
    }
    if (object->size() > kStepsMax) {
      tell("steps", fmt::format("has {} steps, at most {} are allowed", object->size(), kStepsMax));
      return false;
    }
    for (const auto& member : *object) {
      const std::string name(member.key());
      if (!is_step_name(name)) {
        tell("steps", fmt::format("`{}` must be 1 to {} letters, digits and _ -",
                                  name.substr(0, kKeyShownBytesMax), kStepNameBytesMax));
      }
      names_.push_back(name);
    }
    out_.steps_.resize(names_.size());
    needs_.resize(names_.size());
    return good_;
  }

  // Text of 1 to kNameBytesMax bytes; nullopt: it is absent, or told.
  std::optional<std::string> read_name(const json::object& object, const std::string& where,
                                       const char* key) {
    const json::value* value = object.if_contains(key);
    if (value == nullptr) return std::nullopt;
    const auto* text = value->if_string();
    if (text == nullptr || text->empty() || text->size() > kNameBytesMax) {
      tell(where + "." + key, fmt::format("must be a name of 1 to {} bytes", kNameBytesMax));
      return std::nullopt;
    }
    return std::string(text->data(), text->size());
  }

  void read_step(const json::value& value, std::size_t place) {
    WorkflowStep& step = out_.steps_[place];
    step.name = names_[place];
    const auto* object = value.if_object();
    if (object == nullptr) return tell(at(place), "must be a section such as {task: NAME, input: {...}}");
    check_keys(*object, at(place),
               {"task", "model", "content_type", "needs", "foreach", "at_most", "when", "timeout", "retry",
                "input"});
    if (!object->contains("task")) tell(at(place), "`task` is missing");
    step.task = read_name(*object, at(place), "task").value_or("");
    step.model = read_name(*object, at(place), "model").value_or("");
    step.content_type = read_name(*object, at(place), "content_type").value_or("");
    read_needs(object->if_contains("needs"), place);
    read_foreach(object->if_contains("foreach"), place);
    read_at_most(object->if_contains("at_most"), place);
    read_when(object->if_contains("when"), place);
    if (const json::value* timeout = object->if_contains("timeout")) {
      constexpr Duration kLeast = std::chrono::milliseconds(100);
      constexpr Duration kMost = std::chrono::days(7);
      step.timeout = read_duration(*timeout, at(place, "timeout"), kLeast, kMost);
    }
    read_retry(object->if_contains("retry"), place);
    read_input(object->if_contains("input"), place);
  }

  // A step of this name; nullopt: told.
  std::optional<std::size_t> step_named(const std::string& name, const std::string& where) {
    const auto found = std::ranges::find(names_, name);
    if (found != names_.end()) return static_cast<std::size_t>(found - names_.begin());
    tell(where,
         fmt::format("unknown step `{}`: {}", name.substr(0, kKeyShownBytesMax), suggestion(name, names_)));
    return std::nullopt;
  }

  void add_need(std::size_t step, std::size_t needed, const std::string& where) {
    if (step == needed) return tell(where, fmt::format("step `{}` cannot wait for itself", names_[step]));
    auto& needs = out_.steps_[step].needs;
    if (contains(needs, needed)) return;
    needs.insert(std::ranges::upper_bound(needs, needed), needed);
    needs_[step].push_back({needed, where});
  }

  void read_needs(const json::value* value, std::size_t place) {
    if (value == nullptr) return;
    const std::string where = at(place, "needs");
    const auto* list = value->if_array();
    if (list == nullptr) return tell(where, "must be a list of steps ([a, b])");
    for (std::size_t i = 0; i < list->size(); ++i) {
      const std::string here = fmt::format("{}[{}]", where, i);
      const auto* name = (*list)[i].if_string();
      if (name == nullptr) {
        tell(here, "must be the name of a step");
      } else if (const auto needed = step_named(std::string(*name), here)) {
        add_need(place, *needed, here);
      }
    }
  }

  std::shared_ptr<const WorkflowTemplate> read_template(const json::value& value, const std::string& where) {
    return WorkflowTemplate::parse(value, [&](const WorkflowTemplate::Mistake& mistake) {
      tell(within(where, mistake.where), mistake.message);
    });
  }
  static std::string within(const std::string& where, const std::string& part) {
    return part.empty() ? where : where + (part.starts_with('[') ? "" : ".") + part;
  }

  void read_foreach(const json::value* value, std::size_t place) {
    if (value == nullptr) return;
    const std::string where = at(place, "foreach");
    auto parsed = read_template(*value, where);
    if (parsed == nullptr) return;
    if (parsed->sole_reference() == nullptr && !parsed->names_of_references())
      return tell(where, "must be one reference to a list (\"${...}\"), or a section of such");
    for (const auto& [part, reference] : parsed->uses()) {
      if (reference->fallback && !reference->fallback->is_array())
        tell(within(where, part), "must have a list as its default, such as []");
    }
    out_.steps_[place].foreach = std::move(parsed);
  }

  void read_at_most(const json::value* value, std::size_t place) {
    if (value == nullptr) return;
    const std::string where = at(place, "at_most");
    json::error_code error;
    const auto number = value->is_number() ? value->to_number<std::int64_t>(error) : 0;
    if (error || number < 1 || number > kItemsMax)
      return tell(where, fmt::format("must be a whole number from 1 to {}", kItemsMax));
    if (out_.steps_[place].foreach == nullptr) return tell(where, "stands without `foreach`");
    out_.steps_[place].at_most = static_cast<std::uint32_t>(number);
  }

  void read_when(const json::value* value, std::size_t place) {
    if (value == nullptr) return;
    const std::string where = at(place, "when");
    const auto* object = value->if_object();
    if (object == nullptr || object->empty())
      return tell(where, "must be a section with some of feature, content_type and input");
    check_keys(*object, where, {"feature", "content_type", "input"});
    StepCondition& when = out_.steps_[place].when;
    when.feature = read_name(*object, where, "feature").value_or("");
    when.content_type = read_name(*object, where, "content_type").value_or("");
    const json::value* input = object->if_contains("input");
    if (input == nullptr) return;
    const auto* text = input->if_string();
    auto path = text == nullptr ? std::nullopt : parse_value_path(std::string_view(*text));
    if (!path || contains(*path, std::string("*")) || path->front() == "input")
      return tell(where + ".input", "must be a path within the run's input, such as voice or options.voice");
    when.input = *std::move(path);
  }

  std::optional<Duration> read_duration(const json::value& value, const std::string& where, Duration low,
                                        Duration high) {
    const auto* text = value.if_string();
    const auto parsed = text == nullptr ? std::nullopt : parse_duration(std::string_view(*text));
    if (parsed && *parsed >= low && *parsed <= high) return parsed;
    tell(where, fmt::format("must be a duration such as 500ms, 30s or 5m, from {} to {}", duration_text(low),
                            duration_text(high)));
    return std::nullopt;
  }

  void read_retry(const json::value* value, std::size_t place) {
    if (value == nullptr) return;
    const std::string where = at(place, "retry");
    const auto* object = value->if_object();
    if (object == nullptr) return tell(where, "must be a section such as {attempts: 3, base: 1s}");
    check_keys(*object, where, {"attempts", "base", "factor", "cap", "jitter"});
    Backoff backoff;
    if (const auto* attempts = object->if_contains("attempts")) {
      const auto number = parse_whole(scalar_text(*attempts));
      if (number && *number >= 1 && *number <= 100) {
        backoff.attempts = static_cast<std::uint32_t>(*number);
      } else {
        tell(where + ".attempts", "must be a whole number from 1 to 100");
      }
    }
    constexpr Duration kLeast = std::chrono::milliseconds(1);
    if (const auto* base = object->if_contains("base"))
      backoff.base = read_duration(*base, where + ".base", kLeast, std::chrono::days(1)).value_or(kLeast);
    if (const auto* cap = object->if_contains("cap"))
      backoff.cap =
          read_duration(*cap, where + ".cap", kLeast, std::chrono::days(7)).value_or(std::chrono::days(7));
    if (const auto* factor = object->if_contains("factor")) {
      const auto parsed = parse_factor(scalar_text(*factor));
      if (parsed && *parsed >= 1'000 && *parsed <= 100'000) {
        backoff.factor_permille = *parsed;
      } else {
        tell(where + ".factor", "must be a number such as 2 or 1.5, from 1 to 100, with at most 3 decimals");
      }
    }
    if (const auto* jitter = object->if_contains("jitter")) {
      const auto parsed = parse_percent(scalar_text(*jitter));
      if (parsed && *parsed <= 1'000) {
        backoff.jitter_permille = *parsed;
      } else {
        tell(where + ".jitter", "must be a share such as 20%, from 0% to 100%");
      }
    }
    if (backoff.cap < backoff.base)
      tell(where, fmt::format("`cap` must be at least `base` ({})", duration_text(backoff.base)));
    out_.steps_[place].retry = backoff;
  }

  void read_input(const json::value* value, std::size_t place) {
    const json::value none = json::object();
    const std::string where = at(place, "input");
    if (value != nullptr && !value->is_object())
      return tell(where, "must be a section (field: value), whose texts may have references (${...})");
    out_.steps_[place].input = read_template(value != nullptr ? *value : none, where);
  }

  void read_output(const json::value* value) {
    if (value == nullptr) return;
    if (value->is_null())
      return tell("output", "must be what the run makes: leave it out for the outputs of its last steps");
    out_.output_ = read_template(*value, "output");
  }

  // --- References

  void check_references() {
    for (std::size_t place = 0; place < names_.size(); ++place) {
      const WorkflowStep& step = out_.steps_[place];
      if (step.foreach != nullptr) check_uses(*step.foreach, at(place, "foreach"), place, false);
      if (step.input != nullptr) check_uses(*step.input, at(place, "input"), place, true);
    }
    if (out_.output_ != nullptr) check_uses(*out_.output_, "output", std::nullopt, false);
  }

  // `place`: of the step that uses them; nullopt: the run's output does. `item`: whether they stand where
  // there may be an item.
  void check_uses(const WorkflowTemplate& uses, const std::string& where, std::optional<std::size_t> place,
                  bool item) {
    for (const auto& [part, reference] : uses.uses()) {
      const std::string here = within(where, part);
      switch (reference->root) {
        case WorkflowRoot::kInput:
          break;
        case WorkflowRoot::kItem:
        case WorkflowRoot::kIndex:
          check_item(*reference, here, item ? out_.steps_[*place].foreach.get() : nullptr);
          break;
        case WorkflowRoot::kOutput:
        case WorkflowRoot::kArtifacts:
          if (const auto step = step_named(reference->step, here)) {
            if (place) add_need(*place, *step, here);
            check_path(*reference, here, *step);
          }
          break;
      }
    }
  }

  void check_item(const WorkflowReference& reference, const std::string& where,
                  const WorkflowTemplate* foreach) {
    if (foreach == nullptr) {
      return tell(
          where, fmt::format("`{}` is there only in the `input` of a step with `foreach`", reference.name()));
    }
    const auto names = foreach->names_of_references();
    if (!names || reference.path.empty() || contains(*names, reference.path.front())) return;
    tell(where, fmt::format("`{}` cannot exist: an item has what `foreach` names; {}", reference.name(),
                            suggestion(reference.path.front(), *names)));
  }

  void check_path(const WorkflowReference& reference, const std::string& where, std::size_t step) {
    const auto& path = reference.path;
    if (path.empty()) return;
    const bool artifacts = reference.root == WorkflowRoot::kArtifacts;
    const bool list = artifacts || out_.steps_[step].foreach != nullptr;
    if (list && !is_item_segment(path.front())) {
      return tell(where,
                  fmt::format("`{}` cannot exist: that is a list; write a number or * behind `{}`, as 0 for "
                              "the first",
                              reference.name(), artifacts ? "artifacts" : "output"));
    }
    if (!artifacts || path.size() < 2) return;
    const std::vector<std::string> fields{"id", "mime", "bytes"};
    if (path.size() > 2 || !contains(fields, path[1]))
      tell(where, fmt::format("`{}` cannot exist: an artifact has id, mime and bytes", reference.name()));
  }

  // --- The graph

  void check_cycles() {
    enum class Mark : std::uint8_t { kNew, kOpen, kDone };
    std::vector<Mark> marks(names_.size(), Mark::kNew);
    for (std::size_t start = 0; start < names_.size(); ++start) {
      // (step, which of its needs is next)
      std::vector<std::pair<std::size_t, std::size_t>> path;
      if (marks[start] == Mark::kNew) path.emplace_back(start, 0);
      while (!path.empty()) {
        auto& [step, next] = path.back();
        marks[step] = Mark::kOpen;
        if (next == needs_[step].size()) {
          marks[step] = Mark::kDone;
          path.pop_back();
          continue;
        }
        const Need& need = needs_[step][next++];
        if (marks[need.step] == Mark::kOpen) return tell_cycle(path, need);
        if (marks[need.step] == Mark::kNew) path.emplace_back(need.step, 0);
      }
    }
  }

  struct Need {
    std::size_t step;
    std::string where;  // that says so
  };

  void tell_cycle(const std::vector<std::pair<std::size_t, std::size_t>>& path, const Need& last) {
    std::string cycle;
    auto begin = path.begin();
    while (begin->first != last.step) ++begin;
    for (; begin != path.end(); ++begin) cycle += names_[begin->first] + " -> ";
    tell(last.where,
         fmt::format("steps wait for each other: {}{} (each needs the next)", cycle, names_[last.step]));
  }

  void find_last(const json::value* artifacts) {
    std::vector<bool> needed(names_.size());
    for (const WorkflowStep& step : out_.steps_) {
      for (const std::size_t need : step.needs) needed[need] = true;
    }
    for (std::size_t i = 0; i < needed.size(); ++i) {
      if (!needed[i]) out_.last_.push_back(i);
    }
    if (artifacts == nullptr) {
      out_.results_ = out_.last_;
      return;
    }
    const auto* list = artifacts->if_array();
    if (list == nullptr) return tell("artifacts", "must be a list of steps ([video])");
    for (std::size_t i = 0; i < list->size(); ++i) {
      const std::string where = fmt::format("artifacts[{}]", i);
      const auto* name = (*list)[i].if_string();
      if (name == nullptr) {
        tell(where, "must be the name of a step");
      } else if (const auto step = step_named(std::string(*name), where)) {
        if (contains(out_.results_, *step)) {
          tell(where, "is there twice: keep one");
        } else {
          out_.results_.push_back(*step);
        }
      }
    }
  }

  Workflow& out_;
  const Told& mistake_;
  bool good_ = true;
  std::vector<std::string> names_;
  std::vector<std::vector<Need>> needs_;  // of each step, each once
};

std::shared_ptr<const Workflow> Workflow::read(std::string_view name, const json::value& definition,
                                               const Told& mistake) {
  std::shared_ptr<Workflow> out(new Workflow);
  out->name_ = name;
  if (!Reader(*out, mistake).read(definition)) return nullptr;
  return out;
}

Result<std::shared_ptr<const Workflow>> Workflow::parse(std::string_view name,
                                                        const json::value& definition) {
  std::optional<Error> first;
  auto out = read(name, definition, [&first](std::string where, std::string message) {
    if (first) return;
    first = Error{.code = ErrorCode::kConfiguration,
                  .message = where.empty() ? message : fmt::format("{}: {}", where, message),
                  .param = where};
  });
  if (first) return std::unexpected(*std::move(first));
  return out;
}

const WorkflowStep* Workflow::step(std::string_view name) const {
  const auto found = std::ranges::find(steps_, name, &WorkflowStep::name);
  return found == steps_.end() ? nullptr : &*found;
}

}  // namespace turnpike::policy

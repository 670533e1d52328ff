// The tasks of an exec provider. Every template is parsed here, so that one with a mistake is never run.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "policy/load_parts.h"
#include "policy/nearest.h"
#include "policy/template.h"

namespace turnpike::policy {
namespace {

constexpr std::size_t kStepsMax = 32;
constexpr std::size_t kArgumentsMax = 256;
constexpr std::size_t kOutputsMax = 16;
constexpr std::size_t kExpansionsMax = 64;

bool is_plain(std::string_view text, std::string_view punctuation) {
  return std::ranges::all_of(text, [punctuation](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           punctuation.contains(c);
  });
}

// Whether a file in the work folder may be called so.
bool is_file_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && name.front() != '.' && name.front() != '-' &&
         is_plain(name, "._-");
}

bool is_mime(std::string_view mime) {
  const std::size_t slash = mime.find('/');
  return slash != std::string_view::npos && slash > 0 && slash + 1 < mime.size() && mime.size() <= 100 &&
         is_plain(mime.substr(0, slash), "+.-") && is_plain(mime.substr(slash + 1), "+.-");
}

// Reads a template and reports what is wrong with it; `outputs` are those it may refer to.
std::optional<Template> read_template(const Value& value, const std::set<std::string>& outputs,
                                      std::string& out) {
  if (!value.raw_text(out)) return std::nullopt;
  auto parsed = Template::parse(out);
  if (!parsed) {
    value.mistake(parsed.error().message);
    return std::nullopt;
  }
  for (const TemplateReference* reference : parsed->references()) {
    if (reference->root != TemplateRoot::kOutput || outputs.contains(reference->path.front())) continue;
    value.mistake(fmt::format("unknown output `{}`: {}", reference->path.front(),
                              suggestion(reference->path.front(), {outputs.begin(), outputs.end()})));
  }
  return std::move(*parsed);
}

// Every text that a template of an output can become, or nothing if that is not known beforehand.
std::optional<std::vector<std::string>> expansions(const Template& parsed) {
  const auto references = parsed.references();
  std::vector<std::vector<std::string>> choices;  // for each reference
  std::size_t count = 1;
  for (const TemplateReference* reference : references) {
    if (reference->root != TemplateRoot::kInput || reference->filter != TemplateFilter::kOne ||
        reference->optional)
      return std::nullopt;
    choices.push_back(reference->words);
    if (reference->fallback) choices.back().push_back(*reference->fallback);
    count *= choices.back().size();
    if (count > kExpansionsMax) return std::nullopt;
  }
  std::vector<std::string> texts;
  for (std::size_t choice = 0; choice < count; ++choice) {
    std::size_t rest = choice;
    std::size_t next = 0;
    // Each reference is asked for once, in order; the choice's digits say which word it gets. A fallback is
    // taken by leaving the value away.
    const auto text = parsed.expand([&](const TemplateReference&) -> std::optional<std::string> {
      const std::vector<std::string>& words = choices[next];
      const std::size_t word = rest % words.size();
      const bool takes_fallback = references[next]->fallback && word + 1 == words.size();
      rest /= words.size();
      ++next;
      if (takes_fallback) return std::nullopt;
      return words[word];
    });
    if (!text || !*text) return std::nullopt;
    texts.push_back(**text);
  }
  return texts;
}

// Reads the file name or the type of an output; `good` says what each of its expansions must be.
void read_closed_template(const Value& value, bool (*good)(std::string_view), const char* rule,
                          std::string& out, std::vector<std::string>* names) {
  const auto parsed = read_template(value, {}, out);
  if (!parsed) return;
  auto texts = expansions(*parsed);
  if (!texts) {
    value.mistake(
        fmt::format("may refer only to words that are listed, as in ${{input.format|one(png,jpeg):-png}}, "
                    "{} in all",
                    kExpansionsMax));
  } else if (!std::ranges::all_of(*texts, [good](const std::string& text) { return good(text); })) {
    value.mistake(rule);
  } else if (names != nullptr) {
    *names = std::move(*texts);
  }
}

void read_outputs(const Value& value, ExecTask& out) {
  std::set<std::string> taken;
  value.each([&](const std::string& name, const Value& entry) {
    ExecOutput output{.name = name, .file = {}, .mime = {}};
    if (!is_plain(name, "_")) entry.mistake("the name of an output has letters, digits and _ only");
    entry.section([&](Map& map) {
      const Value file = map.require("file");
      std::vector<std::string> names;
      read_closed_template(
          file, is_file_name,
          "must be a file name such as speech.wav: at most 64 letters, digits and . _ -, not "
          "beginning with . or -",
          output.file, &names);
      std::ranges::sort(names);
      const auto repeated = std::ranges::unique(names);
      names.erase(repeated.begin(), repeated.end());
      for (const std::string& each : names) {
        if (taken.insert(each).second) continue;
        file.mistake(fmt::format("another output is written to `{}` too", each));
      }
      read_closed_template(map.require("mime"), is_mime, "must be a media type such as audio/wav",
                           output.mime, nullptr);
    });
    if (out.outputs.size() == kOutputsMax) entry.mistake(fmt::format("at most {} outputs", kOutputsMax));
    out.outputs.push_back(std::move(output));
  });
}

void read_command(const Value& value, const std::set<std::string>& outputs, ExecStep& out) {
  const bool read = value.list([&](const Value& item) {
    std::string argument;
    const auto parsed = read_template(item, outputs, argument);
    if (out.command.empty() && parsed && (!parsed->references().empty() || argument.empty()))
      item.mistake("the program must be named as it is, without ${...}: no user chooses what is run");
    if (out.command.size() == kArgumentsMax) item.mistake(fmt::format("at most {} arguments", kArgumentsMax));
    out.command.push_back(std::move(argument));
  });
  if (read && out.command.empty())
    value.mistake("needs a program and its arguments: [PROGRAM, ARGUMENT, ...]");
}

void read_steps(Map& map, const std::set<std::string>& outputs, ExecTask& out) {
  const Value command = map.at("command");
  const Value steps = map.at("steps");
  if (command.present() == steps.present()) {
    map.mistake("needs either `command` or `steps`");
    return;
  }
  if (command.present()) {
    read_command(command, outputs, out.steps.emplace_back());
    return;
  }
  const bool read = steps.list([&](const Value& item) {
    ExecStep step;
    item.section([&](Map& entry) {
      read_command(entry.require("command"), outputs, step);
      const Value when = entry.at("when");
      if (read_template(when, outputs, step.when) && step.when.empty()) when.mistake("must not be empty");
    });
    if (out.steps.size() == kStepsMax) item.mistake(fmt::format("at most {} steps", kStepsMax));
    out.steps.push_back(std::move(step));
  });
  if (read && out.steps.empty()) steps.mistake("needs at least one step");
}

void read_stdin(Map& map, ExecTask& out) {
  const Value text = map.at("stdin");
  const Value json = map.at("stdin_json");
  read_template(text, {}, out.stdin_template);
  if (json.flag(out.stdin_json) && out.stdin_json && text.present())
    json.mistake("stands beside `stdin`: the program reads one or the other");
}

void read_exec_limits(const Value& value, ExecTask& out) {
  value.section([&](Map& limits) {
    limits.at("time").duration(out.time_max, std::chrono::milliseconds(100), std::chrono::hours(24));
    limits.at("memory").bytes(out.memory_bytes_max, 16ULL << 20, 1ULL << 40);
    limits.at("file_size").bytes(out.file_bytes_max, 1ULL << 10, 1ULL << 40);
    limits.at("output").bytes(out.output_bytes_max, 1ULL << 10, 64ULL << 20);
    limits.at("processes").whole(out.processes_max, 1, 4096);
  });
}

// How a program that is started for each try is run, and how it answers.
void read_program(Map& map, ExecTask& task) {
  std::set<std::string> outputs;
  for (const ExecOutput& output : task.outputs) outputs.insert(output.name);
  read_steps(map, outputs, task);
  read_stdin(map, task);
  map.at("stdout_json").flag(task.stdout_json);
  map.at("invalid_exits").list([&](const Value& item) {
    std::uint32_t status = 0;
    if (item.whole(status, 1, 255)) task.invalid_exits.push_back(status);
  });
  read_exec_limits(map.at("limits"), task);
  if (task.outputs.empty() && !task.stdout_json)
    map.mistake("has no result: declare `outputs`, or `stdout_json: true`");
}

// A task of a program that stays, which is the same for all of them.
void read_served_task(Map& map, const ExecServe& serve, ExecTask& task) {
  for (const char* key : {"command", "steps", "stdin", "stdin_json", "stdout_json", "invalid_exits"})
    map.refuse(key, "belongs to programs that are started for each try; this provider has `serve`");
  map.at("limits").section([&](Map& limits) {
    limits.at("time").duration(task.time_max, std::chrono::milliseconds(100), std::chrono::hours(24));
    limits.at("output").bytes(task.output_bytes_max, 1ULL << 10, 64ULL << 20);
    for (const char* key : {"memory", "file_size", "processes"})
      limits.refuse(key, "is of the program as a whole: write it in `serve.limits`");
  });
  task.file_bytes_max = serve.file_bytes_max;
}

}  // namespace

void read_exec_tasks(const Value& value, Provider& provider) {
  const bool read = value.each([&](const std::string& name, const Value& entry) {
    ExecTask task;
    entry.section([&](Map& map) {
      read_outputs(map.at("outputs"), task);
      if (provider.serve) {
        read_served_task(map, *provider.serve, task);
      } else {
        read_program(map, task);
      }
    });
    provider.exec_tasks.insert_or_assign(name, std::move(task));
  });
  if (read && provider.exec_tasks.empty()) value.mistake("needs at least one task");
}

}  // namespace turnpike::policy

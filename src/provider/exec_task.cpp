#include "provider/exec_task.h"

#include <fmt/format.h>

#include <algorithm>

#include "provider/json_text.h"

namespace turnpike::provider {
namespace {

using policy::Template;
using policy::TemplateReference;
using policy::TemplateRoot;

std::unexpected<Error> misconfigured(std::string message) {
  return fail(ErrorCode::kConfiguration, std::move(message));
}

Result<ParsedStep> parse_step(const policy::ExecStep& config) {
  if (config.command.empty() || config.command.front().empty())
    return misconfigured("a step has no program to run");
  ParsedStep step{.program = config.command.front(), .arguments = {}, .when = {}};
  if (step.program.contains("${")) return misconfigured("the program itself may not be a template");
  for (std::size_t i = 1; i < config.command.size(); ++i) {
    auto argument = Template::parse(config.command[i]);
    if (!argument) return std::unexpected(argument.error());
    step.arguments.push_back(std::move(*argument));
  }
  if (!config.when.empty()) {
    auto when = Template::parse(config.when);
    if (!when) return std::unexpected(when.error());
    step.when = std::move(*when);
  }
  return step;
}

Result<void> parse_outputs(const policy::ExecTask& config, ParsedTask& task) {
  for (const policy::ExecOutput& each : config.outputs) {
    auto file = Template::parse(each.file);
    auto mime = Template::parse(each.mime);
    if (!file) return std::unexpected(file.error());
    if (!mime) return std::unexpected(mime.error());
    task.outputs.push_back({each.name, std::move(*file), std::move(*mime)});
  }
  return {};
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." && !name.starts_with('-') &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

std::optional<std::string> find_in(const std::map<std::string, std::string>& map, const std::string& key) {
  const auto found = map.find(key);
  return found == map.end() ? std::nullopt : std::optional{found->second};
}

}  // namespace

Result<ParsedTask> parse_task(const policy::ExecTask& config) {
  ParsedTask task{.config = config, .steps = {}, .stdin_text = {}, .outputs = {}};
  if (config.steps.empty()) return misconfigured("a task of a local program needs at least one step");
  for (const policy::ExecStep& each : config.steps) {
    auto step = parse_step(each);
    if (!step) return std::unexpected(step.error());
    task.steps.push_back(std::move(*step));
  }
  if (!config.stdin_template.empty()) {
    auto text = Template::parse(config.stdin_template);
    if (!text) return std::unexpected(text.error());
    task.stdin_text = std::move(*text);
  }
  if (auto parsed = parse_outputs(config, task); !parsed) return std::unexpected(parsed.error());
  return task;
}

Result<ParsedTask> parse_served_task(const policy::ExecTask& config) {
  ParsedTask task{.config = config, .steps = {}, .stdin_text = {}, .outputs = {}};
  if (auto parsed = parse_outputs(config, task); !parsed) return std::unexpected(parsed.error());
  return task;
}

Result<Expansion> Expansion::make(const ParsedTask& task, const Request& request, Confinement confinement) {
  Expansion expansion;
  auto input = parse_json(request.input);
  if (!input) return std::unexpected(input.error());
  if (!input->is_object())
    return fail(ErrorCode::kInvalidRequest, "the input must be a JSON object", "input");
  expansion.input_ = std::move(*input);
  expansion.input_text_ = request.input;

  const bool confined = confinement == Confinement::kBubblewrap;
  for (const InputFile& file : request.files) expansion.add_file(file, confined);
  const std::filesystem::path folder = confined ? std::filesystem::path{kSandboxWorkDir} : request.work_dir;
  const auto look = [&expansion](const TemplateReference& reference) { return expansion.look_up(reference); };
  for (const ParsedOutput& output : task.outputs) {
    auto file = output.file.expand(look);
    auto mime = output.mime.expand(look);
    if (!file) return std::unexpected(file.error());
    if (!mime) return std::unexpected(mime.error());
    if (!*file || !is_plain_name(**file))
      return fail(ErrorCode::kInvalidRequest, fmt::format("output {} cannot be named", output.name));
    expansion.output_paths_[output.name] = (folder / **file).string();
    expansion.outputs_.push_back({output.name, **file, mime->value_or("")});
  }
  return expansion;
}

// A field's name is the user's own: one that templates cannot name makes no path.
void Expansion::add_file(const InputFile& file, bool confined) {
  constexpr std::size_t kFieldBytesMax = 64;
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  if (file.field.empty() || file.field.size() > kFieldBytesMax || !std::ranges::all_of(file.field, is_plain))
    return;
  const std::string place = file.place ? fmt::format(".{}", *file.place) : std::string();
  const std::filesystem::path inside = confined ? std::filesystem::path{kSandboxInputDir} /
                                                      (file.field + place + file.path.extension().string())
                                                : file.path;
  std::string& paths = files_[file.field];
  if (!paths.empty()) paths += '|';
  paths += inside.string();
  inputs_.emplace_back(file.path, inside);
}

Result<void> Expansion::check_files(const Template& argument) const {
  for (const TemplateReference* reference : argument.references()) {
    if (reference->root != TemplateRoot::kFile) continue;
    const std::string& field = reference->path.front();
    if (files_.contains(field) || !input_.get_object().contains(field)) continue;
    return fail(
        ErrorCode::kInvalidRequest,
        fmt::format("{} must be the id of an artifact of the account (art_…), or a list of at most {}", field,
                    kInputFilesMax),
        field);
  }
  return {};
}

std::optional<std::string> Expansion::look_up(const TemplateReference& reference) const {
  switch (reference.root) {
    case TemplateRoot::kFile:
      return find_in(files_, reference.path.front());
    case TemplateRoot::kOutput:
      return find_in(output_paths_, reference.path.front());
    case TemplateRoot::kInput: {
      const boost::json::value* value = value_at(input_, reference.path);
      return value == nullptr ? std::nullopt : scalar_text(*value);
    }
    case TemplateRoot::kModel:  // of requests, which programs have none of
    case TemplateRoot::kAnswer:
      break;
  }
  return std::nullopt;
}

Result<std::vector<std::string>> Expansion::arguments(const ParsedStep& step) const {
  std::vector<std::string> expanded;
  for (const Template& argument : step.arguments) {
    if (auto checked = check_files(argument); !checked) return std::unexpected(std::move(checked.error()));
    auto text =
        argument.expand_argument([this](const TemplateReference& reference) { return look_up(reference); });
    if (!text) return std::unexpected(text.error());
    if (*text) expanded.push_back(std::move(**text));
  }
  return expanded;
}

Result<bool> Expansion::wanted(const ParsedStep& step) const {
  if (!step.when) return true;
  auto text =
      step.when->expand_or_empty([this](const TemplateReference& reference) { return look_up(reference); });
  if (!text) return std::unexpected(text.error());
  return !text->empty();
}

Result<std::string> Expansion::stdin_text(const ParsedTask& task) const {
  if (task.config.stdin_json) return input_text_;
  if (!task.stdin_text) return std::string{};
  auto text =
      task.stdin_text->expand([this](const TemplateReference& reference) { return look_up(reference); });
  if (!text) return std::unexpected(text.error());
  return text->value_or("");
}

std::string_view Expansion::text_field(std::string_view name) const {
  const boost::json::value* value = input_.get_object().if_contains(name);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string_view{} : std::string_view{*text};
}

}  // namespace turnpike::provider

// A task of a local program, its templates parsed, and what one try makes of it.
#pragma once

#include <boost/json/value.hpp>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "policy/policy.h"
#include "policy/template.h"
#include "provider/confinement.h"
#include "provider/provider.h"

namespace turnpike::provider {

struct ParsedStep {
  std::string program;  // as configured; looked up at each try, so that it may be installed later
  std::vector<policy::Template> arguments;
  std::optional<policy::Template> when;
};
struct ParsedOutput {
  std::string name;
  policy::Template file;
  policy::Template mime;
};
struct ParsedTask {
  policy::ExecTask config;
  std::vector<ParsedStep> steps;
  std::optional<policy::Template> stdin_text;
  std::vector<ParsedOutput> outputs;
};

// Errors: kConfiguration. The loader of the configuration has looked already; a task that was built otherwise
// is refused here.
Result<ParsedTask> parse_task(const policy::ExecTask& config);

// Of a program that stays, which has no steps: the outputs alone.
Result<ParsedTask> parse_served_task(const policy::ExecTask& config);

// One declared output of one try.
struct ExpectedOutput {
  std::string name;
  std::string file;  // plain name in the work folder
  std::string mime;
};

// What the templates of one try see. Paths are those that the program sees. `${file.FIELD}` of a list of
// artifacts is all their paths, joined by '|', as ffmpeg's concat protocol takes them.
class Expansion {
 public:
  // Errors: kInvalidRequest (the input is no JSON object, or an output cannot be named from it).
  static Result<Expansion> make(const ParsedTask& task, const Request& request, Confinement confinement);

  // argv after the program. Errors: kInvalidRequest with the field.
  Result<std::vector<std::string>> arguments(const ParsedStep& step) const;
  Result<bool> wanted(const ParsedStep& step) const;
  Result<std::string> stdin_text(const ParsedTask& task) const;

  const std::vector<ExpectedOutput>& outputs() const { return outputs_; }
  // Host path and the path in the sandbox.
  const std::vector<std::pair<std::filesystem::path, std::filesystem::path>>& inputs() const {
    return inputs_;
  }
  // The input's text field `name`, empty if there is none.
  std::string_view text_field(std::string_view name) const;

 private:
  Expansion() = default;
  void add_file(const InputFile& file, bool confined);
  // Error: kInvalidRequest, for a field that the template needs as a file and the input has as something
  // else.
  Result<void> check_files(const policy::Template& argument) const;
  std::optional<std::string> look_up(const policy::TemplateReference& reference) const;

  boost::json::value input_;
  std::string input_text_;
  std::map<std::string, std::string> files_;  // field -> path or paths
  std::map<std::string, std::string> output_paths_;
  std::vector<ExpectedOutput> outputs_;
  std::vector<std::pair<std::filesystem::path, std::filesystem::path>> inputs_;
};

}  // namespace turnpike::provider

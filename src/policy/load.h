// YAML in, validated values out.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "policy/policy.h"

namespace turnpike::policy {

// One mistake in a configuration file.
struct Mistake {
  std::string file;
  int line = 0;         // 1-based; 0 where the file as a whole is meant
  int column = 0;       // 1-based
  std::string path;     // "plans.tier1.limits.concurrent_jobs"
  std::string message;  // what is wrong and what would be right
};
// "presets/dev.yaml:14:5: plans.tier1: unknown key `concurent_jobs`: did you mean `concurrent_jobs`?"
std::string to_string(const Mistake& mistake);

// Where ${env:NAME} and ${file:PATH} are looked up; tests pass their own. nullopt: not there.
struct SecretSource {
  std::function<std::optional<std::string>(const std::string& name)> env;
  std::function<std::optional<std::string>(const std::string& path)> file;
  static SecretSource system();
};

struct Loaded {
  PolicyPtr policy;               // null if there is any mistake
  std::vector<Mistake> mistakes;  // all of them, in the order of the file
};

// `name` is what mistakes call the file.
Loaded load_text(std::string text, const std::string& name,
                 const SecretSource& secrets = SecretSource::system());
Loaded load_file(const std::string& path, const SecretSource& secrets = SecretSource::system());

}  // namespace turnpike::policy

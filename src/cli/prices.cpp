// turnpike prices import: LiteLLM's table of prices as the section `prices` of a configuration.
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "cli/commands.h"
#include "policy/import_prices.h"

namespace turnpike::cli {

int prices_import(const PricesOptions& options) {
  policy::PriceImport wanted{.providers = {}, .models = options.models};
  for (const std::string& pair : options.providers) {
    const std::size_t at = pair.find('=');
    wanted.providers[pair.substr(0, at)] = at == std::string::npos ? pair : pair.substr(at + 1);
  }
  const std::ifstream file(options.file, std::ios::binary);
  if (!file) {
    fmt::print(stderr, "turnpike: cannot read {}\n", options.file);
    return kFailed;
  }
  std::ostringstream text;
  text << file.rdbuf();
  const auto imported = policy::import_prices(text.str(), wanted);
  if (!imported) {
    fmt::print(stderr, "{}: {}\n", options.file, imported.error().message);
    return kFailed;
  }
  fmt::print("{}", imported->yaml);
  for (const std::string& note : imported->notes) fmt::print(stderr, "{}\n", note);
  fmt::print(stderr, "prices of {} models; put them under `prices:` of the configuration\n",
             imported->models);
  return kOk;
}

}  // namespace turnpike::cli

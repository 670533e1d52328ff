#include "provider/provider.h"

#include <fmt/format.h>

#include <utility>

#include "provider/provider_kinds.h"
#include "provider/wire_adapter.h"
#include "provider/work_desk.h"

namespace turnpike::provider {
namespace {

Confinement best_confinement(const std::string& provider, std::vector<std::string>& warnings) {
  const Result<void> works = bubblewrap_works();
  if (works) {
    if (process_bound() == ProcessBound::kWatched)
      warnings.push_back(
          fmt::format("provider {}: the kernel cannot bound how many processes local programs start (prlimit "
                      "and setpriv of util-linux, and Linux 5.14, are needed); they are only watched",
                      provider));
    return Confinement::kBubblewrap;
  }
  warnings.push_back(
      fmt::format("provider {}: local programs run without a sandbox, with network and with everything this "
                  "user may read: {}",
                  provider, works.error().message));
  return Confinement::kNone;
}

}  // namespace

std::unique_ptr<Provider> make_provider(const policy::Provider& config, std::vector<std::string>& warnings,
                                        std::shared_ptr<WorkDesk> desk) {
  switch (config.kind) {
    case policy::ProviderKind::kExec: {
      const Confinement confinement = best_confinement(config.name, warnings);
      return with_wire(config.serve ? make_exec_server_provider(config, confinement, warnings)
                                    : make_exec_provider(config, confinement, warnings));
    }
    case policy::ProviderKind::kOpenAi:
      return make_openai_provider(config, net::Client::create());
    case policy::ProviderKind::kAnthropic:
      return make_anthropic_provider(config, net::Client::create());
    case policy::ProviderKind::kHttp:
      return with_wire(make_http_provider(config, net::Client::create(), warnings));
    case policy::ProviderKind::kSandbox:
      return with_wire(make_sandbox_provider(config));
    case policy::ProviderKind::kPull:
      return with_wire(make_pull_provider(config, desk ? std::move(desk) : std::make_shared<WorkDesk>()));
  }
  return nullptr;
}

}  // namespace turnpike::provider

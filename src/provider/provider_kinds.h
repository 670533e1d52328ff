// The kinds of provider, one file each; make_provider chooses.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/client.h"
#include "provider/confinement.h"
#include "provider/provider.h"

namespace turnpike::provider {

std::unique_ptr<Provider> make_exec_provider(const policy::Provider& config, Confinement confinement,
                                             std::vector<std::string>& warnings);
// Of a program that stays: config.serve is set. Its folders are made beside the tries' work folders. When the
// provider goes, which takes until every process of it is dead, nothing of them is left.
std::unique_ptr<Provider> make_exec_server_provider(const policy::Provider& config, Confinement confinement,
                                                    std::vector<std::string>& warnings);
std::unique_ptr<Provider> make_openai_provider(const policy::Provider& config,
                                               std::shared_ptr<net::Client> client);
std::unique_ptr<Provider> make_anthropic_provider(const policy::Provider& config,
                                                  std::shared_ptr<net::Client> client);
// `warnings`: tasks that cannot run as they are configured, one sentence each.
std::unique_ptr<Provider> make_http_provider(const policy::Provider& config,
                                             std::shared_ptr<net::Client> client,
                                             std::vector<std::string>& warnings);
std::unique_ptr<Provider> make_sandbox_provider(const policy::Provider& config);
// `desk` is not null.
std::unique_ptr<Provider> make_pull_provider(const policy::Provider& config, std::shared_ptr<WorkDesk> desk);

}  // namespace turnpike::provider

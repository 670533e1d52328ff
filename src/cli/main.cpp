#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <functional>

#include "cli/commands.h"

namespace {

using namespace turnpike::cli;

// Each adds its subcommand and says in `run` what to do when it was asked for.
using Run = std::function<int()>;

void add_serve(CLI::App& app, Run& run) {
  auto options = std::make_shared<ServeOptions>();
  auto* command = app.add_subcommand("serve", "Serve: queue, run and answer until told to stop");
  command->add_option("--config", options->config, "The YAML file that promises everything")->required();
  command->add_option("--listen", options->listen, "ADDRESS:PORT instead of the configuration's");
  command->add_option("--data", options->data, "The folder that everything durable lives in")
      ->capture_default_str();
  command->callback([options, &run] { run = [options] { return serve(*options); }; });
}

void add_check(CLI::App& app, Run& run) {
  auto options = std::make_shared<CheckOptions>();
  auto* command = app.add_subcommand("check", "Say every mistake of a configuration, and do nothing else");
  command->add_option("--config", options->config, "The YAML file")->required();
  command->callback([options, &run] { run = [options] { return check(*options); }; });
}

void add_apply(CLI::App& app, Run& run) {
  auto options = std::make_shared<ApplyOptions>();
  auto* command = app.add_subcommand("apply", "Put a configuration in force in the running server");
  command->add_option("--config", options->config, "The YAML file")->required();
  command->add_option("--data", options->data, "The server's data folder")->capture_default_str();
  command->add_option("--reason", options->reason, "Why, for the list of versions");
  command->callback([options, &run] { run = [options] { return apply(*options); }; });
}

void add_policy(CLI::App& app, Run& run) {
  auto options = std::make_shared<PolicyOptions>();
  auto* policy = app.add_subcommand("policy", "The configurations that were in force in the running server");
  policy->require_subcommand(1);
  auto* list = policy->add_subcommand("list", "List them, the newest first: number, time, by whom, why");
  list->add_option("--limit", options->limit, "At most so many")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  list->callback([options, &run] { run = [options] { return policy_list(*options); }; });
  auto* show = policy->add_subcommand("show", "Print one as it was applied");
  show->callback([options, &run] { run = [options] { return policy_show(*options); }; });
  auto* diff = policy->add_subcommand("diff", "Print what one changed");
  diff->callback([options, &run] { run = [options] { return policy_diff(*options); }; });
  auto* rollback = policy->add_subcommand("rollback", "Put an earlier one in force again, as a new version");
  rollback->add_option("--reason", options->reason, "Why, for the list of versions");
  rollback->callback([options, &run] { run = [options] { return policy_rollback(*options); }; });
  for (auto* command : {show, diff, rollback}) {
    command->add_option("version", options->version, "Its number")->required()->check(CLI::PositiveNumber);
  }
  diff->add_option("against", options->against, "The number of another; default: the one before it")
      ->check(CLI::PositiveNumber);
  for (auto* command : {list, show, diff, rollback}) {
    command->add_option("--data", options->data, "The server's data folder")->capture_default_str();
  }
}

void add_keys(CLI::App& app, Run& run) {
  auto options = std::make_shared<KeysOptions>();
  auto* keys = app.add_subcommand("keys", "Make, list and revoke API keys");
  keys->require_subcommand(1);
  auto* create = keys->add_subcommand("create", "Make a key and print it, alone");
  create->add_option("--role", options->role, "admin, service, account or worker")
      ->required()
      ->check(CLI::IsMember({"admin", "service", "account", "worker"}));
  create->add_option("--account", options->user,
                     "Whose, for roles account and worker: your own id of the user");
  create->add_option("--name", options->name, "What to call it");
  create->callback([options, &run] { run = [options] { return keys_create(*options); }; });
  auto* list = keys->add_subcommand("list", "List keys, without their secrets");
  list->callback([options, &run] { run = [options] { return keys_list(*options); }; });
  auto* revoke = keys->add_subcommand("revoke", "Make a key worthless");
  revoke->add_option("id", options->id, "key_…")->required();
  revoke->callback([options, &run] { run = [options] { return keys_revoke(*options); }; });
  for (auto* command : {create, list, revoke}) {
    command->add_option("--data", options->data, "The server's data folder")->capture_default_str();
  }
}

void add_ledger(CLI::App& app, Run& run) {
  auto options = std::make_shared<LedgerOptions>();
  auto* ledger = app.add_subcommand("ledger", "The books: what was held, used and charged");
  ledger->require_subcommand(1);
  auto* verify = ledger->add_subcommand(
      "verify", "Recount everything and say whether it agrees; beside a running server too");
  verify->add_option("--data", options->data, "The server's data folder")->capture_default_str();
  verify->callback([options, &run] { run = [options] { return ledger_verify(*options); }; });
}

void add_audit(CLI::App& app, Run& run) {
  auto options = std::make_shared<AuditOptions>();
  auto* audit = app.add_subcommand("audit", "The audit: who changed what");
  audit->require_subcommand(1);
  auto* verify = audit->add_subcommand(
      "verify", "Recount its chain of hashes and say whether it agrees; beside a running server too");
  verify->add_option("--data", options->data, "The server's data folder")->capture_default_str();
  verify->callback([options, &run] { run = [options] { return audit_verify(*options); }; });
}

void add_prices(CLI::App& app, Run& run) {
  auto options = std::make_shared<PricesOptions>();
  auto* prices = app.add_subcommand("prices", "Tables of prices");
  prices->require_subcommand(1);
  auto* import = prices->add_subcommand(
      "import", "Print LiteLLM's model_prices_and_context_window.json as the section `prices`");
  import->add_option("file", options->file, "The JSON file")->required();
  import
      ->add_option("--provider", options->providers,
                   "LiteLLM's name of a provider; NAME=OURS where the configuration calls it otherwise")
      ->required();
  import->add_option("--model", options->models, "Only this one, as the provider names it; default: all");
  import->callback([options, &run] { run = [options] { return prices_import(*options); }; });
}

void add_demo(CLI::App& app, Run& run) {
  auto options = std::make_shared<DemoOptions>();
  auto* command = app.add_subcommand("demo", "Send a running server work from four users on four plans");
  command->add_option("--url", options->url,
                      "The server, e.g. http://127.0.0.1:8080; default: the one on --data");
  command->add_option("--data", options->data, "The server's data folder")->capture_default_str();
  command->add_option("--out", options->out, "Where to put the files")->capture_default_str();
  command->add_option("--key", options->key, "A service key; default: one is made for it");
  command->callback([options, &run] { run = [options] { return demo(*options); }; });
}

void add_version(CLI::App& app, Run& run) {
  auto* command = app.add_subcommand("version", "Say which version this is");
  command->callback([&run] { run = [] { return version(); }; });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Turnpike: what each plan promises, kept"};
  app.require_subcommand(1);
  app.option_defaults()->always_capture_default(false);
  Run run;
  add_serve(app, run);
  add_check(app, run);
  add_apply(app, run);
  add_policy(app, run);
  add_prices(app, run);
  add_keys(app, run);
  add_ledger(app, run);
  add_audit(app, run);
  add_demo(app, run);
  add_version(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  try {
    return run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "turnpike: %s\n", error.what());
    return kFailed;
  }
}

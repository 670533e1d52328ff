// The subcommands of the program, each one function; main.cpp reads as their list.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace turnpike::cli {

constexpr int kOk = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kBadConfiguration = 3;

struct ServeOptions {
  std::string config = "presets/dev.yaml";
  std::string listen;  // empty: the configuration's
  std::filesystem::path data = "data";
};
int serve(const ServeOptions& options);

struct CheckOptions {
  std::string config;
};
int check(const CheckOptions& options);

struct ApplyOptions {
  std::string config;
  std::filesystem::path data = "data";
  std::string reason;
};
int apply(const ApplyOptions& options);

struct PolicyOptions {
  std::filesystem::path data = "data";
  std::int64_t version = 0;  // show, diff, rollback
  std::int64_t against = 0;  // diff; 0: the one before
  std::string reason;        // rollback
  int limit = 20;            // list
};
int policy_list(const PolicyOptions& options);
int policy_show(const PolicyOptions& options);
int policy_diff(const PolicyOptions& options);
int policy_rollback(const PolicyOptions& options);

struct KeysOptions {
  std::filesystem::path data = "data";
  std::string role, user, name;  // create
  std::string id;                // revoke
};
int keys_create(const KeysOptions& options);
int keys_list(const KeysOptions& options);
int keys_revoke(const KeysOptions& options);

struct LedgerOptions {
  std::filesystem::path data = "data";
};
int ledger_verify(const LedgerOptions& options);

struct AuditOptions {
  std::filesystem::path data = "data";
};
int audit_verify(const AuditOptions& options);

struct PricesOptions {
  std::string file;
  std::vector<std::string> providers;  // "theirs" or "theirs=ours"
  std::vector<std::string> models;     // empty: all
};
int prices_import(const PricesOptions& options);

struct DemoOptions {
  std::string url;  // empty: that of the server on `data`
  std::filesystem::path data = "data";
  std::filesystem::path out = "out";
  std::string key;  // a service key; empty: one is made over the control socket
};
int demo(const DemoOptions& options);

int version();

}  // namespace turnpike::cli

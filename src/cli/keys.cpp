// Keys from the command line: through the running server, or in the folder of one that does not run.
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <cstdio>
#include <utility>

#include "api/context.h"
#include "api/crypto.h"
#include "api/keys.h"
#include "api/render.h"
#include "cli/commands.h"
#include "cli/control.h"
#include "journal/sqlite/sqlite_journal.h"
#include "policy/load.h"

namespace turnpike::cli {
namespace {

namespace json = boost::json;

int complain(std::string_view message) {
  fmt::print(stderr, "turnpike: {}\n", message);
  return kFailed;
}

std::string member(const json::value& value, std::string_view name) {
  const auto* found = value.is_object() ? value.get_object().if_contains(name) : nullptr;
  if (found == nullptr || found->is_null()) return {};
  return found->is_string() ? std::string(found->get_string()) : json::serialize(*found);
}

Result<json::value> ask(Http& control, std::string_view method, std::string_view path, std::string body,
                        int status) {
  const auto response = control.send(method, path, std::move(body));
  if (!response) return std::unexpected(response.error());
  if (response->status != status) return fail(ErrorCode::kUnprocessable, error_message(*response));
  json::error_code ec;
  json::value value = json::parse(response->body, ec);
  if (ec) return fail(ErrorCode::kUpstreamError, "the server's answer is no JSON");
  return value;
}

// A folder that no server works in, as the keys commands need it. Holds its lock.
struct Folder {
  std::unique_ptr<journal::Journal> journal;
  journal::Recovered recovered;
  IdSource ids;
  Wall now;
};

Result<Folder> open_folder(const std::filesystem::path& data) {
  auto journal = journal::open_sqlite(data);
  if (!journal) return std::unexpected(std::move(journal.error()));
  auto recovered = (*journal)->recover();
  if (!recovered) return std::unexpected(std::move(recovered.error()));
  const std::uint64_t last_id = recovered->last_id;
  return Folder{*std::move(journal), *std::move(recovered), IdSource(last_id), SystemClock().now().wall};
}

Result<void> commit(Folder& folder, std::vector<engine::Mutation> mutations, const journal::KeyRow& key,
                    std::string action) {
  journal::Commit commit;
  commit.batch = folder.recovered.last_batch + 1;
  commit.at = folder.now;
  commit.mutations = std::move(mutations);
  commit.records.emplace_back(key);
  commit.records.emplace_back(
      journal::AuditRow{.at = folder.now,
                        .actor = "cli",
                        .action = std::move(action),
                        .subject = to_string(key.id),
                        .detail = fmt::format("{{\"role\":\"{}\"}}", api::role_name(key.role))});
  return folder.journal->commit(commit);
}

// The user's account: as it is, or (with its mutation) new on the default plan of the policy in force.
Result<AccountId> account_in(Folder& folder, const std::string& user,
                             std::vector<engine::Mutation>& mutations) {
  for (const auto& account : folder.recovered.accounts) {
    if (account.user_id == user) return account.id;
  }
  if (!folder.recovered.policy) {
    return fail(
        ErrorCode::kConflict,
        "no configuration was ever in force here, so there is no plan for a new user: start the server once");
  }
  const auto loaded = policy::load_text(folder.recovered.policy->text, "(policy in force)");
  if (loaded.policy == nullptr) {
    return fail(ErrorCode::kConflict, "the configuration in force cannot be read here (" +
                                          policy::to_string(loaded.mistakes.front()) + "): start the server");
  }
  const engine::AccountRow account{AccountId{folder.ids.next(folder.now)}, user,
                                   loaded.policy->accounts.default_plan, folder.now};
  mutations.emplace_back(engine::PutAccount{account});
  return account.id;
}

int create_in_folder(const KeysOptions& options) {
  auto folder = open_folder(options.data);
  if (!folder) return complain(folder.error().message);
  std::vector<engine::Mutation> mutations;
  journal::KeyRow key;
  key.role = api::parse_role(options.role).value_or(journal::Role::kAccount);
  if (!options.user.empty()) {
    const auto account = account_in(*folder, options.user, mutations);
    if (!account) return complain(account.error().message);
    key.account = *account;
  }
  const std::string secret = api::make_key_secret();
  key.id = KeyId{folder->ids.next(folder->now)};
  key.hash = api::sha256(secret);
  key.name = options.name;
  key.created_at = folder->now;
  const auto committed = commit(*folder, std::move(mutations), key, "key.created");
  if (!committed) return complain(committed.error().message);
  fmt::print("{}\n", secret);
  return kOk;
}

int revoke_in_folder(const KeysOptions& options) {
  auto folder = open_folder(options.data);
  if (!folder) return complain(folder.error().message);
  for (auto key : folder->recovered.keys) {
    if (to_string(key.id) != options.id) continue;
    key.revoked_at = folder->now;
    const auto committed = commit(*folder, {}, key, "key.revoked");
    if (!committed) return complain(committed.error().message);
    fmt::print("{} is revoked\n", options.id);
    return kOk;
  }
  return complain("there is no such key");
}

// One key a line: id, role, user, name, and whether it still works.
void print_key(const json::value& key) {
  const std::string revoked = member(key, "revoked_at");
  const std::string expires = member(key, "expires_at");
  const std::string state = !revoked.empty()  ? "revoked"
                            : expires.empty() ? "in force"
                                              : "expires " + expires;
  fmt::print("{}\t{}\t{}\t{}\t{}\n", member(key, "id"), member(key, "role"), member(key, "user_id"),
             member(key, "name"), state);
}

int list_in_folder(const KeysOptions& options) {
  std::error_code ec;
  if (!std::filesystem::exists(options.data, ec))
    return complain("there is no folder " + options.data.string());
  const auto folder = open_folder(options.data);
  if (!folder) return complain(folder.error().message);
  for (const auto& key : folder->recovered.keys) {
    std::string user;
    for (const auto& account : folder->recovered.accounts) {
      if (key.account && account.id == key.account) user = account.user_id;
    }
    api::Buffer out;
    api::append_key(out, key, user, {});
    print_key(json::parse(api::to_text(out)));
  }
  return kOk;
}

}  // namespace

int keys_create(const KeysOptions& options) {
  const bool of_account = !options.user.empty();
  if (options.role == "account" && !of_account) {
    fmt::print(stderr, "turnpike: a key of role account needs --account USER\n");
    return kUsage;
  }
  if (of_account && options.role != "account" && options.role != "worker") {
    fmt::print(stderr, "turnpike: --account is for --role account and --role worker\n");
    return kUsage;
  }
  if (of_account && !api::valid_user_id(options.user)) {
    fmt::print(stderr, "turnpike: --account must be a text of 1 to 255 bytes\n");
    return kUsage;
  }
  if (!server_runs(options.data)) return create_in_folder(options);
  json::object body{{"role", options.role}, {"name", options.name}};
  if (of_account) body["user_id"] = options.user;
  Http control = control_of(options.data);
  const auto key = ask(control, "POST", "/api/admin/keys", json::serialize(body), 201);
  if (!key) return complain(key.error().message);
  fmt::print("{}\n", member(*key, "key"));
  return kOk;
}

int keys_list(const KeysOptions& options) {
  if (!server_runs(options.data)) return list_in_folder(options);
  Http control = control_of(options.data);
  std::string after;
  for (;;) {
    const auto page = ask(control, "GET", "/api/admin/keys?limit=100" + after, {}, 200);
    if (!page) return complain(page.error().message);
    const auto* data = page->is_object() ? page->get_object().if_contains("data") : nullptr;
    if (data == nullptr || !data->is_array()) return complain("the server's answer is no list");
    for (const auto& key : data->get_array()) print_key(key);
    if (member(*page, "has_more") != "true" || data->get_array().empty()) return kOk;
    after = "&starting_after=" + member(data->get_array().back(), "id");
  }
}

int keys_revoke(const KeysOptions& options) {
  if (!server_runs(options.data)) return revoke_in_folder(options);
  if (!parse_id<KeyTag>(options.id)) return complain("there is no such key");
  Http control = control_of(options.data);
  const auto key = ask(control, "DELETE", "/api/admin/keys/" + options.id, {}, 200);
  if (!key) return complain(key.error().message);
  fmt::print("{} is revoked\n", options.id);
  return kOk;
}

}  // namespace turnpike::cli

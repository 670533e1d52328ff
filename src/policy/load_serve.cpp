// The program of an exec provider that stays and answers over a Unix socket.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "policy/load_parts.h"

namespace turnpike::policy {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;

constexpr std::size_t kArgumentsMax = 256;
constexpr std::size_t kFilesMax = 64;
constexpr std::uint32_t kConcurrencyMax = 1024;
constexpr std::uint32_t kInstancesMax = 256;
constexpr std::uint32_t kAccountsServed = 8;  // instances of `dedicated: account`, unless the file says
constexpr minutes kAccountsIdle{10};          // likewise, idle_stop
constexpr std::string_view kSocket = "${socket}";

// Where a sandbox has something of its own.
constexpr std::array kTakenFolders = {"/proc", "/dev", "/sys", "/work", "/input", "/tries"};

bool refers_to_socket_only(std::string_view argument) {
  for (std::size_t at = 0; (at = argument.find("${", at)) != std::string_view::npos; at += kSocket.size()) {
    if (!argument.substr(at).starts_with(kSocket)) return false;
  }
  return true;
}

void read_command(const Value& value, ExecServe& out) {
  const bool read = value.list([&](const Value& item) {
    std::string argument;
    item.raw_text(argument);
    if (out.command.empty() && (argument.empty() || argument.contains("${"))) {
      item.mistake("the program must be named as it is, without ${...}");
    } else if (!refers_to_socket_only(argument)) {
      item.mistake("may refer to ${socket} alone: the program is started before there is an input");
    }
    if (out.command.size() == kArgumentsMax) item.mistake(fmt::format("at most {} arguments", kArgumentsMax));
    out.command.push_back(std::move(argument));
  });
  if (read && out.command.empty())
    value.mistake("needs a program and its arguments: [PROGRAM, ARGUMENT, ...]");
}

bool is_within(std::string_view path, std::string_view folder) {
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

void read_files(const Value& value, ExecServe& out) {
  value.list([&](const Value& item) {
    std::string text;
    if (!item.text(text)) return;
    const std::filesystem::path path{text};
    if (!path.is_absolute() || path.lexically_normal() != path || path == "/" || text.ends_with('/')) {
      item.mistake("must be the absolute path of a file or folder, without `.`, `..` or a slash at its end");
    }
    for (const char* taken : kTakenFolders) {
      if (is_within(text, taken))
        item.mistake(fmt::format("must not be in {}, which the sandbox has of its own", taken));
    }
    if (out.files.size() == kFilesMax) item.mistake(fmt::format("at most {} files and folders", kFilesMax));
    out.files.push_back(std::move(text));
  });
}

void read_idle_stop(const Value& value, ExecServe& out) {
  if (out.per_account) out.idle_stop = kAccountsIdle;
  if (!value.present()) return;
  if (value.is_null() || value.is_word("never")) {
    out.idle_stop.reset();
    return;
  }
  Duration idle = kAccountsIdle;
  if (value.duration(idle, milliseconds(100), hours(24 * 7))) out.idle_stop = idle;
}

}  // namespace

void read_serve(const Value& value, Provider& provider) {
  ExecServe serve;
  value.section([&](Map& map) {
    read_command(map.require("command"), serve);
    read_files(map.at("files"), serve);
    map.at("dedicated").word(serve.per_account, {{"none", false}, {"account", true}});
    if (serve.per_account) serve.instances = kAccountsServed;
    map.at("instances").whole(serve.instances, 1, kInstancesMax);
    map.at("concurrency").whole(serve.concurrency, 1, kConcurrencyMax);
    map.at("start_timeout").duration(serve.start_timeout, milliseconds(100), hours(1));
    map.at("cancel_grace").duration(serve.cancel_grace, milliseconds(10), hours(1));
    read_idle_stop(map.at("idle_stop"), serve);
    map.at("limits").section([&](Map& limits) {
      limits.at("memory").bytes(serve.memory_bytes_max, 16ULL << 20, 1ULL << 40);
      limits.at("file_size").bytes(serve.file_bytes_max, 1ULL << 10, 1ULL << 40);
      limits.at("processes").whole(serve.processes_max, 1, 4096);
    });
  });
  if (!value.present()) return;
  provider.concurrency = std::min(serve.instances * serve.concurrency, kSlotsMax);
  provider.serve = std::move(serve);
}

}  // namespace turnpike::policy

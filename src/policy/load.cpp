#include "policy/load.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "policy/load_parts.h"
#include "policy/reader.h"

namespace turnpike::policy {
namespace {

constexpr std::size_t kFileBytesMax = 1U << 20;
constexpr std::size_t kSecretBytesMax = 64U << 10;

std::string sha256_hex(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("SHA-256 is not available in this OpenSSL");
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

// Up to `bytes_max` + 1 bytes of a file, so that the caller sees when it is larger.
Result<std::string> read_bounded(const std::string& path, std::size_t bytes_max) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail_errno("cannot be read", errno != 0 ? errno : ENOENT);
  std::string text(bytes_max + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return fail_errno("cannot be read", errno != 0 ? errno : EIO);
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

// yaml-cpp ends a document at some control characters without a word: what stands behind one would be
// ignored.
bool check_characters(const std::string& text, Report& report) {
  const auto bad = std::ranges::find_if(text, [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7f;
  });
  if (bad == text.end()) return true;
  YAML::Mark mark;
  mark.line = static_cast<int>(std::count(text.begin(), bad, '\n'));
  mark.column = static_cast<int>(bad - std::find(std::make_reverse_iterator(bad), text.rend(), '\n').base());
  report.add(mark, {}, "a control character: only text, tabs and line ends are allowed");
  return false;
}

std::optional<YAML::Node> parse_yaml(const std::string& text, Report& report) {
  try {
    std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      report.add(documents[1].Mark(), {},
                 "a second YAML document begins here: a configuration is one document");
      return std::nullopt;
    }
    if (documents.empty() || documents.front().IsNull()) {
      report.add("is empty: a configuration needs at least providers, models, plans and accounts");
      return std::nullopt;
    }
    return documents.front();
  } catch (const YAML::Exception& error) {
    report.add(error.mark, {}, fmt::format("is not YAML: {}", error.msg));
  }
  return std::nullopt;
}

void read_policy(const YAML::Node& root, const SecretSource& secrets, Report& report, Policy& policy) {
  const Value document(report, root, root.Mark(), {});
  document.section([&](Map& top) {
    read_server(top.at("server"), policy);
    read_providers(top.require("providers"), secrets, policy);
    read_models(top.require("models"), policy);
    read_aliases(top.at("aliases"), policy);
    read_content_types(top.at("content_types"), policy);
    read_plans(top.require("plans"), top.at("defaults"), policy);
    read_accounts(top.require("accounts"), policy);
    read_store(top.at("store"), policy);
    read_webhooks(top.at("webhooks"), policy);
    read_pictures(top.at("pictures"), policy);
    const std::vector<std::string> workflows = read_workflows(top.at("workflows"), policy);
    read_endpoints(top.at("endpoints"), workflows, policy);
    read_cache(top.at("cache"), policy);
    read_telemetry(top.at("telemetry"), secrets, policy);
    read_prices(top.at("prices"), policy);
    read_groups(top.at("teams"), top.at("platform"), policy);
    read_rules(top.at("rules"), policy);
    read_flags(top.at("flags"), policy);
    read_alerts(top.at("alerts"), policy);
    top.refuse("billing", "is not there yet in this version");
  });
}

}  // namespace

std::string to_string(const Mistake& mistake) {
  std::string text = mistake.file;
  if (mistake.line > 0) text += fmt::format(":{}:{}", mistake.line, mistake.column);
  if (!mistake.path.empty()) text += fmt::format(": {}", mistake.path);
  return fmt::format("{}: {}", text, mistake.message);
}

SecretSource SecretSource::system() {
  return {
      .env = [](const std::string& name) -> std::optional<std::string> {
        // Nothing in this program changes its environment.
        const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe)
        if (value == nullptr) return std::nullopt;
        return value;
      },
      .file = [](const std::string& path) -> std::optional<std::string> {
        auto text = read_bounded(path, kSecretBytesMax);
        if (!text || text->size() > kSecretBytesMax) return std::nullopt;
        return std::move(*text);
      },
  };
}

Loaded load_text(std::string text, const std::string& name, const SecretSource& secrets) {
  Report report(name);
  Policy policy;
  if (text.size() > kFileBytesMax) {
    report.add("is larger than 1 MiB, which no configuration is");
  } else if (check_characters(text, report)) {
    if (const auto root = parse_yaml(text, report)) {
      if (inspect_document(*root, report)) read_policy(*root, secrets, report, policy);
    }
  }
  if (!report.clean()) return {.policy = nullptr, .mistakes = report.take()};
  policy.hash = sha256_hex(text);
  policy.prices_hash = sha256_hex(canonical_text(policy.prices));
  policy.text = std::move(text);
  return {.policy = std::make_shared<const Policy>(std::move(policy)), .mistakes = {}};
}

Result<Plan> overridden(const Policy& policy, const Plan& plan, std::string_view overrides) {
  constexpr std::size_t kOverridesBytesMax = 16U << 10;
  Plan own = plan;
  if (overrides.empty()) return own;
  Report report("overrides");
  const std::string text(overrides);
  if (text.size() > kOverridesBytesMax) {
    report.add("are larger than 16 KiB");
  } else if (check_characters(text, report)) {
    if (const auto root = parse_yaml(text, report); root && inspect_document(*root, report)) {
      Value(report, *root, root->Mark(), "overrides").section([&](Map& map) {
        read_overrides(map, policy, own);
      });
    }
  }
  if (report.clean()) return own;
  const Mistake first = report.take().front();
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("{}: {}", first.path.empty() ? "overrides" : first.path, first.message),
              first.path.empty() ? "overrides" : first.path);
}

Loaded load_file(const std::string& path, const SecretSource& secrets) {
  auto text = read_bounded(path, kFileBytesMax);
  if (text) return load_text(std::move(*text), path, secrets);
  Report report(path);
  report.add(text.error().message);
  return {.policy = nullptr, .mistakes = report.take()};
}

}  // namespace turnpike::policy

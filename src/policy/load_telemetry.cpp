// The section telemetry: where traces go.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "policy/load_parts.h"

namespace turnpike::policy {
namespace {

constexpr std::size_t kHeadersMax = 16;
constexpr std::size_t kHeaderNameMax = 64;
constexpr std::string_view kTracesPath = "/v1/traces";

// What the message itself says of its length, type and end is not the operator's to say.
constexpr std::array kOwnHeaders = {"content-type", "content-length", "host", "connection",
                                    "transfer-encoding"};

void read_endpoint(const Value& value, Otlp& out) {
  if (!value.text(out.endpoint)) return;
  if (!is_base_url(out.endpoint)) {
    value.mistake(
        "must be http://HOST:PORT or https://HOST:PORT of the collector, without a slash at the end, a user, "
        "a "
        "query or a fragment");
  } else if (out.endpoint.ends_with(kTracesPath)) {
    value.mistake("is without /v1/traces, which is added to it");
  }
}

void read_header(const std::string& name, const Value& value, const SecretSource& secrets, Otlp& out) {
  std::string low = name;
  std::ranges::transform(low, low.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool plain = name.size() <= kHeaderNameMax && std::ranges::all_of(low, [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
                     });
  if (!plain) {
    value.mistake(
        fmt::format("the name of a header has letters, digits, - and _ only, at most {}", kHeaderNameMax));
  } else if (std::ranges::find(kOwnHeaders, low) != kOwnHeaders.end()) {
    value.mistake("is written by Turnpike itself: leave it out");
  } else if (out.headers.size() == kHeadersMax) {
    value.mistake(fmt::format("at most {} headers", kHeadersMax));
  } else {
    out.headers.emplace_back(name, Secret());
    read_secret_header(value, secrets, out.headers.back().second);
  }
}

}  // namespace

void read_telemetry(const Value& value, const SecretSource& secrets, Policy& policy) {
  value.section([&](Map& telemetry) {
    telemetry.at("otlp").section([&](Map& otlp) {
      Otlp& out = policy.otlp.emplace();
      read_endpoint(otlp.require("endpoint"), out);
      otlp.at("headers").each(
          [&](const std::string& name, const Value& header) { read_header(name, header, secrets, out); });
      otlp.at("sample").percent(out.sample_permille, 0, 1000);
      otlp.at("service_name").name(out.service_name);
    });
  });
}

}  // namespace turnpike::policy

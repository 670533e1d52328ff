#include "api/policy_json.h"

#include <utility>
#include <vector>

namespace turnpike::api {
namespace {

void append_mistakes(Buffer& out, const std::vector<policy::Mistake>& mistakes) {
  append(out, ",\"mistakes\":[");
  for (std::size_t i = 0; i < mistakes.size(); ++i) {
    const auto& mistake = mistakes[i];
    fmt::format_to(fmt::appender(out), "{}{{\"line\":{},\"column\":{},\"path\":", i > 0 ? "," : "",
                   mistake.line, mistake.column);
    append_quoted(out, mistake.path);
    append(out, ",\"message\":");
    append_quoted(out, mistake.message);
    append(out, ",\"text\":");
    append_quoted(out, policy::to_string(mistake));
    out.push_back('}');
  }
  out.push_back(']');
}

}  // namespace

std::string policy_json(std::uint64_t version, std::string_view hash, std::string_view text) {
  Buffer out;
  fmt::format_to(fmt::appender(out), "{{\"object\":\"policy\",\"version\":{},\"hash\":", version);
  append_quoted(out, hash);
  if (!text.empty()) {
    append(out, ",\"text\":");
    append_quoted(out, text);
  }
  out.push_back('}');
  return to_text(out);
}

boost::asio::awaitable<Reply> put_in_force(Context& context, policy::Loaded loaded, std::string reason,
                                           std::optional<std::uint64_t> rolled_back_to) {
  if (loaded.policy == nullptr) {
    Buffer mistakes;
    append_mistakes(mistakes, loaded.mistakes);
    ErrorExtras extras;
    extras.fields = to_text(mistakes);
    const auto refused =
        fail(ErrorCode::kUnprocessable,
             fmt::format("the configuration has {} mistakes; nothing was changed", loaded.mistakes.size()));
    co_return error_response(refused.error(), context.wire, extras);
  }
  node::PolicyChange change{
      .by = context.caller.actor(), .reason = std::move(reason), .rolled_back_to = rolled_back_to};
  auto applying = context.node().apply(loaded.policy, std::move(change));
  const auto version = co_await std::move(applying);
  if (!version) co_return std::unexpected(version.error());
  co_return json_response(200, policy_json(*version, loaded.policy->hash, {}));
}

}  // namespace turnpike::api

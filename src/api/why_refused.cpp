// GET /api/requests/{id}/why: why a request was refused, in words and in fields.
#include "api/why_refused.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "api/handlers.h"
#include "api/render.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kHoldersNamed = 3;  // in the words; the fields have them all

bool is_rate(const LimitReached& limit) {
  return limit.meter.ends_with("_per_second") || limit.meter.ends_with("_per_minute");
}

// "5 blog in this period", "3.79 USD in this period", "2 calls at once"; a rate's limit is what may come at
// once.
std::string allowance(const LimitReached& limit) {
  if (limit.meter == "concurrent_calls") return limit.limit + " calls at once";
  if (limit.meter == "cost_usd") return limit.limit + " USD in this period";
  if (is_rate(limit)) return fmt::format("bursts of {} ({})", limit.limit, limit.meter);
  std::string of = limit.meter;
  std::ranges::replace(of, '_', ' ');
  return fmt::format("{} {} in this period", limit.limit, of);
}

std::string whose(const node::Refusal& refusal) {
  if (refusal.limit->scope == "account") return "plan " + refusal.plan;
  return refusal.limit->scope == "team" ? "its team" : "the platform";
}

std::string_view is_or_are(const std::string& amount) {
  return amount == "1" ? "is" : "are";
}

std::string named(const std::vector<engine::Holder>& holders) {
  std::string names;
  const std::size_t shown = std::min(holders.size(), kHoldersNamed);
  for (std::size_t i = 0; i < shown; ++i) {
    const std::string_view kind = holders[i].call ? "call " : "";
    names += fmt::format("{}{}{}", i == 0 ? "" : ", ", kind, to_string(holders[i].job));
  }
  const std::size_t more = holders.size() - shown;
  return more == 0 ? names : fmt::format("{} and {} more", names, more);
}

// "4 are used, 1 is held by job_…"
std::string use_words(const node::Refusal& refusal) {
  const LimitReached& limit = *refusal.limit;
  const bool known = refusal.held_by && !refusal.held_by->empty();
  if (limit.meter == "concurrent_calls") {
    return fmt::format("{} {} being answered{}", limit.used, is_or_are(limit.used),
                       known ? fmt::format(" ({})", named(*refusal.held_by)) : "");
  }
  std::string used = fmt::format("{} {} used", limit.used, is_or_are(limit.used));
  if (limit.held == "0") return used;
  // A team's and the platform's are held by others too, whom an account does not see.
  const std::string_view among = limit.scope == "account" ? "" : "work of all its accounts, of this one ";
  const std::string by = known                      ? fmt::format("by {}{}", among, named(*refusal.held_by))
                         : limit.scope == "account" ? std::string("by work that has not ended")
                                                    : std::string("by work of its other accounts");
  return fmt::format("{}, {} {} held {}", used, limit.held, is_or_are(limit.held), by);
}

// The first letter large, a full stop at the end.
std::string sentence(std::string text) {
  if (text.empty()) return text;
  if (text.front() >= 'a' && text.front() <= 'z') text.front() = static_cast<char>(text.front() - 'a' + 'A');
  if (!text.ends_with('.')) text.push_back('.');
  return text;
}

std::string reason(const node::Refusal& refusal) {
  if (refusal.limit == nullptr) return "Refused: " + sentence(refusal.message);
  const LimitReached& limit = *refusal.limit;
  std::string text =
      fmt::format("Refused because {} allows {}; {}", whose(refusal), allowance(limit), use_words(refusal));
  const bool of_a_period = limit.resets_at.has_value();
  if (of_a_period) text += fmt::format(", and this asked for {} more", limit.wanted);
  return text + ".";
}

std::string what_to_do(const node::Refusal& refusal) {
  std::string text;
  if (refusal.limit != nullptr && refusal.limit->resets_at) {
    text += fmt::format(" It resets at {}.", rfc3339(wall_from_seconds(*refusal.limit->resets_at)));
  }
  if (refusal.retry_after) text += fmt::format(" Come back after {} s.", refusal.retry_after->count());
  if (!refusal.upgrade_to.empty()) text += fmt::format(" Plan {} has it, or more of it.", refusal.upgrade_to);
  return text;
}

}  // namespace

std::string refusal_summary(const node::Refusal& refusal) {
  return reason(refusal) + what_to_do(refusal);
}

namespace {

std::string refusal_json(const node::Refusal& refusal) {
  Buffer out;
  const auto member = [&out](std::string_view name, std::string_view text) {
    append(out, name);
    append_quoted_or_null(out, text);
  };
  append(out, "{\"object\":\"why\"");
  member(",\"request\":", refusal.request_id);
  member(",\"account\":", to_string(refusal.account));
  append(out, ",\"at\":");
  append_time(out, refusal.at);
  member(",\"method\":", refusal.method);
  member(",\"path\":", refusal.path);
  member(",\"task\":", refusal.task);
  member(",\"model\":", refusal.model);
  member(",\"plan\":", refusal.plan);
  member(",\"code\":", error_code_name(refusal.code));
  member(",\"message\":", refusal.message);
  member(",\"summary\":", refusal_summary(refusal));
  fmt::format_to(fmt::appender(out), ",\"retry_after_s\":{}",
                 refusal.retry_after ? fmt::to_string(refusal.retry_after->count()) : std::string("null"));
  member(",\"upgrade_to\":", refusal.upgrade_to);
  append(out, ",\"limit\":");
  if (refusal.limit == nullptr) {
    append(out, "null");
  } else {
    append_limit_reached(out, *refusal.limit, refusal.held_by ? &*refusal.held_by : nullptr);
  }
  out.push_back('}');
  return to_text(out);
}

}  // namespace

Handled explain_refusal(Context& context) {
  const auto refusal = context.node().refusal(context.id, context.scope());
  if (refusal == nullptr) {
    co_return fail(
        ErrorCode::kNotFound,
        "no refusal of this request is known: refusals are kept for a day, the last ten thousand of "
        "them, and a restart forgets them",
        "id");
  }
  co_return json_response(200, refusal_json(*refusal));
}

}  // namespace turnpike::api

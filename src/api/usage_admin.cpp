// What was used and what it cost, from the rollups: by day, plan, account, model, provider and task; as JSON
// and as CSV.
#include <algorithm>
#include <array>
#include <utility>

#include "api/handlers.h"
#include "api/render.h"

namespace turnpike::api {
namespace {

using journal::UsageQuery;

constexpr std::size_t kRowsMax = 10'000;
constexpr std::int64_t kTimeMax = 16'725'225'600;  // 2500-01-01

// What `by` may name, and where it stands in the query.
struct Key {
  std::string_view name;
  bool UsageQuery::* apart;
};
constexpr std::array kKeys{Key{"time", &UsageQuery::by_time},   Key{"account", &UsageQuery::by_account},
                           Key{"plan", &UsageQuery::by_plan},   Key{"task", &UsageQuery::by_task},
                           Key{"model", &UsageQuery::by_model}, Key{"provider", &UsageQuery::by_provider}};

Result<Wall> time_of(const Context& context, std::string_view name, Wall otherwise) {
  const auto text = context.request.query_value(name);
  if (!text) return otherwise;
  std::int64_t seconds = 0;
  const bool digits = !text->empty() && text->size() <= 12 &&
                      std::ranges::all_of(*text, [](char c) { return c >= '0' && c <= '9'; });
  if (digits) seconds = std::stoll(std::string(*text));
  if (!digits || seconds > kTimeMax) {
    return fail(ErrorCode::kInvalidRequest, fmt::format("`{}` must be a time in Unix seconds", name),
                std::string(name));
  }
  return wall_from_seconds(seconds);
}

Result<void> read_keys(std::string_view by, UsageQuery& query) {
  query.by_time = false;
  while (!by.empty()) {
    const auto comma = by.find(',');
    std::string_view name = by.substr(0, comma);
    if (name == "day" || name == "hour") name = "time";
    if (name == "tier") name = "plan";
    const auto key = std::ranges::find(kKeys, name, &Key::name);
    if (key == kKeys.end()) {
      return fail(ErrorCode::kInvalidRequest,
                  "`by` must be a list of time, account, plan, task, model and provider, separated by commas",
                  "by");
    }
    query.*(key->apart) = true;
    by = comma == std::string_view::npos ? std::string_view() : by.substr(comma + 1);
  }
  return {};
}

Result<UsageQuery> read_query(const Context& context, std::string_view by_default) {
  UsageQuery query;
  for (const auto& [name, value] : context.request.query) {
    constexpr std::array<std::string_view, 7> kKnown{"from", "to", "grain", "by", "user", "format", "limit"};
    if (std::ranges::find(kKnown, name) == kKnown.end()) {
      return fail(
          ErrorCode::kInvalidRequest,
          fmt::format("`{}` is not known here: there are from, to, grain, by, user, format and limit", name),
          name);
    }
  }
  const auto grain = context.request.query_value("grain").value_or("day");
  if (grain != "day" && grain != "hour")
    return fail(ErrorCode::kInvalidRequest, "`grain` must be day or hour", "grain");
  query.grain = grain == "hour" ? UsageQuery::Grain::kHour : UsageQuery::Grain::kDay;
  const auto to = time_of(context, "to", context.now + std::chrono::seconds(1));
  if (!to) return std::unexpected(to.error());
  const auto from =
      time_of(context, "from", std::chrono::floor<std::chrono::days>(*to - std::chrono::hours(24 * 30)));
  if (!from) return std::unexpected(from.error());
  if (*from >= *to) return fail(ErrorCode::kInvalidRequest, "`from` must be before `to`", "from");
  query.from = *from;
  query.to = *to;
  if (auto keys = read_keys(context.request.query_value("by").value_or(by_default), query); !keys)
    return std::unexpected(keys.error());
  if (const auto user = context.request.query_value("user")) {
    const auto account = context.node().account_by_user(*user);
    if (!account) return fail(ErrorCode::kNotFound, "there is no account of this user", "user");
    query.account = account->id;
  }
  query.limit = kRowsMax;
  return query;
}

std::string user_of(const Context& context, AccountId id) {
  const auto account = context.node().account(id);
  return account ? account->user_id : std::string();
}

void append_row(Buffer& out, const Context& context, const UsageQuery& query, const journal::UsageRow& row,
                bool meters) {
  append(out, "{");
  bool first = true;
  const auto member = [&](std::string_view name) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_quoted(out, name);
    out.push_back(':');
  };
  const auto text = [&](bool apart, std::string_view name, std::string_view value) {
    if (!apart) return;
    member(name);
    append_quoted(out, value);
  };
  if (query.by_time) {
    member("at");
    append_time(out, row.at);
  }
  if (query.by_account) {
    text(true, "account", to_string(row.account));
    text(true, "user_id", user_of(context, row.account));
  }
  text(query.by_plan, "plan", row.plan);
  text(query.by_task, "task", row.task);
  text(query.by_model, "model", row.model);
  text(query.by_provider, "provider", row.provider);
  text(true, "cost_usd", to_string(row.cost));
  member("completed");
  fmt::format_to(fmt::appender(out), "{}", row.completed);
  member("failed");
  fmt::format_to(fmt::appender(out), "{}", row.failed);
  if (meters) {
    for (const policy::MeterName& name : policy::meter_names()) {
      member(name.name);
      append(out, policy::show_amount(name.meter, row.meters[name.meter]));
    }
  }
  out.push_back('}');
}

// RFC 4180; what a spreadsheet would take for a formula begins with an apostrophe.
void append_cell(std::string& out, std::string_view text) {
  const bool formula =
      !text.empty() && std::string_view("=+-@\t\r").find(text.front()) != std::string_view::npos;
  if (!formula && text.find_first_of(",\"\r\n") == std::string_view::npos) {
    out += text;
    return;
  }
  out += '"';
  if (formula) out += '\'';
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  out += '"';
}

std::string csv(const Context& context, const UsageQuery& query, const journal::UsageReport& report,
                bool meters) {
  std::string out;
  const auto line = [&](auto cells) {
    bool first = true;
    cells([&](std::string_view text) {
      if (!std::exchange(first, false)) out += ',';
      append_cell(out, text);
    });
    out += "\r\n";
  };
  line([&](auto cell) {
    if (query.by_time) cell("at");
    if (query.by_account) {
      cell("account");
      cell("user_id");
    }
    for (const Key& key : kKeys) {
      if (key.name != "time" && key.name != "account" && query.*(key.apart)) cell(key.name);
    }
    for (const char* name : {"cost_usd", "completed", "failed"}) cell(name);
    if (!meters) return;
    for (const policy::MeterName& name : policy::meter_names()) cell(name.name);
  });
  for (const journal::UsageRow& row : report.rows) {
    line([&](auto cell) {
      if (query.by_time) cell(rfc3339(row.at));
      if (query.by_account) {
        cell(to_string(row.account));
        cell(user_of(context, row.account));
      }
      if (query.by_plan) cell(row.plan);
      if (query.by_task) cell(row.task);
      if (query.by_model) cell(row.model);
      if (query.by_provider) cell(row.provider);
      cell(to_string(row.cost));
      cell(fmt::to_string(row.completed));
      cell(fmt::to_string(row.failed));
      if (!meters) return;
      for (const policy::MeterName& name : policy::meter_names())
        cell(policy::show_amount(name.meter, row.meters[name.meter]));
    });
  }
  return out;
}

boost::asio::awaitable<Reply> report(Context& context, std::string_view object, std::string_view by_default,
                                     bool meters) {
  const auto query = read_query(context, by_default);
  if (!query) co_return std::unexpected(query.error());
  const auto format = context.request.query_value("format").value_or("json");
  if (format != "json" && format != "csv")
    co_return fail(ErrorCode::kInvalidRequest, "`format` must be json or csv", "format");
  auto catching_up = context.node().catch_up();
  if (const auto caught_up = co_await std::move(catching_up); !caught_up)
    co_return std::unexpected(caught_up.error());
  Result<journal::UsageReport> found;
  std::function<void(journal::Journal&)> question = [&found, &query](auto& journal) {
    found = journal.usage(*query);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  if (!found) co_return std::unexpected(found.error());
  if (format == "csv") {
    net::Response response;
    response.body = csv(context, *query, *found, meters);
    response.content_type = "text/csv; charset=utf-8";
    co_return response;
  }
  Buffer out;
  append(out, "{\"object\":");
  append_quoted(out, object);
  fmt::format_to(fmt::appender(out), ",\"from\":{},\"to\":{},\"data\":[", unix_seconds(query->from),
                 unix_seconds(query->to));
  for (std::size_t i = 0; i < found->rows.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_row(out, context, *query, found->rows[i], meters);
  }
  fmt::format_to(fmt::appender(out), "],\"truncated\":{}}}", found->truncated);
  co_return json_response(200, out);
}

}  // namespace

Handled admin_usage(Context& context) {
  auto reporting = report(context, "usage_report", "time,plan", true);
  co_return co_await std::move(reporting);
}

Handled admin_costs(Context& context) {
  auto reporting = report(context, "cost_report", "time,plan,model,provider", false);
  co_return co_await std::move(reporting);
}

}  // namespace turnpike::api

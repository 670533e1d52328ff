// The configurations that were in force: list, show, compare, go back; and the audit.
#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/policy_json.h"
#include "api/render.h"
#include "policy/diff.h"
#include "policy/load.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kReasonMax = 1000;

void append_version(Buffer& out, const journal::PolicyVersionRow& row, bool with_text) {
  fmt::format_to(fmt::appender(out), "{{\"object\":\"policy_version\",\"version\":{},\"hash\":", row.version);
  append_quoted(out, row.hash);
  append(out, ",\"applied_at\":");
  append_time(out, row.applied_at);
  append(out, ",\"applied_by\":");
  append_quoted(out, row.applied_by);
  append(out, ",\"reason\":");
  append_quoted_or_null(out, row.reason);
  fmt::format_to(fmt::appender(out), ",\"price_version\":{}",
                 row.price_version == 0 ? row.version : row.price_version);
  if (with_text) {
    append(out, ",\"text\":");
    append_quoted(out, row.text);
  }
  out.push_back('}');
}

// 0: not a number of that kind.
std::uint64_t positive(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = ec == std::errc() && end == text.data() + text.size();
  return whole && number <= std::numeric_limits<std::int64_t>::max() ? number : 0;
}

boost::asio::awaitable<Result<journal::PolicyVersionRow>> read_version(Context& context,
                                                                       std::uint64_t version) {
  Result<std::optional<journal::PolicyVersionRow>> row;
  std::function<void(journal::Journal&)> question = [&row, version](auto& journal) {
    row = journal.policy_version(version);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  if (!row) co_return std::unexpected(row.error());
  if (!*row) {
    co_return fail(ErrorCode::kNotFound, fmt::format("there is no version {} of the configuration", version));
  }
  co_return **std::move(row);
}

boost::asio::awaitable<Result<journal::PolicyVersionRow>> read_named(Context& context) {
  const std::uint64_t version = positive(context.id);
  if (version == 0) co_return fail(ErrorCode::kNotFound, "versions of the configuration are numbers from 1");
  auto reading = read_version(context, version);
  co_return co_await std::move(reading);
}

void append_hex(Buffer& out, std::string_view bytes) {
  for (const char byte : bytes)
    fmt::format_to(fmt::appender(out), "{:02x}", static_cast<unsigned char>(byte));
}

void append_audit(Buffer& out, const journal::StoredAudit& stored) {
  fmt::format_to(fmt::appender(out), "{{\"object\":\"audit\",\"number\":{},\"at\":", stored.number);
  append_time(out, stored.row.at);
  append(out, ",\"actor\":");
  append_quoted(out, stored.row.actor);
  append(out, ",\"action\":");
  append_quoted(out, stored.row.action);
  append(out, ",\"subject\":");
  append_quoted(out, stored.row.subject);
  append(out, ",\"detail\":");
  append(out, stored.row.detail.empty() ? std::string_view("null") : std::string_view(stored.row.detail));
  append(out, ",\"hash\":\"");
  append_hex(out, stored.hash);
  append(out, "\"}");
}

}  // namespace

Handled list_policy_versions(Context& context) {
  const auto page = page_of(context, "", {});
  if (!page) co_return std::unexpected(page.error());
  Result<std::vector<journal::PolicyVersionRow>> versions;
  std::function<void(journal::Journal&)> question = [&versions](auto& journal) {
    versions = journal.policy_versions();
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  if (!versions) co_return std::unexpected(versions.error());
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  const std::size_t count = std::min(versions->size(), page->limit);
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) out.push_back(',');
    append_version(out, (*versions)[versions->size() - 1 - i], true);  // newest first
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", versions->size() > count);
  co_return json_response(200, out);
}

Handled get_policy_version(Context& context) {
  auto reading = read_named(context);
  const auto row = co_await std::move(reading);
  if (!row) co_return std::unexpected(row.error());
  Buffer out;
  append_version(out, *row, true);
  co_return json_response(200, out);
}

Handled diff_policy_versions(Context& context) {
  auto reading = read_named(context);
  const auto row = co_await std::move(reading);
  if (!row) co_return std::unexpected(row.error());
  std::uint64_t against = row->version - 1;
  if (const auto asked = context.request.query_value("against")) {
    against = positive(*asked);
    if (against == 0) {
      co_return fail(ErrorCode::kInvalidRequest, "`against` must be the number of a version, from 1",
                     "against");
    }
  }
  std::string before;  // of version 0: nothing
  if (against != 0) {
    auto reading_other = read_version(context, against);
    auto other = co_await std::move(reading_other);
    if (!other) co_return std::unexpected(other.error());
    before = std::move(other->text);
  }
  std::string diff;
  std::function<void(journal::Journal&)> question = [&](auto&) {
    diff = policy::unified_diff(before, row->text);
  };
  auto asking = ask_journal(context, std::move(question));  // off the io thread
  if (const auto asked = co_await std::move(asking); !asked) co_return std::unexpected(asked.error());
  Buffer out;
  fmt::format_to(fmt::appender(out),
                 "{{\"object\":\"policy_diff\",\"version\":{},\"against\":", row->version);
  append(out, against == 0 ? "null" : fmt::to_string(against));
  append(out, ",\"diff\":");
  append_quoted(out, diff);
  out.push_back('}');
  co_return json_response(200, out);
}

Handled roll_back_policy(Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  fields.require("version");
  const auto version = fields.integer("version", 1, std::numeric_limits<std::int64_t>::max());
  const auto reason = fields.text("reason", 1, kReasonMax);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  auto reading = read_version(context, static_cast<std::uint64_t>(*version));
  auto row = co_await std::move(reading);
  if (!row) co_return std::unexpected(row.error());
  policy::Loaded loaded;
  std::function<void(journal::Journal&)> question = [&](auto&) {
    loaded = policy::load_text(std::move(row->text), fmt::format("version {}", row->version));
  };
  auto asking = ask_journal(context, std::move(question));
  if (const auto asked = co_await std::move(asking); !asked) co_return std::unexpected(asked.error());
  auto putting = put_in_force(context, std::move(loaded),
                              reason ? fmt::format("roll back to version {}: {}", *version, *reason)
                                     : fmt::format("roll back to version {}", *version),
                              static_cast<std::uint64_t>(*version));
  co_return co_await std::move(putting);
}

Handled list_audit(Context& context) {
  // Rows are numbered, and have no id: the list goes on below a number.
  std::uint64_t before = 0;
  if (const auto after = context.request.query_value("starting_after")) {
    before = positive(*after);
    if (before == 0) {
      co_return fail(ErrorCode::kInvalidRequest, "`starting_after` must be the number of a row",
                     "starting_after");
    }
  }
  std::erase_if(context.request.query, [](const auto& pair) { return pair.first == "starting_after"; });
  const auto page = page_of(context, "", {});
  if (!page) co_return std::unexpected(page.error());
  Result<std::vector<journal::StoredAudit>> rows;
  std::function<void(journal::Journal&)> question = [&](auto& journal) {
    rows = journal.audit(before, page->limit + 1);
  };
  auto asking = ask_journal(context, std::move(question));
  if (const auto asked = co_await std::move(asking); !asked) co_return std::unexpected(asked.error());
  if (!rows) co_return std::unexpected(rows.error());
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  const std::size_t count = std::min(rows->size(), page->limit);
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) out.push_back(',');
    append_audit(out, (*rows)[i]);
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", rows->size() > count);
  co_return json_response(200, out);
}

}  // namespace turnpike::api

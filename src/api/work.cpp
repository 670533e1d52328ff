// Workers claim work, say that they are at it, and report its end.
#include "api/work.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "policy/meters.h"
#include "policy/nearest.h"

namespace turnpike::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kProvidersMax = 32;
constexpr std::size_t kNameMax = 64;
constexpr std::int64_t kTriesMax = 1'000;  // of one claim; plans allow no more (limits.dispatch_batch)
constexpr std::int64_t kWaitMax = 60;      // seconds
constexpr std::int64_t kWaitDefault = 20;
constexpr std::size_t kProgressTextMax = 200;
constexpr std::size_t kFailureTextMax = 500;
constexpr double kRetryAfterMax = 3'600;
constexpr std::int64_t kUsageMax = 1'000'000'000'000'000;  // of one meter, by one try

double seconds_of(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// --- Claims

std::vector<std::string> pull_providers(const policy::Policy& policy) {
  std::vector<std::string> names;
  for (const auto& [name, provider] : policy.providers) {
    if (provider.kind == policy::ProviderKind::kPull) names.push_back(name);
  }
  return names;
}

// Which it takes; all that there are, where it does not say.
std::vector<std::string> read_providers(const Context& context, Fields& fields) {
  std::vector<std::string> known = pull_providers(*context.policy);
  const json::array* asked = fields.array("providers", 1, kProvidersMax);
  if (asked == nullptr) {
    if (known.empty())
      fields.mistake("providers", "no provider of kind `pull` is configured: nothing to claim");
    return known;
  }
  std::vector<std::string> names;
  for (const json::value& each : *asked) {
    const auto* text = each.if_string();
    const std::string name = text != nullptr ? std::string(*text).substr(0, kNameMax) : std::string();
    if (text == nullptr) {
      fields.mistake("providers", "`providers` must hold names of providers of kind `pull`");
    } else if (std::ranges::find(known, name) == known.end()) {
      fields.mistake("providers", fmt::format("`providers`: {} is no provider of kind `pull`: {}",
                                              quote(name), policy::suggestion(name, known)));
    } else if (std::ranges::find(names, name) != names.end()) {
      fields.mistake("providers", fmt::format("`providers` names {} twice", quote(name)));
    } else {
      names.push_back(name);
    }
  }
  return names;
}

struct ClaimAsked {
  node::ClaimRequest request;
  Duration wait{};
};

Result<ClaimAsked> read_claim(const Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  ClaimAsked asked;
  asked.request.providers = read_providers(context, fields);
  asked.request.most = static_cast<std::uint32_t>(fields.integer("max", 1, kTriesMax).value_or(kTriesMax));
  asked.wait = std::chrono::seconds(fields.integer("wait_s", 0, kWaitMax).value_or(kWaitDefault));
  fields.finish();
  if (mistakes.any()) return std::unexpected(mistakes.error());
  if (!context.user.empty()) {
    return fail(
        ErrorCode::kInvalidRequest,
        "a claim takes work of whom its key is for: leave the user out, or use a worker's key that is "
        "made for one account",
        "Turnpike-Account");
  }
  // Replayed, one claim would be work for two.
  if (context.idempotency) {
    return fail(ErrorCode::kInvalidRequest, "a claim is not replayed: leave `Idempotency-Key` out",
                "Idempotency-Key");
  }
  asked.request.account = context.caller.account;
  asked.request.worker = worker_of(context.caller);
  return asked;
}

void append_work(Buffer& out, const provider::Work& work) {
  const std::string id = to_string(work.id);
  fmt::format_to(fmt::appender(out), R"({{"object":"work","id":"{}","job":"{}","provider":)", id,
                 to_string(work.job));
  append_quoted(out, work.provider);
  append(out, ",\"task\":");
  append_quoted(out, work.task);
  append(out, ",\"model\":");
  append_quoted_or_null(out, work.model);
  append(out, ",\"input\":");
  append(out, work.input);
  fmt::format_to(fmt::appender(out), ",\"max_output_tokens\":{},\"files\":[",
                 work.max_output_tokens > 0 ? fmt::to_string(work.max_output_tokens) : "null");
  for (std::size_t i = 0; i < work.files.size(); ++i) {
    if (i > 0) out.push_back(',');
    append(out, "{\"field\":");
    append_quoted(out, work.files[i].field);
    if (work.files[i].place) fmt::format_to(fmt::appender(out), ",\"item\":{}", *work.files[i].place);
    fmt::format_to(fmt::appender(out), R"(,"url":"/api/work/{}/input?file={}","mime":)", id, i);
    append_quoted(out, work.files[i].mime);
    out.push_back('}');
  }
  fmt::format_to(fmt::appender(out), "],\"lease_s\":{},\"timeout_s\":{}}}", seconds_of(work.lease),
                 seconds_of(work.timeout));
}

std::string works_json(const std::vector<provider::Work>& works) {
  Buffer out;
  append(out, R"({"object":"list","data":[)");
  for (std::size_t i = 0; i < works.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_work(out, works[i]);
  }
  append(out, R"(],"has_more":false})");
  return to_text(out);
}

// What reaches nobody goes back to the queue at once; what is lost on its way, when its lease runs out.
boost::asio::awaitable<void> hand_over(std::shared_ptr<node::WorkClaim> claim, provider::WorkDesk* desk,
                                       Duration wait, std::shared_ptr<net::BodyWriter> writer) {
  writer->on_close([claim] { claim->leave(); });
  auto waiting = claim->wait(wait);
  const auto works = co_await std::move(waiting);
  std::string text = works_json(works);
  auto writing = writer->write(std::move(text));
  const auto written = co_await std::move(writing);
  writer->on_close({});
  if (written) co_return;
  for (const provider::Work& work : works) desk->give_back(work.id);
}

// --- Reports

std::string beat_json(TryId id, const provider::WorkDesk::Beat& beat) {
  return fmt::format(R"({{"object":"work","id":"{}","cancelled":{},"lease_s":{}}})", to_string(id),
                     beat.cancelled, beat.cancelled ? "null" : fmt::to_string(seconds_of(beat.lease)));
}

Reply beaten(TryId id, const Result<provider::WorkDesk::Beat>& beat) {
  if (!beat) return std::unexpected(beat.error());
  return json_response(200, beat_json(id, *beat));
}

using Usage = std::vector<std::pair<std::string, std::int64_t>>;

Usage read_usage(Fields& fields, Mistakes& mistakes) {
  Usage usage;
  const json::object* told = fields.object("usage");
  if (told == nullptr) return usage;
  std::vector<std::string> known;
  for (const auto& meter : policy::meter_names()) {
    if (meter.usage != nullptr) known.emplace_back(meter.usage);
  }
  Fields meters(*told, "usage.", mistakes);
  for (const std::string& name : known) {
    if (const auto amount = meters.integer(name, 0, kUsageMax)) usage.emplace_back(name, *amount);
  }
  meters.finish();
  return usage;
}

boost::asio::awaitable<Reply> report(Context& context, TryId id, provider::WorkReport what) {
  auto reporting = context.node().report_work(id, worker_of(context.caller), std::move(what));
  const auto reported = co_await std::move(reporting);
  if (!reported) co_return std::unexpected(reported.error());
  co_return json_response(200,
                          fmt::format(R"({{"object":"work","id":"{}","accepted":true}})", to_string(id)));
}

std::optional<policy::FailureClass> class_named(std::string_view name) {
  for (std::size_t i = 0; i < policy::kFailureClassCount; ++i) {
    const auto each = static_cast<policy::FailureClass>(i);
    if (name == policy::failure_class_name(each)) return each;
  }
  return std::nullopt;
}

std::vector<std::string_view> class_names() {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < policy::kFailureClassCount; ++i)
    names.emplace_back(policy::failure_class_name(static_cast<policy::FailureClass>(i)));
  return names;
}

Result<provider::Failure> read_failure(const Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  provider::Failure failure;
  fields.require("message");
  failure.message = fields.text("message", 1, kFailureTextMax).value_or("");
  if (const auto word = fields.word("class", class_names())) failure.failure = *class_named(*word);
  if (const auto after = fields.number("retry_after", 0, kRetryAfterMax))
    failure.retry_after = Duration{static_cast<std::int64_t>(*after * 1e6)};
  failure.billed = read_usage(fields, mistakes);
  fields.finish();
  if (mistakes.any()) return std::unexpected(mistakes.error());
  return failure;
}

Result<provider::Success> read_success(const Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  provider::Success success;
  if (const auto* output = fields.object("output")) success.output = json::serialize(*output);
  success.usage = read_usage(fields, mistakes);
  fields.finish();
  if (mistakes.any()) return std::unexpected(mistakes.error());
  return success;
}

}  // namespace

provider::Worker worker_of(const Caller& caller) {
  return {.key = caller.key, .admin = caller.role == journal::Role::kAdmin};
}

Result<TryId> try_of(const Context& context) {
  const auto id = parse_id<TryTag>(context.id);
  if (!id)
    return fail(ErrorCode::kNotFound, "there is no such work: its id is that of a claim's answer (try_…)",
                "try");
  return *id;
}

Result<void> check_query(const Context& context, std::string_view known) {
  for (const auto& [name, value] : context.request.query) {
    if (name == known) continue;
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("unknown parameter {}: this takes `{}`", quote(name.substr(0, kNameMax)), known),
                name.substr(0, kNameMax));
  }
  return {};
}

Handled claim_work(Context& context) {
  auto asked = read_claim(context);
  if (!asked) co_return std::unexpected(std::move(asked.error()));
  const auto executor = co_await boost::asio::this_coro::executor;
  auto claim = context.node().claim(std::move(asked->request), executor);
  if (!claim) co_return std::unexpected(std::move(claim.error()));
  net::Response response;
  response.headers.emplace_back("Cache-Control", "no-store");
  response.body = net::StreamBody([claim = *std::move(claim), desk = &context.node().desk(),
                                   wait = asked->wait](std::shared_ptr<net::BodyWriter> writer) {
    return hand_over(claim, desk, wait, std::move(writer));
  });
  co_return response;
}

Handled beat_work(Context& context) {
  const auto id = try_of(context);
  if (!id) co_return std::unexpected(id.error());
  Mistakes mistakes;
  Fields(context.fields(), "", mistakes).finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  co_return beaten(*id, context.node().desk().heartbeat(*id, worker_of(context.caller)));
}

Handled progress_work(Context& context) {
  const auto id = try_of(context);
  if (!id) co_return std::unexpected(id.error());
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  fields.require("percent");
  const auto percent = static_cast<int>(fields.integer("percent", 0, 100).value_or(0));
  std::string message(fields.text("message", 0, kProgressTextMax).value_or(""));
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  co_return beaten(
      *id, context.node().desk().progress(*id, worker_of(context.caller), percent, std::move(message)));
}

Handled complete_work(Context& context) {
  const auto id = try_of(context);
  if (!id) co_return std::unexpected(id.error());
  auto success = read_success(context);
  if (!success) co_return std::unexpected(std::move(success.error()));
  provider::WorkReport what(*std::move(success));
  auto reporting = report(context, *id, std::move(what));
  co_return co_await std::move(reporting);
}

Handled fail_work(Context& context) {
  const auto id = try_of(context);
  if (!id) co_return std::unexpected(id.error());
  auto failure = read_failure(context);
  if (!failure) co_return std::unexpected(std::move(failure.error()));
  provider::WorkReport what(*std::move(failure));
  auto reporting = report(context, *id, std::move(what));
  co_return co_await std::move(reporting);
}

}  // namespace turnpike::api

// What was found in providers' lists, and how the reading of them does.
#include <algorithm>
#include <charconv>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/render.h"
#include "policy/discovered.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kNameMax = 128;

// What a list of discoveries is narrowed to.
struct Wanted {
  std::optional<std::string> provider;
  std::optional<policy::DiscoveryKind> kind;
  std::optional<bool> matched;  // whether it is a version of one of our models
};

Result<Wanted> wanted_in(const Context& context) {
  Wanted wanted;
  if (const auto provider = context.request.query_value("provider")) wanted.provider = std::string(*provider);
  if (const auto kind = context.request.query_value("kind")) {
    if (*kind == "model") wanted.kind = policy::DiscoveryKind::kModel;
    if (*kind == "voice") wanted.kind = policy::DiscoveryKind::kVoice;
    if (!wanted.kind) return fail(ErrorCode::kInvalidRequest, "`kind` must be model or voice", "kind");
  }
  if (const auto matched = context.request.query_value("matched")) {
    if (*matched != "true" && *matched != "false")
      return fail(ErrorCode::kInvalidRequest, "`matched` must be true or false", "matched");
    wanted.matched = *matched == "true";
  }
  return wanted;
}

// The number that the list goes on below; 0: from the newest.
Result<std::uint64_t> before_in(Context& context) {
  const auto after = context.request.query_value("starting_after");
  if (!after) return 0;
  std::uint64_t number = 0;
  const auto [end, ec] = std::from_chars(after->data(), after->data() + after->size(), number);
  if (ec != std::errc() || end != after->data() + after->size() || number == 0) {
    return fail(ErrorCode::kInvalidRequest, "`starting_after` must be the number of a discovery",
                "starting_after");
  }
  std::erase_if(context.request.query, [](const auto& pair) { return pair.first == "starting_after"; });
  return number;
}

void append_discovery(Buffer& out, const Context& context, const policy::Overlay& overlay,
                      std::uint64_t number, const policy::Discovery& found,
                      const std::optional<policy::Place>& place) {
  fmt::format_to(fmt::appender(out), "{{\"object\":\"discovery\",\"number\":{},\"provider\":", number);
  append_quoted(out, found.provider);
  append(out, ",\"kind\":");
  append_quoted(out, policy::discovery_kind_name(found.kind));
  append(out, ",\"id\":");
  append_quoted(out, found.id);
  append(out, ",\"name\":");
  append_quoted_or_null(out, found.name);
  append(out, ",\"released\":");
  append_quoted_or_null(
      out, found.released ? rfc3339(Wall(found.released->time_since_epoch())).substr(0, 10) : std::string());
  append(out, ",\"found_at\":");
  append_time(out, found.found_at);
  append(out, ",\"model\":");
  append_quoted_or_null(out, place ? place->model : std::string());
  append(out, ",\"version\":");
  append_quoted_or_null(out, place ? place->version : std::string());
  append(out, ",\"status\":");
  policy::VersionStatus status = policy::VersionStatus::kDiscovered;
  if (place) {
    const policy::Model& model = context.policy->models.find(place->model)->second;
    status = overlay.status_of(model, *model.version(place->version));
  }
  append_quoted(out, policy::version_status_name(status));
  out.push_back('}');
}

void append_watch(Buffer& out, const policy::ListWatch& watch, const node::WatchState& state) {
  append(out, "{\"object\":\"watch\",\"provider\":");
  append_quoted(out, state.provider);
  append(out, ",\"list\":");
  append_quoted(out, policy::list_kind_name(watch.list));
  append(out, ",\"url\":");
  append_quoted(out, watch.url);
  fmt::format_to(fmt::appender(out), ",\"every_seconds\":{},\"looked_at\":",
                 std::chrono::duration_cast<std::chrono::seconds>(watch.every).count());
  append_time(out, state.looked_at);
  append(out, ",\"read_at\":");
  append_time(out, state.read_at);
  append(out, ",\"error\":");
  append_quoted_or_null(out, state.error);
  fmt::format_to(fmt::appender(out),
                 ",\"entries\":{},\"left_out\":{},\"looks\":{},\"failed\":{},\"discovered\":{}}}",
                 state.entries, state.left_out, state.looks, state.failed, state.found);
}

Reply watches_reply(Context& context, std::string_view provider) {
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  bool first = true;
  for (const node::WatchState& state : context.node().watches()) {
    const auto found = context.policy->providers.find(state.provider);
    if (found == context.policy->providers.end() || !found->second.watch) continue;
    if (!provider.empty() && provider != state.provider) continue;
    if (!std::exchange(first, false)) out.push_back(',');
    append_watch(out, *found->second.watch, state);
  }
  append(out, "],\"has_more\":false}");
  return json_response(200, out);
}

}  // namespace

Handled list_discoveries(Context& context) {
  const auto before = before_in(context);
  if (!before) co_return std::unexpected(before.error());
  const auto wanted = wanted_in(context);
  if (!wanted) co_return std::unexpected(wanted.error());
  const auto page = page_of(context, "", {"provider", "kind", "matched"});
  if (!page) co_return std::unexpected(page.error());
  const policy::OverlayPtr overlay = context.node().overlay();
  const std::vector<policy::Discovery> all = context.node().discoveries();
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  std::size_t shown = 0;
  bool more = false;
  for (std::size_t number = *before == 0 ? all.size() : std::min<std::size_t>(all.size(), *before - 1);
       number > 0 && !more; --number) {
    const policy::Discovery& found = all[number - 1];
    if (found.kind == policy::DiscoveryKind::kList) continue;
    if (wanted->provider && *wanted->provider != found.provider) continue;
    if (wanted->kind && *wanted->kind != found.kind) continue;
    const auto place = policy::place_of(*context.policy, found);
    if (wanted->matched && *wanted->matched != place.has_value()) continue;
    more = shown == page->limit;
    if (more) break;
    if (shown++ > 0) out.push_back(',');
    append_discovery(out, context, *overlay, number, found, place);
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", more);
  co_return json_response(200, out);
}

Handled list_watches(Context& context) {
  co_return watches_reply(context, "");
}

Handled look_at_lists(Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const std::string provider(fields.text("provider", 1, kNameMax).value_or(""));
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  auto looking = context.node().look(provider);
  const auto looked = co_await std::move(looking);
  if (!looked) co_return std::unexpected(looked.error());
  co_return watches_reply(context, provider);
}

}  // namespace turnpike::api

// Events over a WebSocket: the client says what it wants to be told of, and is told as by the streams.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "api/event_feed.h"
#include "api/handlers.h"
#include "api/origin.h"
#include "api/refuse.h"
#include "api/socket_message.h"
#include "net/websocket.h"

namespace turnpike::api {
namespace {

using Subjects = std::vector<EventFeed::Subject>;

constexpr std::chrono::minutes kWaitMax{1};  // then it waits again
constexpr int kUpgradeRequired = 426;

struct Live {
  Live(node::Node& node, std::optional<AccountId> scope) : feed(std::make_shared<EventFeed>(node, scope)) {}

  const std::shared_ptr<EventFeed> feed;
  Subjects subjects;  // that it is told of, in the order they were asked for
  std::uint32_t subjects_max = 0;
  std::shared_ptr<const void> place;
};

// What is in force after a message, and from where on.
std::string subscription_json(const Live& live) {
  Buffer out;
  append(out, "{\"object\":\"subscription\",\"subjects\":[");
  for (std::size_t i = 0; i < live.subjects.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_quoted(out, subject_name(live.subjects[i]));
  }
  append(out, "],\"last_event_id\":");
  append_quoted_or_null(out, live.subjects.empty() ? std::string() : to_string(live.feed->last_id()));
  out.push_back('}');
  return to_text(out);
}

// Errors: kConflict (`after` beside what is told already), kLimitExceeded, and those of the jobs.
boost::asio::awaitable<Result<std::vector<Told>>> subscribe(Live& live, SocketMessage message) {
  if (message.after && !live.subjects.empty()) {
    co_return fail(
        ErrorCode::kConflict,
        "`after` may be given only while nothing is subscribed: unsubscribe, or open another socket",
        "after");
  }
  Subjects fresh;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < message.subjects.size(); ++i) {
    if (std::ranges::find(live.subjects, message.subjects[i]) != live.subjects.end()) continue;
    fresh.push_back(message.subjects[i]);
    places.push_back(message.places[i]);
  }
  if (live.subjects.size() + fresh.size() > live.subjects_max) {
    co_return fail(
        ErrorCode::kLimitExceeded,
        fmt::format("a socket may have {} subscriptions and this one has {}: unsubscribe from what has ended",
                    live.subjects_max, live.subjects.size()),
        "subscribe");
  }
  if (fresh.empty()) co_return std::vector<Told>{};
  auto following = live.feed->follow(fresh, message.after);
  auto followed = co_await std::move(following);
  if (!followed) {
    Error error = std::move(followed.error().error);
    error.param = fmt::format("subscribe[{}]", places[followed.error().index]);
    co_return std::unexpected(std::move(error));
  }
  live.subjects.insert(live.subjects.end(), fresh.begin(), fresh.end());
  co_return std::move(followed->states);
}

void unsubscribe(Live& live, const Subjects& subjects) {
  live.feed->leave(subjects);
  std::erase_if(live.subjects, [&subjects](const EventFeed::Subject& subject) {
    return std::ranges::find(subjects, subject) != subjects.end();
  });
}

// What a client's message is answered with.
boost::asio::awaitable<std::vector<std::string>> answer(Live& live, std::string text) {
  std::vector<std::string> out;
  auto message = read_socket_message(text, live.subjects_max);
  if (!message) {
    out.push_back(error_text(message.error()));
    co_return out;
  }
  if (message->what == SocketMessage::What::kUnsubscribe) {
    unsubscribe(live, message->subjects);
    out.push_back(subscription_json(live));
    co_return out;
  }
  auto subscribing = subscribe(live, *std::move(message));
  auto states = co_await std::move(subscribing);
  if (!states) {
    out.push_back(error_text(states.error()));
    co_return out;
  }
  out.push_back(subscription_json(live));
  for (Told& told : *states) out.push_back(std::move(told.json));
  co_return out;
}

std::string lagged_text(const std::string& resume_after) {
  const auto error = fail(ErrorCode::kUnavailable,
                          "you read more slowly than events come: open another socket and subscribe with "
                          "`after` as `resume_after` says");
  return error_text(error.error(), ",\"resume_after\":" + quote(resume_after));
}

// The next events, or nothing where something else has happened. Closes the socket where they end.
boost::asio::awaitable<std::vector<std::string>> news(Live& live, net::WebSocket& socket, bool& over) {
  auto waiting = live.feed->next(kWaitMax);
  auto come = co_await std::move(waiting);
  std::vector<std::string> out;
  if (come.closed) {
    socket.close(net::CloseCode::kGoingAway, "the server is stopping");
    co_return out;
  }
  for (Told& told : come.told) out.push_back(std::move(told.json));
  if (come.lagged) {
    over = true;
    out.push_back(lagged_text(to_string(live.feed->last_id())));
  }
  co_return out;
}

boost::asio::awaitable<void> run_socket(std::shared_ptr<Live> live, std::shared_ptr<net::WebSocket> socket) {
  socket->on_change([feed = live->feed] { feed->interrupt(); });
  bool over = false;
  while (!over && !socket->closed()) {
    auto text = socket->receive();
    auto making = text ? answer(*live, *std::move(text)) : news(*live, *socket, over);
    auto texts = co_await std::move(making);
    if (texts.empty()) continue;
    auto sending = socket->send(std::move(texts));
    const auto sent = co_await std::move(sending);
    if (!sent) break;
  }
  if (over) {
    socket->close(net::CloseCode::kTryAgainLater, "resume after " + to_string(live->feed->last_id()));
  }
  socket->on_change({});
  live->feed->close();
}

Result<void> check_query(const net::Request& request) {
  for (const auto& [name, value] : request.query) {
    if (name == "ticket") continue;
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("unknown query parameter `{}`: what to be told of is said in a message, "
                            "{{\"subscribe\":[…]}}",
                            name.substr(0, 64)),
                name.substr(0, 64));
  }
  return {};
}

Result<void> check_origin(const Context& context) {
  const std::string* origin = context.request.header("Origin");
  if (origin == nullptr) return {};  // no browser
  const std::string* host = context.request.header("Host");
  if (origin_allowed(*origin, host != nullptr ? *host : "", context.policy->server.origins)) return {};
  return fail(ErrorCode::kForbidden,
              "pages of this origin may not open a WebSocket here: server.origins of the configuration names "
              "those that may",
              "Origin");
}

}  // namespace

Handled open_socket(Context& context) {
  auto upgrade = net::accept_websocket(context.request, {});
  if (!upgrade) {
    ErrorExtras extras{.fields = note_refusal(context, upgrade.error(), {}),
                       .headers = net::upgrade_headers()};
    net::Response response = error_response(upgrade.error(), context.wire, extras);
    response.status = kUpgradeRequired;
    co_return response;
  }
  if (const auto fit = check_query(context.request); !fit) co_return std::unexpected(fit.error());
  if (const auto fit = check_origin(context); !fit) co_return std::unexpected(fit.error());
  const policy::Server& limits = context.policy->server;
  const auto scope = context.scope();
  // A user that is not known yet has nothing to be told of, and no account to count for.
  const auto counted = scope && *scope ? scope : std::nullopt;
  auto place = context.services.sockets.take(counted, limits.sockets_per_account, limits.sockets_max);
  if (!place) {
    context.account = counted;
    co_return std::unexpected(std::move(place.error()));
  }
  auto live = std::make_shared<Live>(context.node(), scope);
  live->subjects_max = limits.socket_subscriptions_max;
  live->place = *std::move(place);
  auto& body = std::get<net::SocketBody>(upgrade->body);
  body.message_bytes_max = limits.socket_message_bytes_max;
  body.run = [live = std::move(live)](std::shared_ptr<net::WebSocket> socket) {
    return run_socket(live, std::move(socket));
  };
  co_return *std::move(upgrade);
}

}  // namespace turnpike::api

#include "cli/control.h"

#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/string.hpp>
#include <exception>
#include <optional>
#include <utility>

namespace turnpike::cli {
namespace {

constexpr std::chrono::seconds kTimeout{30};

}  // namespace

struct Http::State {
  std::string base;
  net::Headers headers;
  boost::asio::io_context context{1};
  std::shared_ptr<net::Client> client = net::Client::create();
};

Http::Http(std::string base, net::Headers headers) : state_(std::make_unique<State>()) {
  state_->base = std::move(base);
  state_->headers = std::move(headers);
}
Http::~Http() = default;

Result<net::ClientResponse> Http::send(std::string_view method, std::string_view path, std::string body,
                                       net::Headers more) {
  net::ClientRequest request;
  request.method = method;
  request.url = state_->base + std::string(path);
  request.headers = state_->headers;
  for (auto& header : more) request.headers.push_back(std::move(header));
  request.body = std::move(body);
  request.timeout = kTimeout;
  std::optional<Result<net::ClientResponse>> answer;
  std::exception_ptr failure;
  boost::asio::co_spawn(state_->context, state_->client->send(std::move(request)),
                        [&](std::exception_ptr error, Result<net::ClientResponse> response) {
                          failure = error;
                          answer = std::move(response);
                        });
  state_->context.restart();
  // Until the answer is there, not until the client's kept connection has nothing left to wait for.
  while (!answer && state_->context.run_one() > 0) {
  }
  if (failure) std::rethrow_exception(failure);
  if (!answer) return fail(ErrorCode::kUpstreamError, "the request did not end");
  return *std::move(answer);
}

Http control_of(const std::filesystem::path& data) {
  const auto socket = std::filesystem::absolute(data) / "control.sock";
  return Http("unix:" + socket.string() + ":");
}

bool server_runs(const std::filesystem::path& data) {
  std::error_code ec;
  if (!std::filesystem::exists(data / "control.sock", ec)) return false;
  Http control = control_of(data);
  return control.send("GET", "/healthz").has_value();
}

std::string error_message(const net::ClientResponse& response) {
  boost::json::error_code ec;
  const auto body = boost::json::parse(response.body, ec);
  const auto* object = ec ? nullptr : body.if_object();
  const auto* error = object != nullptr ? object->if_contains("error") : nullptr;
  const auto* inner = error != nullptr ? error->if_object() : nullptr;
  const auto* message = inner != nullptr ? inner->if_contains("message") : nullptr;
  if (message != nullptr && message->is_string()) return std::string(message->get_string());
  return fmt::format("the server answered with status {}", response.status);
}

std::filesystem::path address_file(const std::filesystem::path& data) {
  return data / "address";
}

}  // namespace turnpike::cli

#include "api/report.h"

#include "api/router.h"
#include "node/log.h"

namespace turnpike::api {
namespace {

std::string_view route_of(const Context& context) {
  return context.route != nullptr ? context.route->pattern : std::string_view("(none)");
}

}  // namespace

void report_bug(const Context& context, std::string_view what) {
  node::log_event(node::LogLevel::kError, "request.bug",
                  {{"request", context.request_id},
                   {"method", context.request.method},
                   {"route", route_of(context)},
                   {"what", what}});
}

void report_failure(const Context& context, const Error& error) {
  // Refusing while it drains is what a server does, and no failure.
  const bool refused = error.code == ErrorCode::kUnavailable;
  node::log_event(refused ? node::LogLevel::kDebug : node::LogLevel::kError, "request.failed",
                  {{"request", context.request_id},
                   {"method", context.request.method},
                   {"route", route_of(context)},
                   {"code", error_code_name(error.code)},
                   {"message", error.message},
                   {"cause", error.cause}});
}

}  // namespace turnpike::api

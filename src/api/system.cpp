// The server about itself: alive, ready, measured, documented.
#include <utility>

#include "api/docs_page.h"
#include "api/handlers.h"
#include "node/trace_export.h"

namespace turnpike::api {

Handled get_health(Context&) {
  co_return json_response(200, std::string("{\"status\":\"alive\"}"));
}

Handled get_ready(Context& context) {
  if (context.node().draining()) {
    co_return fail(ErrorCode::kUnavailable, "the server is draining: it takes no new work");
  }
  if (!context.services.ready.load()) co_return fail(ErrorCode::kUnavailable, "the server is starting");
  co_return json_response(200, std::string("{\"status\":\"ready\"}"));
}

Handled get_metrics(Context& context) {
  Buffer out;
  append(out, context.node().metrics_text());
  append(out, context.services.outbox.metrics_text());
  if (context.services.traces) append(out, context.services.traces->metrics_text());
  context.services.sockets.append_text(out);
  context.services.counts.append_text(out);
  net::Response response = json_response(200, out);
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  co_return response;
}

Handled get_openapi(Context&) {
  net::Response response = json_response(200, std::string(openapi_text()));
  response.content_type = "application/yaml";
  co_return response;
}

Handled get_docs(Context&) {
  static const std::string page = docs_page(openapi_text());
  net::Response response = json_response(200, page);
  response.content_type = "text/html; charset=utf-8";
  response.headers.emplace_back("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
  co_return response;
}

}  // namespace turnpike::api

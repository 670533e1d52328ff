// The HTTP interface over one node: give its three functions to net::Server.
#pragma once

#include <memory>
#include <string_view>

#include "api/context.h"
#include "net/http.h"

namespace turnpike::api {

class Api {
 public:
  // Borrows the first two, which outlive it. `traces` null: nothing is traced.
  Api(node::Node& node, webhook::Outbox& outbox, std::shared_ptr<node::TraceExport> traces = nullptr);
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  net::Handler handler();
  net::BodyRules body_rules();
  static net::ErrorRenderer error_renderer();

  Services& services() { return services_; }

 private:
  Services services_;
};

}  // namespace turnpike::api

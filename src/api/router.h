// The list of what can be asked: one line for each route. Dispatch, 405 and its Allow header, and the
// comparison with api/openapi.yaml all read this table.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "api/context.h"

namespace turnpike::api {

enum class Access : std::uint8_t {
  kPublic,    // anybody
  kMetrics,   // anybody while the server is bound to loopback, else an admin
  kAccount,   // account, service, admin
  kTicket,    // those, or a ticket
  kOperator,  // service, admin
  kWorker,    // worker, admin
  kAdmin,
};

enum class BodyKind : std::uint8_t {
  kNone,    // a body is refused
  kJson,    // an object
  kMaybe,   // an object, or nothing, which is as good as {}
  kYaml,    // handed over as it came
  kUpload,  // spooled to a file
  kWire,    // OpenAI's own: a few fields are read, and the bytes kept (api/wire_fields.h)
};

struct Route {
  std::string_view method;
  std::string_view pattern;  // segments; one of them may be {id} or {name}
  Access access;
  BodyKind body;
  RouteHandler handler;
  // Whoever has no key may look at his own, where an endpoint is public (docs/decisions/0029).
  bool keyless = false;
};

std::span<const Route> routes();
std::size_t route_index(const Route& route);
// An operator's endpoint that names a task or a workflow.
const Route& endpoint_route();

struct Match {
  const Route* route = nullptr;  // null: no such path, or (with `allow`) no such method
  std::string id;
  std::string allow;  // methods of the path, for 405
};
// HEAD is served by GET.
Match match_route(std::string_view method, std::string_view path);

}  // namespace turnpike::api

// The spans of a request that has ended: its own, and below it its wait for room and each try at an upstream.
// Names are those of OpenTelemetry's semantic conventions (HTTP 1.36, generative AI 1.36), where these have
// one.
#pragma once

#include <vector>

#include "api/request_record.h"
#include "node/otlp.h"

namespace turnpike::api {

// `whole`: how long it took. The record has a trace. The first span is the request's own.
std::vector<node::Span> spans_of(const RequestRecord& record, Duration whole);

}  // namespace turnpike::api

// The demonstration's second half: four users have a story made into a video each, by a workflow of steps.
#pragma once

#include "base/result.h"
#include "cli/demo_client.h"

namespace turnpike::cli {

// Shows how they come along, fetches the videos and says where they are. A server that has no /create-story
// is told of, and is no error. Errors: what went wrong, kUpstreamTimeout; a story that failed.
Result<void> tell_stories(DemoClient& client);

}  // namespace turnpike::cli

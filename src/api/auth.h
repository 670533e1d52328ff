// Who asks, and for whom (api.md, "Who is asking").
#pragma once

#include "api/context.h"

namespace turnpike::api {

// Fills context.caller from the control socket, a ticket or a key, and asks whether its role may use the
// route. Errors: kInvalidApiKey, kForbidden.
Result<void> authorize(Context& context);

// Fills context.user from `Turnpike-Account`, or from `user` or `userId` of the body where the route acts for
// a user. Errors: kInvalidRequest (not a user id, or two that differ), kForbidden (an account's key that
// names another user).
Result<void> name_user(Context& context);

}  // namespace turnpike::api

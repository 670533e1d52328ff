// By account, of whom there may be a hundred thousand in no order: what is looked up is one memory access
// away. References do not survive an insertion.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>

#include "base/ids.h"

namespace turnpike::engine {

template <typename Value>
using AccountMap = boost::unordered_flat_map<AccountId, Value, std::hash<AccountId>>;

}  // namespace turnpike::engine

// CHECK(condition): an invariant of our own, on in every build. Never for input, network or disk: those are
// handled.
#pragma once

namespace turnpike {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace turnpike

#define CHECK(condition)                                        \
  do {                                                          \
    if (!(condition)) [[unlikely]]                              \
      ::turnpike::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)

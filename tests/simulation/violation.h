// An invariant that does not hold.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace turnpike::simulation {

class Violation : public std::runtime_error {
 public:
  Violation(std::string invariant, const std::string& what)
      : std::runtime_error(invariant + ": " + what), invariant_(std::move(invariant)) {}
  const std::string& invariant() const { return invariant_; }

 private:
  std::string invariant_;
};

// Throws a Violation of `invariant` unless `holds`.
template <typename... Args>
void require(bool holds, const char* invariant, fmt::format_string<Args...> text, Args&&... args) {
  if (!holds) throw Violation(invariant, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace turnpike::simulation

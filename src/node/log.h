// The program's log: one JSON object a line on standard error, with `ts` (UTC, RFC 3339), `level`, `event`
// and the fields of the event. Thread-safe; a line is written whole, and in the order of the calls. Lines
// below kWarn are written some milliseconds later, gathered (node/log_sink.h). Never log a key, a prompt or a
// card.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace turnpike::node {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError };

// One field. Text is borrowed for the call; bytes that are not UTF-8 are replaced by U+FFFD.
struct LogField {
  using Value = std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string_view>;

  LogField(std::string_view name, std::nullptr_t) : key(name), value(nullptr) {}
  LogField(std::string_view name, std::string_view text) : key(name), value(text) {}
  LogField(std::string_view name, const std::string& text) : key(name), value(std::string_view(text)) {}
  LogField(std::string_view name, const char* text) : key(name), value(std::string_view(text)) {}
  LogField(std::string_view name, std::same_as<bool> auto flag) : key(name), value(flag) {}
  LogField(std::string_view name, double number) : key(name), value(number) {}
  template <std::signed_integral T>
  LogField(std::string_view name, T number) : key(name), value(static_cast<std::int64_t>(number)) {}
  template <std::unsigned_integral T>
    requires(!std::same_as<T, bool>)
  LogField(std::string_view name, T number) : key(name), value(static_cast<std::uint64_t>(number)) {}
  template <typename T>
  LogField(std::string_view name, const std::optional<T>& number) : key(name), value(nullptr) {
    if (number) value = LogField(name, *number).value;
  }

  std::string_view key;
  Value value;
};

// Text as JSON; bytes that are not UTF-8 are replaced by U+FFFD.
void append_json_text(fmt::memory_buffer& out, std::string_view text);

// Lines below this level are not made. kInfo unless set.
void set_log_level(LogLevel lowest);
bool log_enabled(LogLevel level);

void log_event(LogLevel level, std::string_view event, std::span<const LogField> fields);
inline void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  log_event(level, event, std::span(fields.begin(), fields.size()));
}
inline void log_event(std::string_view event, std::initializer_list<LogField> fields) {
  log_event(LogLevel::kInfo, event, fields);
}

// Returns once every line so far is written: before the process is ended without its own ceremony.
void flush_log();

// The line that log_event() writes, without its end of line.
std::string log_line(std::int64_t unix_micros, LogLevel level, std::string_view event,
                     std::initializer_list<LogField> fields);

}  // namespace turnpike::node

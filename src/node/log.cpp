#include "node/log.h"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <iterator>
#include <memory>

#include "base/json_escape.h"
#include "base/time.h"
#include "node/log_sink.h"

namespace turnpike::node {
namespace {

using Buffer = fmt::memory_buffer;

std::atomic<LogLevel> lowest_level{LogLevel::kInfo};

void append(Buffer& out, std::string_view text) {
  out.append(text.data(), text.data() + text.size());
}

// Length of the UTF-8 sequence that begins at text[at], 0 if there is no valid one.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  std::size_t length = 0;
  std::uint32_t point = 0;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
    point = lead & 0x1fU;
  } else if ((lead & 0xf0U) == 0xe0) {
    length = 3;
    point = lead & 0x0fU;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    point = lead & 0x07U;
  } else {
    return 0;
  }
  if (at + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0U) != 0x80) return 0;
    point = (point << 6U) | (byte(at + i) & 0x3fU);
  }
  const bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
  const bool surrogate = point >= 0xd800 && point <= 0xdfff;
  return overlong || surrogate || point > 0x10ffff ? 0 : length;
}

}  // namespace

void append_json_text(fmt::memory_buffer& out, std::string_view text) {
  out.push_back('"');
  for (std::size_t at = 0; at < text.size();) {
    const auto c = static_cast<unsigned char>(text[at]);
    if (c >= 0x80) {
      const std::size_t length = sequence_length(text, at);
      append(out, length > 0 ? text.substr(at, length) : std::string_view("\\ufffd"));
      at += length > 0 ? length : 1;
      continue;
    }
    if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
      append(out, json_escape(c));
    } else {
      out.push_back(static_cast<char>(c));
    }
    ++at;
  }
  out.push_back('"');
}

namespace {

void append_value(Buffer& out, const LogField::Value& value) {
  struct Visitor {
    Buffer& out;
    void operator()(std::nullptr_t) const { append(out, "null"); }
    void operator()(bool flag) const { append(out, flag ? "true" : "false"); }
    void operator()(std::int64_t number) const { fmt::format_to(std::back_inserter(out), "{}", number); }
    void operator()(std::uint64_t number) const { fmt::format_to(std::back_inserter(out), "{}", number); }
    void operator()(double number) const {
      if (std::isfinite(number)) {
        fmt::format_to(std::back_inserter(out), "{}", number);
      } else {
        append(out, "null");
      }
    }
    void operator()(std::string_view text) const { append_json_text(out, text); }
  };
  std::visit(Visitor{out}, value);
}

void append_time(Buffer& out, std::int64_t micros) {
  const std::chrono::sys_time<std::chrono::microseconds> at{std::chrono::microseconds(micros)};
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date{day};
  const std::chrono::hh_mm_ss<std::chrono::microseconds> time{at - day};
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
                 static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                 static_cast<unsigned>(date.day()), time.hours().count(), time.minutes().count(),
                 time.seconds().count(), time.subseconds().count());
}

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

void build_line(Buffer& out, std::int64_t micros, LogLevel level, std::string_view event,
                std::span<const LogField> fields) {
  append(out, "{\"ts\":\"");
  append_time(out, micros);
  append(out, "\",\"level\":\"");
  append(out, level_name(level));
  append(out, "\",\"event\":");
  append_json_text(out, event);
  for (const LogField& field : fields) {
    out.push_back(',');
    append_json_text(out, field.key);
    out.push_back(':');
    append_value(out, field.value);
  }
  out.push_back('}');
}

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("turnpike", std::make_shared<GatheringSink>(STDERR_FILENO));
    made->set_level(spdlog::level::trace);
    made->flush_on(spdlog::level::warn);  // what is written last is what tells why it ended
    return made;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel lowest) {
  lowest_level.store(lowest, std::memory_order_relaxed);
}

bool log_enabled(LogLevel level) {
  return level >= lowest_level.load(std::memory_order_relaxed);
}

std::string log_line(std::int64_t unix_micros, LogLevel level, std::string_view event,
                     std::initializer_list<LogField> fields) {
  Buffer out;
  build_line(out, unix_micros, level, event, std::span(fields.begin(), fields.size()));
  return fmt::to_string(out);
}

void log_event(LogLevel level, std::string_view event, std::span<const LogField> fields) {
  if (!log_enabled(level)) return;
  Buffer out;
  build_line(out, unix_micros(SystemClock{}.now().wall), level, event, fields);
  logger().log(level >= LogLevel::kWarn ? spdlog::level::warn : spdlog::level::info,
               spdlog::string_view_t(out.data(), out.size()));
}

void flush_log() {
  logger().flush();
}

}  // namespace turnpike::node

// A small good configuration, and copies of it with something changed.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>

#include "policy/load.h"

namespace turnpike::policy {

inline constexpr std::string_view kSample = R"(server:
  listen: 127.0.0.1:8080
  slots: {local: 2}
store: {kind: sqlite}
accounts:
  default_plan: free
providers:
  voice:
    kind: exec
    pool: local
    tasks:
      speech:
        command: [espeak-ng, --stdin, -w, "${output.audio}"]
        stdin: "${input.text}"
        outputs: {audio: {file: a.wav, mime: audio/wav}}
  cloud:
    kind: openai
    base_url: https://api.example.com/v1
    api_key: ${env:CLOUD_KEY}
  fake:
    kind: sandbox
models:
  writer: {task: text, providers: [cloud, fake]}
  narrator: {task: speech, providers: [voice]}
defaults:
  plan:
    limits: {queue_depth: 100}
plans:
  free:
    priority_class: low
    limits: {concurrent_jobs: 2}
  pro:
    priority_class: high
)";

// The sample with the only occurrence of `from` replaced.
inline std::string sample_with(std::string_view from, std::string_view to) {
  std::string text{kSample};
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  EXPECT_EQ(text.find(from, at + 1), std::string::npos) << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

inline constexpr std::string_view kSecret = "sk-very-secret-value";

// Secrets of the test's own: env CLOUD_KEY and file /run/key are there.
inline SecretSource sample_secrets() {
  return {.env = [](const std::string& name) -> std::optional<std::string> {
            if (name == "CLOUD_KEY") return std::string{kSecret};
            if (name == "SPACED_KEY") return std::string{kSecret} + " x";
            if (name == "EMPTY_KEY") return "";
            return std::nullopt;
          },
          .file = [](const std::string& path) -> std::optional<std::string> {
            if (path == "/run/key") return std::string{kSecret} + "\n";
            return std::nullopt;
          }};
}

inline Loaded load_sample(std::string text) {
  return load_text(std::move(text), "t.yaml", sample_secrets());
}

}  // namespace turnpike::policy

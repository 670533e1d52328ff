// A catalogue with several versions of everything, for tests of which one a plan is served.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "policy/load.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {

// Versions of `writer` by number, of `voice` by day, of `only` none but one, of `nightly` by the day they
// were released.
inline constexpr std::string_view kCatalogue = R"(accounts: {default_plan: free}
providers:
  cloud:
    kind: openai
    base_url: https://api.example.com/v1
    saturation: spill
    keys:
      - {name: a, key: "${env:CLOUD_KEY}"}
      - {name: b, key: "${env:CLOUD_KEY}"}
  near: {kind: sandbox}
  far: {kind: sandbox}
models:
  writer:
    task: text
    versions:
      - {version: 3.1.0, status: unverified, routes: [near]}
      - {version: 3.0.0, status: beta, routes: [near]}
      - {version: 2.2.0, status: beta, routes: [near]}
      - {version: 2.1.0, routes: [{provider: cloud, model: big}, near]}
      - {version: 2.0.0, status: blessed, routes: [near, {provider: far, model: big}]}
      - {version: 1.4.0, routes: [far]}
      - {version: 1.0.0, status: retired, routes: [far]}
  only: {task: text, providers: [far]}
  nightly:
    task: text
    default: b
    versions:
      - {version: a, released: 2025-01-01, routes: [near]}
      - {version: b, released: 2025-02-01, routes: [near]}
  voice:
    task: speech
    default: 2025-03-01
    versions:
      - {version: 2025-06-01, routes: [near]}
      - {version: 2025-03-01, routes: [far, near]}
aliases: {auto: writer, fast: writer@2, say: voice}
plans:
  free: {priority_class: low}
  beta: {models: {visibility: {beta: true}}}
  brave: {models: {visibility: {beta: true, unverified: true}}}
  minor: {models: {policy: allow_minor}}
  minor2: {models: {policy: allow_minor, tasks: {text: {pin: writer@2.1.0}}, visibility: {beta: true}}}
  held: {models: {policy: pinned}}
  pinned: {models: {policy: pinned, tasks: {text: {pin: writer@1.4.0}, speech: {pin: voice@2025-03-01}}}}
  pinned2: {models: {policy: pinned, tasks: {text: {pin: [only@1, writer@3.0.0]}}}}
  few: {models: {allow: [only, voice]}}
  distant: {providers: {text: [far, cloud]}}
  silent: {tasks: [text]}
)";

inline PolicyPtr catalogue() {
  static const PolicyPtr kLoaded = [] {
    const Loaded loaded = load_sample(std::string(kCatalogue));
    for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
    return loaded.policy != nullptr ? loaded.policy : std::make_shared<const Policy>();
  }();
  return kLoaded;
}

}  // namespace turnpike::policy

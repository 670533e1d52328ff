// A configuration with one mistake in it, and what is said of it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "policy/load.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {

// No secret is in any of them.
inline std::vector<std::string> mistakes_of(std::string text) {
  const Loaded loaded = load_sample(std::move(text));
  EXPECT_EQ(loaded.policy == nullptr, !loaded.mistakes.empty());
  std::vector<std::string> texts;
  for (const Mistake& mistake : loaded.mistakes) {
    texts.push_back(to_string(mistake));
    EXPECT_THAT(texts.back(), testing::Not(testing::HasSubstr(std::string{kSecret})));
  }
  return texts;
}

struct BadFile {
  const char* name;
  std::string from, to;  // one change to the sample
  std::string expected;  // the only mistake
};

inline void PrintTo(const BadFile& file, std::ostream* out) {
  *out << file.to;
}

inline std::string name_of(const testing::TestParamInfo<BadFile>& info) {
  return info.param.name;
}

}  // namespace turnpike::policy

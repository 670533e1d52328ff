// Price tables of others: LiteLLM's model_prices_and_context_window.json becomes the section `prices`.
// Source of the shape: github.com/BerriAI/litellm, `sample_spec` of that file.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace turnpike::policy {

struct PriceImport {
  std::map<std::string, std::string> providers;  // theirs -> the name in the configuration; not empty
  std::vector<std::string> models;               // as the provider names them; empty: all that have a price
};

struct ImportedPrices {
  std::string yaml;  // "prices:\n  openai:\n    \"gpt-4o\": {...}\n"; the configuration reads it as it is
  std::size_t models = 0;
  std::vector<std::string> notes;  // what was rounded up, taken as the dearest, or has no counterpart here
};

// Exact: each number is read from its digits, and rounded up where it is finer than the finest price. What
// they price apart and we do not (reasoning, batches of long prompts) is taken at its dearest, so that a cap
// holds. Errors, kInvalidRequest: not that shape, a provider or model that is not there, a price that is
// none.
Result<ImportedPrices> import_prices(const std::string& text, const PriceImport& wanted);

}  // namespace turnpike::policy

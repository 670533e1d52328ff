// Which requests are the same: the key of an answer that is kept. Pure.
//
// Of a JSON body the key sees values, not spelling: the order of members, white space, escapes in strings and
// the way a number is written (1, 1.0, 1e0) make no difference; every value does, strings to the byte. Of a
// form it sees the parts by name, whether each is a file, and its bytes: neither the file's name nor its
// type, which say nothing that the bytes do not; parts of one name keep their order. Fields that change
// nothing in the answer are left out: kFieldsLeftOut.
//
// A topic (policy::PlanCache::topic_field) is compared without case (ASCII), with white space (ASCII) of any
// length as one space, and without white space and ASCII punctuation at its ends. Nothing else is made
// equal: neither case beyond ASCII nor the two ways in which Unicode writes an accent.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace turnpike::node {

struct CacheKey {
  std::array<unsigned char, 32> bytes{};
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
  friend auto operator<=>(const CacheKey&, const CacheKey&) = default;
};
struct CacheKeyHash {
  std::size_t operator()(const CacheKey& key) const {
    std::size_t hash = 0;
    std::memcpy(&hash, key.bytes.data(), sizeof hash);  // any bytes of a SHA-256 will do
    return hash;
  }
};

// A field of a task's input that names a file, and what is in it: the same picture under another name is the
// same input.
struct CachedFile {
  std::string_view field;
  std::string_view sha256;
};

struct CacheQuestion {
  std::string_view scope;      // who may be answered with it: "account:acct_...", "shared:GROUP"
  std::string_view operation;  // "chat", "embeddings", "task:image": whose fields the body has
  bool stream = false;         // streams and whole answers are kept apart: each is replayed as it came
  std::string_view model;
  std::string_view model_version;
  std::string_view upstream_model;
  std::string_view content_type;  // of `body`
  std::string_view body;
  std::span<const CachedFile> files = {};
  std::string_view topic_field = {};
};

// Fields of the whole request that do not change its answer: how it is sent, who asks, what is noted beside
// it.
inline constexpr auto kFieldsLeftOut = std::to_array<std::string_view>(
    {"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "store", "stream",
     "stream_options", "user", "userId", "userTier"});

constexpr std::size_t kCacheDepthMax = 32;  // of JSON

// Nothing where the answer cannot be known by the request alone: a body that cannot be read (or is beyond the
// bounds above), and one that goes on with what the upstream keeps (`conversation`) or is answered later
// (`background`).
std::optional<CacheKey> cache_key(const CacheQuestion& question);

// Of a topic, as it is compared.
std::string canonical_topic(std::string_view text);
// Of a number in JSON's spelling: equal texts for equal numbers, exactly, however large.
std::string canonical_number(std::string_view text);

}  // namespace turnpike::node

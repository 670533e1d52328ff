// A call whose answer may be given again: gathers what comes from upstream while it goes to the client, tells
// those who follow, and keeps the whole at its end. A stream goes at its client's pace; when the client has
// left, at the upstream's, as long as somebody follows.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/time.h"
#include "engine/rows.h"
#include "node/answer_cache.h"
#include "node/node.h"
#include "provider/provider.h"

namespace turnpike::node {

// Told of the answer by its try's coroutine, and of the end with the call's answer: what a try says after it
// (one whose lease ran out may go on for a while) is passed over. One that is dropped without an end gives
// its flight up. Thread-safe.
class CachedCall {
 public:
  struct Terms {
    CacheKey key;
    // What the key was made of: an answer that a fallback gave is not kept under it.
    std::string model, model_version, upstream_model;
    bool stream = false;
    Duration ttl{};               // from its end on
    std::uint64_t bytes_max = 0;  // a longer answer is passed on and not kept
  };
  // `lead` may lead nothing. `cache` outlives it.
  CachedCall(AnswerCache& cache, Terms terms, Lead lead);

  // --- By the try. Of a stream:
  void begun(std::string content_type);
  void add(std::string_view bytes);
  void cut();  // it does not come whole: a limit ended it, or nobody reads it any more
  bool followed() const;
  // What the client gets beside the row. A later try takes the place of one before.
  void reply(const CallReply& reply);

  // --- With the call's answer. `refused`: it never had a try (its account's
  // limits, no room).
  void ended(const engine::JobRow& row, bool refused, Wall now);

 private:
  AnswerPtr answer_of(const engine::JobRow& row, Wall now);

  AnswerCache& cache_;
  const Terms terms_;

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  Lead lead_;
  std::shared_ptr<CachedAnswer> answer_ = std::make_shared<CachedAnswer>();  // while it is gathered
  int status_ = 200;
  std::string param_;  // of a failure: the field at fault
  bool begun_ = false;
  bool cut_ = false;
  bool replied_ = false;
  bool too_long_ = false;
  bool ended_ = false;
};

// The sink of a try that streams: `client`, and `call` beside it.
std::shared_ptr<provider::ReplySink> cached_sink(std::shared_ptr<provider::ReplySink> client,
                                                 std::shared_ptr<CachedCall> call);

}  // namespace turnpike::node

// What the engine does not keep in memory: answers its refills and expires what only the journal knows.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <string_view>

#include "engine/engine.h"
#include "journal/journal.h"
#include "node/commit_loop.h"
#include "node/readers.h"

namespace turnpike::node {

// What was read changes meanwhile so often before whoever asked is told to come back.
constexpr int kStaleRoundsMax = 8;

inline engine::ColdJob cold_job(journal::StoredJob stored) {
  return engine::ColdJob{.row = std::move(stored.row), .body = std::move(stored.body), .at = stored.at};
}

class ColdReads {
 public:
  ColdReads(CommitLoop& loop, journal::Journal& journal, Readers& readers,
            std::function<void(std::string_view why)> on_fatal);

  void answer(engine::RefillQueue request);
  void answer(engine::RefillScheduled request);
  void answer(engine::RefillExpiring request);
  boost::asio::awaitable<void> expire(engine::ExpireCold request);

 private:
  template <typename Request, typename Read, typename Command>
  void refill(Request request, Read read, Command command);

  CommitLoop& loop_;
  journal::Journal& journal_;
  Readers& readers_;
  const std::function<void(std::string_view why)> on_fatal_;
};

}  // namespace turnpike::node

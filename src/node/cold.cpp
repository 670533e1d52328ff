#include "node/cold.h"

#include <utility>
#include <vector>

#include "node/log.h"

namespace turnpike::node {
namespace asio = boost::asio;

ColdReads::ColdReads(CommitLoop& loop, journal::Journal& journal, Readers& readers,
                     std::function<void(std::string_view why)> on_fatal)
    : loop_(loop), journal_(journal), readers_(readers), on_fatal_(std::move(on_fatal)) {}

// A queue whose heads cannot be read would stand still without a word: the process ends and recovers instead.
template <typename Request, typename Read, typename Command>
void ColdReads::refill(Request request, Read read, Command command) {
  readers_.post_own([this, request = std::move(request), read, command] {
    auto heads = read(journal_, request);
    if (!heads) {
      log_event(LogLevel::kError, "refill.failed",
                {{"message", heads.error().message}, {"cause", heads.error().cause}});
      on_fatal_(heads.error().message);
      return;
    }
    std::vector<engine::ColdJob> jobs;
    jobs.reserve(heads->jobs.size());
    for (journal::StoredJob& stored : heads->jobs) {
      stored.at = heads->at;
      jobs.push_back(cold_job(std::move(stored)));
    }
    CommitLoop::Turn turn(loop_);
    command(turn, request, std::move(jobs));
  });
}

void ColdReads::answer(engine::RefillQueue request) {
  refill(
      std::move(request),
      [](journal::Journal& journal, const engine::RefillQueue& asked) {
        return journal.queue_heads(asked.account, asked.pool, asked.after, asked.limit);
      },
      [](CommitLoop::Turn& turn, const engine::RefillQueue& asked, std::vector<engine::ColdJob> jobs) {
        turn.engine().refill_queue(asked, std::move(jobs), turn.now(), turn.changes());
      });
}

void ColdReads::answer(engine::RefillScheduled request) {
  refill(
      request,
      [](journal::Journal& journal, const engine::RefillScheduled& asked) {
        return journal.scheduled_heads(asked.after, asked.limit);
      },
      [](CommitLoop::Turn& turn, const engine::RefillScheduled& asked, std::vector<engine::ColdJob> jobs) {
        turn.engine().refill_scheduled(asked, std::move(jobs), turn.now(), turn.changes());
      });
}

void ColdReads::answer(engine::RefillExpiring request) {
  refill(
      request,
      [](journal::Journal& journal, const engine::RefillExpiring& asked) {
        return journal.expiring_heads(asked.after, asked.limit);
      },
      [](CommitLoop::Turn& turn, const engine::RefillExpiring& asked, std::vector<engine::ColdJob> jobs) {
        turn.engine().refill_expiring(asked, std::move(jobs), turn.now(), turn.changes());
      });
}

asio::awaitable<void> ColdReads::expire(engine::ExpireCold request) {
  for (int round = 0; round < kStaleRoundsMax; ++round) {
    Result<std::optional<journal::StoredJob>> stored;
    auto read = [this, request, &stored] { stored = journal_.job(request.job, false); };
    const Result<void> done = co_await readers_.run_own(std::move(read));
    if (!done) co_return;  // stops
    if (!stored) {
      on_fatal_(stored.error().message);
      co_return;
    }
    if (!*stored) co_return;
    {
      CommitLoop::Turn turn(loop_);
      const engine::ColdJob cold = cold_job(std::move(**stored));
      const auto expired = turn.engine().expire_cold(cold, turn.now(), turn.changes());
      if (expired || expired.error().code != ErrorCode::kStale) co_return;
    }
    if (!co_await loop_.everything_committed()) co_return;
  }
  log_event(LogLevel::kWarn, "expire.given_up", {{"job", to_string(request.job)}});
}

}  // namespace turnpike::node

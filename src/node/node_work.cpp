// Workers: a claim waits in the engine, what it is filled with meets it at the desk.
#include <utility>

#include "node/node_impl.h"

namespace turnpike::node {
namespace {

constexpr Duration kHandOverMax = std::chrono::seconds(10);  // from being filled to its tries being there
static_assert(Runners::kWorkPictureMax < kHandOverMax);
constexpr Duration kSettleMax = std::chrono::seconds(60);  // from a report to its commit

}  // namespace

class WaitingClaim final : public WorkClaim {
 public:
  WaitingClaim(NodeImpl& node, ClaimId id, std::shared_ptr<provider::Bell> bell)
      : node_(node), id_(id), bell_(std::move(bell)) {}
  ~WaitingClaim() override {
    if (over_) return;
    (void)withdraw();
    node_.desk_->close(id_);
  }
  WaitingClaim(const WaitingClaim&) = delete;
  WaitingClaim& operator=(const WaitingClaim&) = delete;

  asio::awaitable<std::vector<provider::Work>> wait(Duration at_most) override {
    co_await until(at_most, true);
    // Whoever is told that it no longer waits has filled it: its tries are on their way.
    if (!withdraw()) co_await until(kHandOverMax, false);
    over_ = true;
    if (!left_) co_return node_.desk_->take(id_);
    node_.desk_->close(id_);
    co_return std::vector<provider::Work>();
  }

  void leave() override {
    left_ = true;
    bell_->ring();
  }

 private:
  // `early`: until the server stops or the worker has left, too.
  asio::awaitable<void> until(Duration at_most, bool early) {
    const Monotonic end = node_.clock_->now().mono + at_most;
    while (!node_.desk_->filled(id_)) {
      const Duration left = end - node_.clock_->now().mono;
      if (left <= Duration{0} || (early && (left_ || node_.desk_->stopped()))) co_return;
      co_await bell_->wait_for(left);
    }
  }

  bool withdraw() {
    CommitLoop::Turn turn(*node_.loop_);
    return turn.engine().withdraw(id_);
  }

  NodeImpl& node_;
  const ClaimId id_;
  const std::shared_ptr<provider::Bell> bell_;
  std::atomic<bool> left_ = false;
  bool over_ = false;  // taken or closed
};

Result<std::shared_ptr<WorkClaim>> NodeImpl::claim(ClaimRequest request,
                                                   const asio::any_io_executor& executor) {
  CommitLoop::Turn turn(*loop_);
  const ClaimId id{turn.fresh_id()};
  auto bell = std::make_shared<provider::Bell>(executor);
  // Before the engine knows of it: a call may begin, and arrive, before the turn is over.
  desk_->open(id, request.worker, bell);
  auto claimed = turn.engine().claim(
      {.id = id, .pools = std::move(request.providers), .account = request.account, .most = request.most},
      turn.now(), turn.changes());
  if (!claimed) {
    desk_->close(id);
    return std::unexpected(std::move(claimed.error()));
  }
  return std::make_shared<WaitingClaim>(*this, id, std::move(bell));
}

asio::awaitable<Result<void>> NodeImpl::report_work(TryId id, provider::Worker worker,
                                                    provider::WorkReport report) {
  auto bell = std::make_shared<provider::Bell>(co_await asio::this_coro::executor);
  const auto job = desk_->job_of(id, worker);
  if (!job) co_return std::unexpected(job.error());
  if (auto taken = desk_->report(id, worker, std::move(report), bell); !taken) co_return taken;
  const Monotonic end = clock_->now().mono + kSettleMax;
  while (!desk_->has_settled(id)) {
    const Duration left = end - clock_->now().mono;
    if (left <= Duration{0}) co_return stopping();
    co_await bell->wait_for(left);
  }
  if (!co_await loop_->everything_committed()) co_return stopping();
  // Its end may have crossed with a cancellation.
  auto looking = read_job(*job, std::nullopt, false);
  const auto found = co_await std::move(looking);
  if (found && found->row.state == engine::JobState::kCancelled)
    co_return fail(ErrorCode::kConflict, "the job was cancelled; what was reported changes nothing", "try");
  co_return Result<void>{};
}

}  // namespace turnpike::node

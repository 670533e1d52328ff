// Tries at work: each is one coroutine on an io thread, runs its provider, and ends with exactly one settle.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "journal/journal.h"
#include "net/client.h"
#include "net/io_threads.h"
#include "net/task_group.h"
#include "node/artifact_store.h"
#include "node/callers.h"
#include "node/commit_loop.h"
#include "node/provider_set.h"
#include "node/readers.h"
#include "provider/provider.h"
#include "provider/work_desk.h"

namespace turnpike::node {

// What a try needs; all of it outlives the runners.
struct RunnerParts {
  CommitLoop& loop;
  journal::Journal& journal;
  Readers& readers;
  ArtifactStore& artifacts;
  const ProviderSet& providers;
  const Clock& clock;
  const Callers& callers;
  const std::set<std::string>& unavailable;  // providers found missing at start
  provider::WorkDesk& desk;
  std::function<policy::PolicyPtr()> policy;    // in force
  std::shared_ptr<net::Client> picture_client;  // of pictures that inputs name by address
  std::filesystem::path work_dir;               // one folder a try below it; absolute
  std::filesystem::path spool_dir;              // absolute
};

class Runners {
 public:
  static constexpr Duration kProgressEvery = std::chrono::milliseconds(250);  // at most one report a try
  static constexpr std::size_t kProgressTextMax = 200;                        // bytes
  // What a claim is filled with is awaited for a while only: its pictures come sooner, or fail their try.
  static constexpr Duration kWorkPictureMax = std::chrono::seconds(5);

  Runners(RunnerParts parts, net::IoThreads& threads);

  // Once the start is durable, or need not be: tries of jobs go round the io threads, and a call's try goes
  // to the thread of its client.
  void start(engine::StartTry start, Deliveries& deliveries);
  // Interrupts a try; one that has not begun never will. Nothing if it has ended.
  void stop(TryId try_id, engine::StopReason reason);
  void stop_all(engine::StopReason reason);
  std::vector<TryId> live() const;

  // Another coroutine of the node, on one of the io threads, in the same group.
  void spawn(boost::asio::awaitable<void> task);
  // Refuses new tries, cancels what runs and waits for it. True: all have ended.
  bool shut(Duration timeout) { return tasks_.stop(timeout); }

 private:
  struct Live {
    Live(Runners& owner, engine::StartTry what, Callers::PlacePtr from, boost::asio::any_io_executor where)
        : runners(owner), start(std::move(what)), place(std::move(from)), executor(std::move(where)) {}

    Runners& runners;
    const engine::StartTry start;
    const Callers::PlacePtr place;  // of a call's client; null: a job
    const boost::asio::any_io_executor executor;
    // Guarded by Runners::mutex_:
    std::optional<engine::StopReason> stop;
    bool begun = false;
    net::TaskGroup::Handle handle;
    // Of its coroutine:
    Monotonic progress_at{};
    bool has_folder = false;
    std::filesystem::path picture;  // that was fetched for it; empty: none was
  };
  using LivePtr = std::shared_ptr<Live>;
  class Leaving;
  // How a try ended, before it is settled. Files are pinned in the store.
  struct Ending {
    engine::TryOutcome outcome;
    std::vector<engine::ArtifactRef> files;
  };

  boost::asio::any_io_executor next_executor();
  boost::asio::awaitable<provider::Outcome> ask(LivePtr live, ProviderSet::Serving serving,
                                                provider::Request request);
  static void put_reply(const Live& live, provider::Outcome& outcome);
  void launch(LivePtr live);
  bool begin(Live& live);
  void request_stop(Live& live, engine::StopReason reason);
  std::optional<engine::StopReason> stop_of(const Live& live) const;

  boost::asio::awaitable<void> run(LivePtr live);
  boost::asio::awaitable<Ending> attempt(LivePtr live);
  boost::asio::awaitable<Ending> serve(LivePtr live, ProviderSet::Serving serving);
  boost::asio::awaitable<Result<void>> prepare(LivePtr live, bool with_folder, provider::Request& request);
  // The picture that an input is to edit: fetched where it is named by its address, and looked at.
  using Taken = std::expected<void, provider::Failure>;
  boost::asio::awaitable<Taken> take_picture(LivePtr live, provider::Request& request);
  boost::asio::awaitable<Taken> fetch_picture(LivePtr live, std::string url, provider::Request& request);
  boost::asio::awaitable<Ending> finish(LivePtr live, provider::Outcome outcome);
  boost::asio::awaitable<Ending> keep(LivePtr live, provider::Success success);
  boost::asio::awaitable<void> settle(LivePtr live, Ending ending);
  void clean(const Live& live);

  Result<void> read_inputs(const Live& live, bool with_folder, provider::Request& request) const;
  // The account's own artifact of this id; nothing: there is none.
  Result<std::optional<provider::InputFile>> find_file(AccountId account, std::string_view id) const;
  Result<void> find_files(AccountId account, provider::Request& request) const;
  Result<std::vector<engine::ArtifactRef>> store_files(const Live& live, provider::Success& success) const;
  Result<void> store_all(const Live& live, provider::Success& success,
                         std::vector<engine::ArtifactRef>& kept) const;
  void report_progress(Live& live, int percent, std::string_view message);
  void log_start(const Live& live) const;
  std::filesystem::path folder_of(const Live& live) const;

  const RunnerParts parts_;
  net::IoThreads& threads_;
  net::TaskGroup tasks_;
  std::atomic<std::size_t> turn_ = 0;
  mutable std::mutex mutex_;
  boost::unordered_flat_map<TryId, LivePtr, std::hash<TryId>> live_;  // guarded by mutex_
};

}  // namespace turnpike::node

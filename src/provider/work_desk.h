// Where the tries of providers of kind pull meet the workers that claim them. The engine decides which try
// goes to which claim; here the try waits for that claim's worker to take it, to be heard of, and to report.
//
// Invariants:
//   W1  a try is with one worker at most, from take() until it has ended; what is reported of a try that has
//       ended, or by somebody else, changes nothing and is told so.
//   W2  one report of a try is accepted.
//   W3  a try whose worker is not heard of for a lease has ended (pull_provider.cpp).
// Thread-safe.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "provider/bell.h"
#include "provider/provider.h"

namespace turnpike::provider {

// Who claims or reports: a worker's key, which has what it claimed and nothing else, or an admin, who may
// report of anything.
struct Worker {
  KeyId key{};
  bool admin = false;
};

// A try as its worker is handed it.
struct Work {
  TryId id;
  JobId job;
  std::string provider, task, model;   // the model as the provider names it; may be empty
  std::string input;                   // JSON object text
  std::int64_t max_output_tokens = 0;  // 0: none
  std::vector<InputFile> files;
  Duration lease{};    // to be heard of at least so often
  Duration timeout{};  // from being handed out to the end
};

using WorkReport = std::variant<Success, Failure>;

class WorkDesk {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::size_t kFilesMax = 64;     // that a try may make
  static constexpr std::size_t kPastMax = 10'000;  // ends that are remembered, to tell who comes late

  // --- Claims
  // From here on tries arrive for it; `bell` is rung once all are there (filled()).
  void open(ClaimId claim, Worker worker, std::shared_ptr<Bell> bell);
  // So many tries were started for it. Before or after they arrive.
  void expect(ClaimId claim, std::uint32_t tries);
  bool filled(ClaimId claim) const;
  // Hands over what has arrived and is still to be done, in the order of its starts; leases begin now. Closes
  // the claim.
  std::vector<Work> take(ClaimId claim);
  // Nobody takes it: what has arrived, or does later, goes back to the queue. Nothing if it was taken.
  void close(ClaimId claim);
  // It was handed over, and did not reach its worker: goes back to the queue.
  void give_back(TryId id);
  // The server stops: rings for all claims, and stopped() from now on.
  void stop();
  bool stopped() const;

  // --- What workers say. Errors: kConflict: the try has ended, or never was this worker's; says which, as
  // far as it is known.
  struct Beat {
    bool cancelled = false;  // it is to be left alone: nothing more is wanted of it
    Duration lease{};        // not cancelled: until when it has to be heard of again
  };
  Result<Beat> heartbeat(TryId id, Worker worker);
  // percent 0..100; what is shown never falls.
  Result<Beat> progress(TryId id, Worker worker, int percent, std::string message);
  Result<JobId> job_of(TryId id, Worker worker) const;
  struct Folder {
    std::filesystem::path work_dir;  // for files that it makes
    std::vector<InputFile> inputs;
    std::uint64_t file_bytes_max = 0;
    std::size_t files = 0;  // made so far
  };
  Result<Folder> folder(TryId id, Worker worker) const;
  // A file in its work folder. Error, too: kUnprocessable, there are kFilesMax.
  Result<void> attach(TryId id, Worker worker, ProducedFile file);
  // Its end. `settled` is rung once the engine has been told (has_settled()); what was attached is added to a
  // success.
  Result<void> report(TryId id, Worker worker, WorkReport report, std::shared_ptr<Bell> settled);
  bool has_settled(TryId id) const;

  // --- The try's side
  struct Held;
  using HeldPtr = std::shared_ptr<Held>;
  // Null: its claim is gone.
  HeldPtr arrive(ClaimId claim, Work work, std::filesystem::path work_dir, std::uint64_t file_bytes_max,
                 std::shared_ptr<Bell> bell);
  struct News {
    std::optional<std::pair<int, std::string>> progress;
    std::optional<WorkReport> report;
    bool given_back = false;
    bool taken = false;
    Time lease_until{};  // once taken
  };
  News news(const HeldPtr& held);
  enum class End : std::uint8_t { kReported, kGivenBack, kStopped, kTimedOut, kLost };
  // It has ended. False: there are news that count more (a report; of kLost, a heartbeat): look again.
  bool leave(const HeldPtr& held, End end);
  // Whoever runs it has let go of it, settled; or it never came here.
  void settled(ClaimId claim, TryId id);

 private:
  struct Claim {
    Worker worker;
    std::shared_ptr<Bell> bell;
    std::optional<std::uint32_t> expected;
    std::set<TryId> seen;  // arrived, or ended before they could
    std::vector<HeldPtr> tries;
    bool filled() const { return expected && seen.size() >= *expected; }
  };
  struct Past {
    Worker worker;
    End end{};
  };
  void see(ClaimId claim, TryId id);
  Result<HeldPtr> find(TryId id, Worker worker) const;
  std::unexpected<Error> late(TryId id, Worker worker) const;

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::map<ClaimId, Claim> claims_;
  std::unordered_map<TryId, HeldPtr> held_;
  std::unordered_map<TryId, std::shared_ptr<Bell>> settling_;  // reported, and not settled yet
  std::unordered_map<TryId, Past> past_;
  std::deque<TryId> past_order_;
  bool stopped_ = false;
};

}  // namespace turnpike::provider

// The processes of a program that stays: started when a try needs one, ended when nobody does, started again
// after their end, later and later where that does not help. Everything here is on one thread, that of the
// executor; its coroutines are in the group, which must be stopped before the pool goes.
//
//   starting -> ready -> ended        a try takes a place in a ready process, and gives it back
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "net/task_group.h"
#include "policy/policy.h"
#include "provider/confinement.h"
#include "provider/exec_server_folder.h"
#include "provider/process.h"
#include "provider/provider.h"
#include "provider/sandbox_user.h"

namespace turnpike::provider {

struct ServerSetup {
  std::string provider;  // its name
  policy::ExecServe serve;
  Confinement confinement = Confinement::kNone;
};

// One process, from its start to its certain end.
struct ServerProcess {
  enum class State : std::uint8_t { kStarting, kReady, kEnded };

  ServerProcess(AccountId whose, std::optional<SandboxUser> as, ServerFolder in)
      : account(whose), user(std::move(as)), folder(std::move(in)) {}

  const AccountId account;  // whom it serves; zero: everybody
  const std::optional<SandboxUser> user;
  const ServerFolder folder;
  State state = State::kStarting;
  std::uint32_t taken = 0;     // places
  bool answered = false;       // a request, whatever it said
  bool ending = false;         // takes nobody any more; ended by us once its places are free
  bool late = false;           // ended by us because it was not ready in time
  std::uint32_t promised = 0;  // waiting tries that it will take once it is ready
  std::chrono::steady_clock::time_point idle_since{};
  net::TaskGroup::Handle handle;
  std::optional<Failure> why;  // kEnded: how it ended, as a failure of who was in it
};
using ServerProcessPtr = std::shared_ptr<ServerProcess>;

class ServerPool {
 public:
  using Time = std::chrono::steady_clock::time_point;

  ServerPool(ServerSetup setup, boost::asio::any_io_executor executor, net::TaskGroup& group)
      : setup_(std::move(setup)), executor_(std::move(executor)), group_(group), due_(executor_) {}

  // A place in a ready process; given back with the object.
  class Place {
   public:
    Place(ServerPool& pool, ServerProcessPtr process) : pool_(&pool), process_(std::move(process)) {}
    Place(Place&& other) noexcept = default;
    Place& operator=(Place&&) = delete;
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
      if (process_) pool_->give_back(process_);
    }
    const ServerProcessPtr& process() const { return process_; }

   private:
    ServerPool* pool_;
    ServerProcessPtr process_;  // null: moved away
  };

  // Waits at most until `until` for a place, first come, first served. `parent`: where a process has its
  // folder. Failures: no process gets ready (how it ended; retry_after while it is not started again),
  // timeout.
  boost::asio::awaitable<std::expected<Place, Failure>> take(AccountId account, std::filesystem::path parent,
                                                             Time until);
  // Whether it listens on its socket now; never waits.
  bool listens(const ServerProcess& process) const;
  // The process has answered a request.
  void answered(ServerProcess& process);
  // It is of no use any more: it takes no request, and is ended once those in it have ended.
  void replace(const ServerProcessPtr& process);

  const std::string& provider() const { return setup_.provider; }
  std::string program() const;
  bool confined() const { return setup_.confinement == Confinement::kBubblewrap; }
  const policy::ExecServe& serve() const { return setup_.serve; }

 private:
  struct Waiter {
    Waiter(const boost::asio::any_io_executor& executor, AccountId whose) : account(whose), timer(executor) {}
    const AccountId account;
    boost::asio::steady_timer timer;  // expires when the wait is over; cancelled when there is a result
    std::optional<std::expected<Place, Failure>> result;
  };
  // Of an account (or everybody) whose last process ended before it had answered anything.
  struct Setback {
    std::uint32_t failures = 0;  // one after another
    Time next_start{};
    Failure why;
  };

  void give_back(const ServerProcessPtr& process);
  void changed();
  void assign(Waiter& waiter, Time now);
  void give(Waiter& waiter, std::expected<Place, Failure> result);
  ServerProcess* find(AccountId account, ServerProcess::State state) const;
  bool make_room();
  void start(Waiter& waiter);
  void end(ServerProcess& process);
  void end_idle(Time now);
  Time next_due(Time now) const;
  Result<ServerProcessPtr> make_process(AccountId account) const;
  Result<ProcessPlan> plan_of(const ServerProcess& process) const;
  Result<View> view_of(const ServerProcess& process, const std::filesystem::path& program) const;
  Failure why_ended(const ServerProcess& process, const Result<ProcessReport>& report) const;
  void ended(const ServerProcessPtr& process, const Result<ProcessReport>& report);
  void set_back(AccountId account, Failure& why);

  boost::asio::awaitable<void> live(ServerProcessPtr process);
  boost::asio::awaitable<void> await_ready(ServerProcessPtr process);
  boost::asio::awaitable<void> tend();

  const ServerSetup setup_;
  const boost::asio::any_io_executor executor_;
  net::TaskGroup& group_;
  boost::asio::steady_timer due_;  // of tend(): something is to be ended or started then
  bool tended_ = false;
  std::filesystem::path parent_;
  std::vector<ServerProcessPtr> processes_;  // not ended; at most serve.instances
  std::vector<std::shared_ptr<Waiter>> waiters_;
  std::map<AccountId, Setback> setbacks_;  // at most kSetbacksMax
};

}  // namespace turnpike::provider

// The engine's memory and the steps its commands are made of. Private to engine/*.cpp.
//
//   commands.cpp  what callers ask of jobs: submit, cancel, retry
//   accounts.cpp  accounts, plans, policy
//   calls.cpp     work that is answered while its caller waits
//   holds.cpp     what may be held, and is
//   charges.cpp   what tries used, in books and ledger; books.h is shared by both
//   tries.cpp     the life of a try: start, settle, loss
//   time.cpp      what comes due by itself
//   runs.cpp      runs of workflows, whose steps are jobs
//   cold.cpp      windows, refills, jobs that are not in memory
//   view.cpp      questions: position, estimate, why
#pragma once

#include <array>
#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <memory_resource>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/random.h"
#include "engine/account_map.h"
#include "engine/durations.h"
#include "engine/engine.h"
#include "engine/order.h"
#include "engine/rates.h"
#include "engine/window.h"

namespace turnpike::engine {

// Queue order: higher priority first, then older.
struct QueueKeyLess {
  bool operator()(const QueueKey& a, const QueueKey& b) const {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  }
};
using TimedKey = std::pair<Wall, JobId>;

struct Account;
struct Pool;

// One period's books in memory.
struct Book {
  PeriodRow row;
  bool dirty = false;      // changed since the journal was told
  std::uint32_t late = 0;  // tries lost or cancelled that may still correct their charge here
};

// Whoever has books, limits and rates: an account, a team, the platform.
struct Payer {
  Scope scope{};
  AccountId account;                              // kAccount
  std::string team;                               // kTeam
  boost::container::small_vector<Book, 1> books;  // by start; the last is the current one, unless it is over
  RateState rates;
  std::uint32_t running = 0;  // jobs: live tries
  std::uint32_t calls = 0;    // calls admitted and not ended
  bool dirty = false;         // stands in State::dirty_payers_, until the batch is closed
};

// A team, or the platform.
struct Group : Payer {
  const policy::Group* terms = nullptr;  // null: no longer in the configuration, and without limits
  std::set<AccountId> kept_out;          // accounts with work that its cap of running jobs keeps back
};

// What one account has waiting in one pool.
struct Queue {
  Account* account = nullptr;
  Pool* pool = nullptr;
  std::set<JobId> calls;  // that wait for room, oldest first; they go before the account's jobs
  Window<QueueKey, QueueKeyLess> window;
  std::uint64_t queued = 0;  // all, in memory or not
  std::uint64_t scheduled = 0;
  std::uint64_t told_queued = 0;  // what the journal was last told
  std::uint64_t told_scheduled = 0;
  bool told_dirty = false;  // stands in State::untold_, until the batch is closed
  bool looked_at = false;   // stands in State::dirty_, until the command is over
  JobId newest;             // youngest job ever queued here: the far end, for estimates of rank
};

struct Account : Payer {
  AccountRow row;
  const policy::Plan* plan = nullptr;       // that applies; never null
  std::unique_ptr<const policy::Plan> own;  // with its overrides, if it has any
  std::string overrides_mistake;            // why they do not apply; empty: they do
  Group* group = nullptr;                   // its team; null: none
  Monotonic rate_timer{};                   // its place in State::rate_timers_; none: the epoch
  std::uint64_t waiting = 0;                // queued + scheduled over all pools
  boost::container::small_vector<std::unique_ptr<Queue>, 2> queues;  // few: one for each pool it has used
};

struct Pool {
  std::string name;
  std::uint32_t slots = 0;  // 0: no longer in the configuration; what waits is paused
  std::uint32_t running = 0;
  Order order;
  Monotonic accounted;                                      // until when slot time was consumed into credit
  std::array<std::uint64_t, policy::kClassCount> queued{};  // by class_index
  AccountMap<Queue*> queues;
  bool touched = false;  // stands in State::touched_
  std::uint32_t number = 0;
  Gate* gate = nullptr;  // what bounds its upstream; null: nothing but its slots
  std::unique_ptr<Gate>
      memory;           // `gate`, or one that bounds nothing now and may come back; null: there is none
  Monotonic ungated{};  // when a try began without a gate; none: the epoch
  bool paused = false;  // by the operator
  // Of a pool that several providers share: those of them that are paused by the operator.
  std::set<std::string, std::less<>> paused_providers{};
  bool to_leave = false;         // what waits here in vain is to be looked over: see leave()
  Monotonic timer{};             // its place in State::pool_timers_; none: the epoch
  std::set<AccountId> kept_out;  // whose next can only wait for it while it is away
  // Of a provider whose workers claim their work: nothing starts but into a claim.
  bool pull = false;
  std::uint32_t claims_max = 0;
  std::set<ClaimId> claims;                             // that take anybody's work, oldest first
  std::map<AccountId, std::set<ClaimId>> own_claims{};  // that take the account's alone; no set is empty
};

// A job in memory: a head of a window, a scheduled job within its window, or one with a live try.
struct Job {
  Account* account = nullptr;  // row.account; never null
  JobRow row;
  JobBodyPtr body;                   // may be null: read by the runner
  policy::RoutePtr route = nullptr;  // as resolved; null: read from the journal, see JobRow::route
  std::uint32_t tries_in_attempt = 0;
  Durations* took = nullptr;
  std::uint8_t percent = 0;
  std::string progress = {};
  // A call: its row is written nowhere.
  bool call = false;
  bool at_once = false;  // may start before its hold is durable, and end before its charge is: see AnswerCall
  Batch held_in = 0;     // carries what it holds
  std::int64_t output_limit = 0;  // see StartTry
  Monotonic deadline{};           // of the call
  Monotonic patience_end{};       // while it waits: its place in State::patience_
  // What its tokens took from the rates of each payer, until it is known what it used.
  std::array<std::pair<Payer*, Duration>, 3> tokens_taken{};
};

// A live try holds a slot of its account and of its pool until it is settled or its lease has run out.
struct Try {
  TryId id;
  JobId job;
  Account* account = nullptr;
  Group* group = nullptr;  // the account's team when it started
  bool call = false;
  Pool* pool = nullptr;
  Order::Pick pick;
  Durations* took = nullptr;
  SlotTime charged = 0;  // so far
  Monotonic started;
  Monotonic stop_at;  // timeout + grace: asked to stop
  Monotonic lease_until;
  Monotonic timer;  // its place in State::timers_
  bool stop_sent = false;
  bool timed_out = false;  // why it was asked to stop: it took longer than it may
  std::optional<Gate::Pass> pass = {};
  bool lost = false;  // Fault::kTryNotFenced alone: slot given back, yet still believed
};

// A try that was charged before it was known what it used.
struct Late {
  Hold hold;
  LedgerEntry charged;
};

// What work asks to hold.
struct Want {
  policy::Amounts amounts;  // its own count included
  std::string content;
  policy::PricePtr price;
  bool remote = false;
  Money cost;                      // the most one try can cost
  std::int64_t content_count = 1;  // jobs of the content type; more only to be asked for, never to be taken
};

class Engine::State {
 public:
  State(policy::PolicyPtr policy, EngineOptions options);

  // --- accounts.cpp
  void recover(Recovery recovery, Timestamp now, Changes& out);
  Result<EnsuredAccount> ensure_account(std::string_view user_id, AccountId fresh_id, std::string_view plan,
                                        bool set_plan, Timestamp now, Changes& out, std::string_view by);
  Result<AccountRow> change_account(AccountId id, AccountChange change, Timestamp now, Changes& out);
  void apply(policy::PolicyPtr policy, std::uint64_t version, std::uint64_t price_version, Timestamp now,
             Changes& out);

  // --- cached.cpp
  Result<void> count_cached(CachedUse use, Timestamp now, Changes& out);

  // --- calls.cpp
  Result<Admitted> admit(NewCall call, Timestamp now, Changes& out);

  // --- routes.cpp
  void set_overlay(policy::OverlayPtr overlay, Timestamp now, Changes& out);

  // --- holds.cpp
  Result<bool> raise(TryId id, const policy::Amounts& more, Timestamp now, Changes& out);

  // --- commands.cpp
  Result<Submitted> submit(NewJob job, Timestamp now, Changes& out);
  Result<JobRow> cancel(JobId id, std::string_view by, const ColdJob* cold, Timestamp now, Changes& out);
  Result<Submitted> retry(ColdJob cold, Timestamp now, Changes& out);
  void set_draining(bool draining, Timestamp now, Changes& out);

  // --- tries.cpp
  bool settle(TryId try_id, TryOutcome outcome, Timestamp now, Changes& out);
  bool progress(TryId try_id, std::uint8_t percent, std::string_view message, Timestamp now, Changes& out);
  void extend_leases(std::span<const TryId> tries, Timestamp now);

  // --- claims.cpp
  Result<void> claim(NewClaim claim, Timestamp now, Changes& out);
  bool withdraw(ClaimId id);

  // --- runs.cpp
  Result<RunRow> start_run(NewRun run, Timestamp now, Changes& out);
  Result<RunRow> advance_run(RunAdvance advance, Timestamp now, Changes& out);
  Result<RunRow> cancel_run(RunId id, std::string_view by, Timestamp now, Changes& out);
  Result<RunRow> retry_run(ColdRun cold, std::vector<ColdJob> jobs, Timestamp now, Changes& out);

  // --- time.cpp
  Advanced advance(Timestamp now, std::size_t work_max, Changes& out);
  std::optional<Duration> next_wakeup(Timestamp now) const;

  // --- cold.cpp
  bool refill_queue(const RefillQueue& request, std::vector<ColdJob> heads, Timestamp now, Changes& out);
  bool refill_scheduled(const RefillScheduled& request, std::vector<ColdJob> heads, Timestamp now,
                        Changes& out);
  bool refill_expiring(const RefillExpiring& request, std::vector<ColdJob> heads, Timestamp now,
                       Changes& out);
  Result<void> expire_cold(const ColdJob& cold, Timestamp now, Changes& out);

  // --- view.cpp
  // Plays at most `walk_max` starts forward to tell the position; beyond, it is estimated.
  std::optional<QueueView> queue_view(const JobRow& row, Timestamp now, std::size_t walk_max) const;
  Why why(const JobRow& row, Timestamp now) const;
  UsageView usage(const Payer& payer, Timestamp now) const;
  RateView rates(const Account& account, Timestamp now) const;
  Holders holders(const Account& account, std::size_t limit, std::string_view meter) const;
  std::vector<PeriodRow> periods() const;
  Stats stats() const;
  std::vector<PutQueueCount> queue_counts() const;
  std::optional<JobId> startable(Timestamp now) const;
  std::shared_ptr<const LimitReached> limit_at_work(const JobRow& row, Timestamp now) const;
  bool may_start_job(const Queue& queue, Timestamp now) const;

  // --- engine.cpp
  void close_batch(Changes& out);
  bool has_unwritten() const { return !untold_.empty() || !dirty_payers_.empty(); }

  EngineOptions options_;
  policy::PolicyPtr policy_;
  policy::OverlayPtr overlay_ = std::make_shared<const policy::Overlay>();
  Canaries canaries_;
  bool draining_ = false;

  std::map<AccountId, std::unique_ptr<Account>> accounts_;
  AccountMap<Account*> by_id_;
  std::map<std::string, std::unique_ptr<Group>, std::less<>> teams_;
  Group platform_;
  std::unordered_map<std::string, Account*> by_user_;
  std::map<std::string, std::unique_ptr<Pool>, std::less<>> pools_;
  // Jobs come and go all the time, and are too large for the quick bins of malloc.
  std::unique_ptr<std::pmr::unsynchronized_pool_resource> job_memory_ =
      std::make_unique<std::pmr::unsynchronized_pool_resource>();
  std::pmr::unordered_map<JobId, Job> jobs_{job_memory_.get()};
  std::unordered_map<TryId, Try> tries_;
  std::map<ClaimId, NewClaim> claims_;  // that wait; each stands in its pools, where they still take claims
  std::map<std::pair<std::string, std::string>, Durations> durations_;  // by (task, provider)
  std::map<RunId, RunRow> runs_;  // that have not ended, or have live jobs; at most kRunsMax are taken

  Account* find_account(AccountId id) const;

 private:
  // --- accounts.cpp
  const policy::Plan& plan_named(std::string_view name) const;
  Account& add_account(AccountRow row);
  // The plan that its row names, in the version it lives by, with its overrides.
  void refresh_plan(Account& account, Timestamp now);
  void change_plan(Account& account, const policy::Plan& plan, Timestamp now);
  void move_to_plan(Account& account, std::string_view plan, std::string_view by, Timestamp now,
                    Changes& out);
  Group* team_named(std::string_view name);
  void recover_books(std::vector<PeriodRow> rows, Timestamp now, Changes& out);
  Result<void> check_change(const Account& account, const AccountChange& change, Timestamp now) const;

  // --- calls.cpp
  Result<Want> want_of(const Account& account, const NewCall& call, const policy::Amounts& amounts) const;
  std::optional<std::int64_t> output_left(const Account& account, const NewCall& call, Timestamp now) const;
  std::optional<Error> call_refusal(const Account& account, const Want& want, Timestamp now) const;
  // `team`: that it was counted in, which may no longer be its account's.
  void answer(Job& job, const std::string& team, std::optional<Error> error, Changes& out);
  void give_up(JobId id, Error error, Timestamp now, Changes& out);

  // --- holds.cpp
  std::array<Payer*, 3> payers(
      const Account& account) const;  // its own, its team's (or null), the platform's
  policy::Promise const& promise_of(const Payer& payer) const;
  policy::Period period_of(const Payer& payer, Timestamp now) const;
  const Book* current_book(const Payer& payer, Timestamp now) const;  // null: nothing has happened in it yet
  Book& open_book(Payer& payer, Timestamp now, Changes& out);
  void close_book(Payer& payer, Book& book, Timestamp now, Changes& out);
  Book* book_at(Payer& payer, Wall start);
  template <typename Of, typename Look>
  void look_at_books(const Account& account, const Of& of, Look look);
  template <typename Of, typename Each>
  void each_book(const Account& account, const Of& of, Each each);
  void mark(Payer& payer, Book& book);
  // What the payer's grants that match add to a limit.
  template <typename Matches>
  std::int64_t granted(const Payer& payer, Wall now, Matches matches) const;
  std::optional<std::int64_t> limit_of(const Payer& payer, policy::Meter meter, Wall now) const;
  std::optional<std::int64_t> limit_of(const Payer& payer, std::string_view content, Wall now) const;
  std::optional<Money> cap_of(const Payer& payer, Wall now) const;
  bool hard_stop(const Account& account) const;
  // Under a hard cap: what of it has no price.
  std::optional<Error> unpriced(const Account& account, const policy::Price* price,
                                const policy::Amounts& amounts, const std::vector<std::string>& extras) const;
  Result<Want> want_of(const Account& account, const policy::Amounts& estimate, policy::Meter count,
                       std::string content, policy::PricePtr price, bool remote,
                       const std::vector<std::string>& extras) const;
  // The dearest of the upstreams that may serve it. Errors: the first's, where none may.
  Result<Want> want_of(const Account& account, const policy::Amounts& estimate, policy::Meter count,
                       std::string content, const policy::Route& route,
                       const std::vector<std::string>& extras) const;
  Result<Want> want_of(const JobRow& row, const policy::Route& route) const;
  std::optional<Error> refusal(const Account& account, const Want& want, Timestamp now) const;
  std::optional<Error> refusal(const Payer& payer, const Want& want, Timestamp now) const;
  std::optional<Error> refusal(const Payer& payer, const Book* book, const Want& want, Timestamp now) const;
  // Of `more` than the job holds, in the periods that it holds it in.
  std::optional<Error> refusal(const Job& job, const Want& more, Timestamp now);
  // It holds so much more, of those periods; or not at all, if that is refused.
  std::optional<Error> hold_more(Job& job, const Want& more, Timestamp now);
  // Whether `want` would fit if nothing were used or held.
  bool could_ever(const Account& account, const Want& want, Timestamp now) const;
  Error refused(const Payer& payer, std::string meter, ErrorCode code, std::array<std::string, 4> figures,
                const Book* book, Timestamp now) const;
  void take_rates(Account& account, Job& job, std::int64_t tokens, Timestamp now);
  void correct_rates(Job& job, std::int64_t tokens, Timestamp now);
  // Its rate lets more through than its accounts' timers know.
  void let_delayed_in(Payer& payer, Timestamp now);
  bool near_a_limit(const Account& account, const Want& want, Timestamp now) const;
  Hold take(Account& account, Want want, bool call, Timestamp now, Changes& out);
  void let_go(const Account& account, const Hold& hold, bool call);
  void release_hold(Account& account, JobRow& row, bool call);

  // --- charges.cpp
  LedgerEntry entry_of(EntryKind kind, const JobRow& row, const Hold& hold, TryId id, bool call,
                       Timestamp now) const;
  void post(Account& account, LedgerEntry&& entry, const policy::Amounts& debt, Timestamp now, Changes& out);
  void charge_completed(Job& job, TryId id, const Usage& usage, Timestamp now, Changes& out);
  // Charges a try that did not complete. False: nothing is left to hold for another one.
  bool charge_failed(Job& job, TryId id, EntryKind kind, const std::optional<Usage>& billed, Timestamp now,
                     Changes& out);
  void correct_late(TryId id, const TryOutcome& outcome, Timestamp now, Changes& out);
  void forget_late(TryId id);
  void tell_thresholds(const Payer& payer, Book& book, Timestamp now, Changes& out);
  void follow_rules(Account& account, const Book& book, policy::Rule::When when, Timestamp now, Changes& out);

  // --- commands.cpp
  std::optional<Error> queue_full(const Account& account) const;
  Result<std::optional<Submitted>> deduplicate(const NewJob& job, Timestamp now) const;
  JobRow make_row(const NewJob& job, const Account& account, Timestamp now) const;
  Submitted submitted(const JobRow& row, Timestamp now) const;
  // The job is in the engine from here on: with what it holds, or to hold it when it is due. Its row as it
  // was placed.
  JobRow place(const NewJob& job, RunId run, std::optional<Want> held, Timestamp now, Changes& out);
  // Large inputs do not stay in memory while their jobs wait.
  void forget_large_body(JobId id);
  // A job that ended is to run again: with a new set of attempts.
  static void make_fresh(JobRow& row, const Account& account, Timestamp now);
  // `job`: of the row, where it is in memory.
  JobRow end_cancelled(Job* job, JobRow row, std::string_view by, Timestamp now, Changes& out);
  JobRow end_waiting(JobRow row, JobState state, HistoryEntry entry, Timestamp now, Changes& out);

  // --- routes.cpp
  std::size_t route_size(const Job& job) const;
  policy::Candidate candidate_at(const Job& job, std::size_t at) const;
  // The route of a row as its providers are configured and priced today.
  policy::Route route_today(const JobRow& row) const;
  bool may_serve(const Account& account, const policy::Amounts& amounts,
                 const policy::Candidate& candidate) const;
  // Nothing of the provider can run in the pool, for as long as nobody can tell.
  static bool is_out(const Pool& pool, std::string_view provider);
  bool away(const Pool& pool, std::string_view provider, AccountId account, std::int64_t tokens,
            Timestamp now) const;
  bool has_room(const Pool& pool, AccountId account, std::int64_t tokens, Timestamp now) const;
  // Why no upstream of a call's route can be asked now, and when one may be back; nullopt: one can.
  std::optional<Error> all_broken(const Account& account, const policy::Route& route,
                                  const policy::Amounts& amounts, Timestamp now);
  // Whether the job may be served there: what it may cost is held, or can be.
  bool may_go(const Job& job, const policy::Candidate& candidate, Timestamp now);
  // Of the steps [from, to) where it may go: the first whose upstream is there and has room or is waited for;
  // else the last that would let it wait.
  std::optional<std::size_t> best_of(const Job& job, std::size_t from, std::size_t to, bool only_with_room,
                                     Timestamp now);
  // Of its whole route; nothing: there is nowhere that it can pay for.
  std::optional<std::size_t> choose(const Job& job, Timestamp now);
  // Goes there; holds what that may cost, which can be held.
  void aim(Job& job, std::size_t at, Timestamp now);
  // Where it goes when its attempt begins. False: it can pay for nothing on its route.
  bool aim_anew(Job& job, Timestamp now);
  // Of a job whose version a canary decided: how its try went.
  void note_canary(const Job& job, bool completed, Timestamp now, Changes& out);
  // The attempt goes on elsewhere. False: there is nowhere to go.
  bool fall_back(Job& job, const TryFailed& outcome, const Try& attempt, Timestamp now, Changes& out);
  void stand_in_line(Job& job, Timestamp now);
  enum class Passage : std::uint8_t { kStart, kAgain, kShut };
  Passage pass(Pool& pool, Queue& queue, std::size_t& moves, Timestamp now, Changes& out);
  bool move_on(Queue& queue, JobId id, bool only_with_room, Timestamp now, Changes& out);
  void leave(Pool& pool, Timestamp now, Changes& out);
  void shut(Pool& pool, Duration wait, Timestamp now);
  void reopen(Pool& pool, Timestamp now);
  void shape_gate(Pool& pool, Timestamp now);

  // --- claims.cpp
  struct Hand {
    ClaimId claim;
    Order::Pick pick;
  };
  void shape_claims(Pool& pool);
  // Dispatch of a pool whose workers claim its work.
  void hand_out(Pool& pool, Timestamp now, Changes& out);
  std::optional<Hand> next_hand(const Pool& pool) const;
  // True: go on with the next hand.
  bool fill(Pool& pool, Hand hand, std::size_t& moves, Timestamp now, Changes& out);
  static std::size_t claims_of(const Pool& pool);            // that wait, of whatever account
  static bool claimed(const Pool& pool, AccountId account);  // a claim waits that the account's work may fill

  // --- tries.cpp
  void dispatch(Pool& pool, Timestamp now, Changes& out);
  Order::Estimate estimate_in(const Pool& pool) const;
  // Starts the pick's next, if it may. kAgain: not this one, and the ring is another now.
  Passage begin_next(Pool& pool, const Order::Pick& pick, std::size_t& moves, Timestamp now, Changes& out);
  void start(Queue& queue, const Order::Pick& pick, Job& job, Duration timeout, Timestamp now, Changes& out);
  // What remains of the job's time: the attempt's timeout, or less; <= 0: none is left.
  Duration provider_timeout(const Job& job) const;  // of one try; max(): it has none
  Duration time_left(const Job& job, const policy::Plan& plan, Timestamp now) const;
  // `used`: tokens; nothing: as many as it took.
  void release(Try& attempt, Gate::Verdict verdict, std::optional<std::int64_t> used,
               std::optional<Duration> retry_after, Timestamp now);
  void complete(Job& job, TryCompleted outcome, TryId id, Timestamp now, Changes& out);
  // `verdict`: what its end says of the upstream.
  void fail_attempt(Job& job, TryFailed outcome, const Try& attempt, Gate::Verdict verdict, Timestamp now,
                    Changes& out);
  void let_in(Group& group, Timestamp now);
  void fail_unaffordable(Job& job, Timestamp now, Changes& out);
  void fail_job(Job& job, JobError error, Timestamp now, Changes& out);
  void requeue(Job& job, Timestamp now, Changes& out);
  void lose(Job& job, TryId id, std::string_view why, Timestamp now, Changes& out);
  // Whatever comes next was heard of at `now`: a silence too long extends leases.
  void heard(Timestamp now);
  void set_timer(Try& attempt);
  Duration retry_delay(const Job& job, const policy::Backoff& backoff, const TryFailed& outcome) const;

  // --- runs.cpp
  void put_run(const RunRow& row, RunBodyPtr body, Changes& out);
  static void tell_run(EventType type, const RunRow& run, Timestamp now, Changes& out, std::string text);
  std::optional<Error> run_refusal(const Account& account, const NewRun& run, Timestamp now) const;
  void begin_steps(RunRow& run, std::vector<BeginStep> begin, Timestamp now, Changes& out);
  void begin_job(const NewJob& job, RunId run, Timestamp now, Changes& out);
  void let_step_go(const RunRow& run, StepRow& step);
  void run_started(const JobRow& job, Timestamp now, Changes& out);
  void job_of_run_ended(const JobRow& job, Timestamp now, Changes& out);
  void end_run(RunRow& run, JobState state, std::optional<JobError> error, Timestamp now, Changes& out);
  void close_runs(Timestamp now, Changes& out);
  bool run_is_over(const JobRow& job) const;  // it is a step of a run that has ended
  void queue_again(ColdJob cold, Account& account, Timestamp now, Changes& out);
  void recover_runs(std::vector<RunRow> rows, Changes& out);

  // --- time.cpp
  void try_timer(TryId id, Timestamp now, Changes& out);
  void due(JobId id, Timestamp now, Changes& out);
  bool hold_when_due(Job& job, Account& account, Timestamp now, Changes& out);
  void expire(JobId id, Timestamp now, Changes& out);

  // --- cold.cpp
  std::size_t window_max() const;
  // The job stands in its queue, in memory or cold; writes its row. The reference dies if it went cold.
  void enqueue(Job& job, JobBodyPtr first_body, Timestamp now, Changes& out);
  // Likewise, in the queue of another pool: it has waited since before.
  void move_to_queue(Job& job, Timestamp now, Changes& out);
  void put_in_window(Job& job, Queue& queue, Timestamp now, Changes& out);
  void schedule(Job& job, JobBodyPtr first_body, Timestamp now, Changes& out);
  void unqueue(Queue& queue, const JobRow& row, Batch batch);
  void unschedule(Queue& queue, const JobRow& row, Batch batch);
  void forget_expiry(JobRow& row, Batch batch);
  void leave_memory(JobId id, Batch batch);
  bool changed_since(std::uint64_t subject, Batch read_at) const;
  void note_changed(std::uint64_t subject, Batch batch);
  bool is_current(const ColdJob& cold) const;
  void ask_refills(Queue& queue, Changes& out);
  void ask_timed_refills(Changes& out);
  void trim(Queue& queue, Batch batch);

  // --- engine.cpp: small steps used everywhere
  Queue& queue_of(Account& account, std::string_view pool);
  Queue* find_queue(const Account& account, std::string_view pool) const;
  // Of an account that has one there.
  Queue& queue_in(AccountId account, const Pool& pool) const;
  Pool& pool_named(std::string_view name);
  Durations& took(const std::string& task, const std::string& provider);
  struct Blocked {
    WaitingFor by{};
    Duration wait{0};        // kRateLimit: until it may run
    Group* group = nullptr;  // kConcurrencyLimit: whose cap, if not the account's own
  };
  // Why the first of its jobs may not run now; nullopt: it may.
  std::optional<Blocked> blocked(const Queue& queue, Timestamp now) const;
  // Who goes next: a call, or its first job; of a provider that is not paused.
  std::optional<JobId> next_call(const Queue& queue) const;
  std::optional<JobId> next_job(const Queue& queue) const;
  const Job& next_of(const Queue& queue) const;  // of a queue that has one
  // Puts the queue into its pool's ring, or takes it out, as it may run or not.
  void sync_ring(Queue& queue, Timestamp now);
  void sync_rings(Account& account, Timestamp now);
  void count_queued(Queue& queue, std::int64_t delta);
  void count_scheduled(Queue& queue, std::int64_t delta);
  void mark(Queue& queue);
  void touch(Pool& pool);
  void account_for(Pool& pool, Timestamp now);
  void put_job(const JobRow& row, JobBodyPtr body, Changes& out) const;
  void tell(EventType type, const JobRow& row, Timestamp now, Changes& out, std::string text = {},
            std::uint8_t percent = 0) const;
  static void remember(JobRow& row, HistoryEntry entry);
  // Ends every command: starts what may start now, asks for refills.
  void finish(Timestamp now, Changes& out);

  friend class Engine;

  IdSource try_ids_;
  std::set<std::pair<Monotonic, TryId>> timers_;
  std::set<std::pair<Monotonic, AccountId>> rate_timers_;      // accounts that a rate delays
  std::set<std::pair<Monotonic, JobId>> patience_;             // calls that wait for room
  std::set<std::pair<Monotonic, std::uint32_t>> pool_timers_;  // pools that may have room again, by number
  std::vector<Pool*> pools_by_number_;
  // When this process took over from one that may have used every upstream to its limits.
  std::optional<Monotonic> restarted_at_;
  std::unordered_map<TryId, Late> late_;  // at most kLateMax
  std::deque<TryId> late_order_;
  std::vector<Payer*> dirty_payers_;
  std::map<std::uint64_t, policy::PolicyPtr> policies_;  // that grandfathered accounts live by
  std::uint64_t policy_version_ = 0;
  std::uint64_t price_version_ = 0;
  Monotonic heard_{};
  std::set<RunId> closing_;  // runs that have ended, to be looked after before anything starts
  std::set<RunId> asked_;    // of those, whose jobs were asked for (CancelJobs)
  std::unordered_map<JobId, TryId> stopping_;  // jobs that ended while their try still runs
  Window<TimedKey> scheduled_;
  Window<TimedKey> expiring_;
  std::vector<Pool*> touched_;
  std::vector<Queue*> dirty_;
  std::vector<Queue*> untold_;  // whose counts changed since the journal was told
  std::size_t queue_count_ = 0;
  std::uint64_t scheduled_total_ = 0;
  std::uint64_t next_ticket_ = 1;
  // What left memory, or came and went without ever being in it, in recent batches: answers "changed since".
  std::unordered_map<std::uint64_t, Batch> recent_;
  std::deque<std::pair<Batch, std::uint64_t>> recent_order_;
  Batch recent_floor_ = 0;  // changes up to this batch may have been forgotten
};

std::vector<RouteStep> steps_of(const policy::Route& route);

// Names an account's dedupe key among the subjects of "changed since".
std::uint64_t dedupe_subject(AccountId account, std::string_view key);

constexpr std::size_t kBodyInMemoryMax = 4'096;  // larger inputs are read when they run
constexpr std::size_t kLateMax = 10'000;
constexpr Duration kQuotaWait =
    std::chrono::minutes(10);  // looks again at least so often whether there is quota
constexpr std::size_t kRecentMax = 65'536;
constexpr std::size_t kTimedWindowMax = 4'096;
// Starts played forward to tell a position, under the engine's mutex: few where a job is submitted, for that
// is the hot path; more where somebody asks.
constexpr std::size_t kSubmitWalkMax = 64;
constexpr std::size_t kAskWalkMax = 512;
constexpr std::size_t kDelayedLookMax = 256;  // accounts looked at anew when tokens are given back to a rate
constexpr std::size_t kHoldersShown = 10;
constexpr std::size_t kPositionAccountsMax = 128;  // accounts in the pool's rings up to which they are played

}  // namespace turnpike::engine

#include "node/open_batch.h"

#include <variant>

namespace turnpike::node {
namespace {

constexpr std::size_t kKeptCapacity = 4096;  // rows whose memory is kept for the next batch
constexpr std::size_t kRowBytes = 256;       // a row without its texts

std::size_t text_bytes(const engine::PutJob& put) {
  return kRowBytes + put.row.output.size() +
         (put.body ? put.body->input.size() + put.body->metadata.size() : 0);
}

std::size_t text_bytes(const engine::PutRun& put) {
  return kRowBytes + put.row.output.size() +
         (put.body ? put.body->workflow.size() + put.body->input.size() + put.body->metadata.size() : 0);
}

}  // namespace

void OpenBatch::begin(engine::Batch number) {
  if (commit_.mutations.capacity() > kKeptCapacity) {
    *this = OpenBatch{};
  } else {
    commit_.mutations.clear();
    commit_.records.clear();
    commit_.events.clear();
    effects_.clear();
    jobs_.clear();
    accounts_.clear();
    runs_.clear();
    bytes_ = 0;
  }
  commit_.batch = number;
}

template <typename Map, typename Key>
engine::Mutation* OpenBatch::find(const Map& map, const Key& key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : &commit_.mutations[found->second];
}

template <typename Map, typename Key>
void OpenBatch::append(Map& map, Key key, engine::Mutation mutation) {
  map.emplace(std::move(key), static_cast<Index>(commit_.mutations.size()));
  commit_.mutations.push_back(std::move(mutation));
}

void OpenBatch::put(engine::PutJob put) {
  bytes_ += text_bytes(put);
  const JobId id = put.row.id;
  engine::Mutation* known = find(jobs_, id);
  if (known == nullptr) return append(jobs_, id, std::move(put));
  auto* before = std::get_if<engine::PutJob>(known);
  if (before != nullptr && !put.body) put.body = std::move(before->body);
  *known = std::move(put);
}

void OpenBatch::put(engine::DropJob drop) {
  if (engine::Mutation* known = find(jobs_, drop.id)) {
    *known = drop;
  } else {
    append(jobs_, drop.id, drop);
  }
}

void OpenBatch::put(engine::PutRun put) {
  bytes_ += text_bytes(put);
  const RunId id = put.row.id;
  engine::Mutation* known = find(runs_, id);
  if (known == nullptr) return append(runs_, id, std::move(put));
  if (!put.body) put.body = std::move(std::get<engine::PutRun>(*known).body);
  *known = std::move(put);
}

void OpenBatch::put(engine::PutAccount put) {
  bytes_ += kRowBytes;
  const AccountId id = put.row.id;
  if (engine::Mutation* known = find(accounts_, id)) {
    *known = std::move(put);
  } else {
    append(accounts_, id, std::move(put));
  }
}

template <typename Row>
void OpenBatch::put(Row row) {
  bytes_ += kRowBytes;
  commit_.mutations.emplace_back(std::move(row));
}

// Whoever moved an account to another plan: it stands in the audit log with the batch that moved it.
void OpenBatch::audit(const engine::Event& event) {
  constexpr std::string_view kBy = R"("by":")";
  const std::size_t by = event.text.find(kBy) + kBy.size();
  add(journal::AuditRow{.at = event.at,
                        .actor = event.text.substr(by, event.text.find('"', by) - by),
                        .action = "account.plan_changed",
                        .subject = to_string(event.account),
                        .detail = event.text});
}

void OpenBatch::absorb(engine::Changes& changes) {
  for (const engine::Event& event : changes.events) {
    if (event.type == engine::EventType::kPlanChanged) audit(event);
  }
  for (engine::Mutation& mutation : changes.mutations) {
    std::visit([this](auto& row) { put(std::move(row)); }, mutation);
  }
  commit_.events.insert(commit_.events.end(), std::make_move_iterator(changes.events.begin()),
                        std::make_move_iterator(changes.events.end()));
  effects_.insert(effects_.end(), std::make_move_iterator(changes.effects.begin()),
                  std::make_move_iterator(changes.effects.end()));
  changes.mutations.clear();
  changes.events.clear();
  changes.effects.clear();
}

void OpenBatch::add(journal::Record record) {
  bytes_ += kRowBytes;
  if (const auto* stored = std::get_if<journal::IdempotencyRow>(&record)) bytes_ += stored->body.size();
  commit_.records.push_back(std::move(record));
}

const engine::JobRow* OpenBatch::job(JobId id) const {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return nullptr;
  const auto* put = std::get_if<engine::PutJob>(&commit_.mutations[found->second]);
  return put == nullptr ? nullptr : &put->row;
}

const engine::RunRow* OpenBatch::run(RunId id) const {
  const auto found = runs_.find(id);
  return found == runs_.end() ? nullptr : &std::get<engine::PutRun>(commit_.mutations[found->second]).row;
}

}  // namespace turnpike::node

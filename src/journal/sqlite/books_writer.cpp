#include "journal/sqlite/books_writer.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "journal/pack.h"

namespace turnpike::journal::sqlite {

Result<void> BooksWriter::open(Batch last_batch) {
  const auto folded = folded_to(db_);
  if (!folded) return std::unexpected(folded.error());
  if (*folded == last_batch) return {};
  auto periods = changed_periods(db_, *folded);
  if (!periods) return std::unexpected(periods.error());
  auto sums = uncounted_sums(db_, *folded, [](const UsageKey&) { return true; });
  if (!sums) return std::unexpected(sums.error());
  for (auto& [key, row] : *periods) periods_.push_back(std::move(row));
  for (auto& [key, sum] : *sums) usage_.emplace_back(key, sum);
  folding_to_ = last_batch;
  int code = db_.statement("BEGIN IMMEDIATE").run();
  if (code == SQLITE_OK) code = folding() ? fold(SIZE_MAX) : finish_fold();
  if (code == SQLITE_OK) code = db_.statement("COMMIT").run();
  if (code == SQLITE_OK) return {};
  auto error = db_.error("cannot bring the books up to date");
  db_.exec("ROLLBACK");
  return std::unexpected(std::move(error));
}

int BooksWriter::write(const Commit& commit) {
  entries_.clear();
  changed_.clear();
  for (const auto& mutation : commit.mutations) {
    if (const auto* add = std::get_if<engine::AddEntry>(&mutation)) {
      entries_.push_back(&add->entry);
    } else if (const auto* put = std::get_if<engine::PutPeriod>(&mutation)) {
      changed_.push_back(&put->row);
    }
  }
  if (!entries_.empty() || !changed_.empty()) {
    if (const int code = charge(commit); code != SQLITE_OK) return code;
    if (const int code = change(commit); code != SQLITE_OK) return code;
    ++gathered_batches_;
    const std::size_t rows = gathered_periods_.size() + 2 * gathered_usage_.size();
    if (gathered_batches_ >= kGatherBatches || rows >= kGatherRowsMax) {
      if (const int code = close(commit.batch); code != SQLITE_OK) return code;
    }
  }
  return folding() ? fold(slice_rows_) : SQLITE_OK;
}

int BooksWriter::charge(const Commit& commit) {
  if (entries_.empty()) return SQLITE_OK;
  for (const auto* entry : entries_) gathered_usage_.add(*entry);
  packed_.clear();
  pack_entries(entries_, commit.at, packed_);
  auto& insert = db_.statement("INSERT INTO ledger(batch, at, entries) VALUES(?1, ?2, ?3)");
  insert.bind_id(1, commit.batch);
  insert.bind(2, unix_micros(commit.at));
  insert.bind_blob(3, packed_);
  return insert.run();
}

int BooksWriter::change(const Commit& commit) {
  if (changed_.empty()) return SQLITE_OK;
  for (const auto* row : changed_) gathered_periods_.insert_or_assign(key_of(*row), *row);
  packed_.clear();
  pack_periods(changed_, packed_);
  auto& insert = db_.statement("INSERT INTO period_changes(batch, changed) VALUES(?1, ?2)");
  insert.bind_id(1, commit.batch);
  insert.bind_blob(2, packed_);
  return insert.run();
}

// --- Folding

int BooksWriter::close(Batch batch) {
  if (folding()) {
    if (const int code = fold(SIZE_MAX); code != SQLITE_OK) return code;
  }
  auto sums = gathered_usage_.take();
  usage_.reserve(sums.size());
  for (auto it = sums.rbegin(); it != sums.rend(); ++it) usage_.emplace_back(it->first, it->second);
  periods_.reserve(gathered_periods_.size());
  for (auto it = gathered_periods_.rbegin(); it != gathered_periods_.rend(); ++it)
    periods_.push_back(std::move(it->second));
  gathered_periods_.clear();
  // In as many commits as they were gathered in: before the next are, unless these come faster.
  const std::size_t batches = std::exchange(gathered_batches_, 0);
  slice_rows_ = std::max(kSliceRows, (periods_.size() + usage_.size() + batches - 1) / batches);
  folding_to_ = batch;
  return folding() ? SQLITE_OK : finish_fold();
}

int BooksWriter::fold_all(Batch last_batch) {
  if (gathered_batches_ > 0) {
    if (const int code = close(last_batch); code != SQLITE_OK) return code;
  }
  return folding() ? fold(SIZE_MAX) : SQLITE_OK;
}

int BooksWriter::fold(std::size_t rows_max) {
  for (; rows_max > 0 && !periods_.empty(); --rows_max, periods_.pop_back()) {
    if (const int code = put(periods_.back()); code != SQLITE_OK) return code;
  }
  for (; rows_max > 0 && !usage_.empty(); --rows_max, usage_.pop_back()) {
    if (const int code = put(usage_.back().first, usage_.back().second); code != SQLITE_OK) return code;
  }
  return folding() ? SQLITE_OK : finish_fold();
}

int BooksWriter::finish_fold() {
  auto& folded = db_.statement("UPDATE folded SET batch=?1 WHERE id=1");
  folded.bind_id(1, folding_to_);
  if (const int code = folded.run(); code != SQLITE_OK) return code;
  auto& done = db_.statement("DELETE FROM period_changes WHERE batch<=?1");
  done.bind_id(1, folding_to_);
  return done.run();
}

int BooksWriter::put(const engine::PeriodRow& row) {
  packed_.clear();
  pack_period(row, packed_);
  auto& insert = db_.statement(
      "INSERT INTO periods(scope, account, team, start, ends, current, open, books) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
      "ON CONFLICT(scope, account, team, start) DO UPDATE SET ends=?5, current=?6, open=?7, books=?8");
  insert.bind(1, static_cast<std::int64_t>(row.scope));
  insert.bind_id(2, row.account.value);
  insert.bind_text(3, row.team);
  insert.bind(4, unix_micros(row.start));
  insert.bind(5, unix_micros(row.end));
  insert.bind(6, row.current ? 1 : 0);
  insert.bind(7, row.current || row.holds > 0 ? 1 : 0);
  insert.bind_blob(8, packed_);
  return insert.run();
}

int BooksWriter::put(const UsageKey& key, const UsageSum& sum) {
  auto& add = db_.statement(
      "INSERT INTO usage VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, "
      "?18, ?19, ?20, ?21, ?22) ON CONFLICT DO UPDATE SET completed=completed+?8, failed=failed+?9, "
      "cost=cost+?10, tokens=tokens+?11, input_tokens=input_tokens+?12, cached_tokens=cached_tokens+?13, "
      "output_tokens=output_tokens+?14, characters=characters+?15, audio_ms=audio_ms+?16, "
      "video_ms=video_ms+?17, images=images+?18, pixels=pixels+?19, jobs=jobs+?20, calls=calls+?21, "
      "batch=?22");
  add.bind(1, static_cast<std::int64_t>(key.grain));
  add.bind(2, unix_micros(key.at));
  add.bind_id(3, key.account.value);
  add.bind_text(4, key.plan);
  add.bind_text(5, key.task);
  add.bind_text(6, key.model);
  add.bind_text(7, key.provider);
  add.bind(8, sum.completed);
  add.bind(9, sum.failed);
  add.bind(10, sum.cost.nanos);
  for (std::size_t i = 0; i < policy::kMeterCount; ++i) add.bind(11 + static_cast<int>(i), sum.meters.of[i]);
  add.bind_id(22, folding_to_);
  return add.run();
}

}  // namespace turnpike::journal::sqlite

// The part of the writer that keeps the books: the ledger, the periods and the rollups.
//
// A batch writes its entries in one row of the ledger and the periods it changed in one row of
// period_changes. What these mean for tables `periods` and `usage` is gathered in memory and folded into them
// later, a slice with each commit, so that what changes in every batch is written once in many. Nothing is
// less durable for it: a batch's two rows are in its own commit, readers lay them over the tables
// (unfolded.h), and opening folds them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "journal/journal.h"
#include "journal/sqlite/database.h"
#include "journal/sqlite/unfolded.h"
#include "journal/usage_sums.h"

namespace turnpike::journal::sqlite {

class BooksWriter {
 public:
  // After so many batches that changed books, or so many rows to be written, what was gathered begins to be
  // folded. Readers look through twice as many batches at most: those gathered, and those that are being
  // folded.
  static constexpr std::size_t kGatherBatches = 16;
  static constexpr std::size_t kGatherRowsMax = 32'768;
  // Rows that one commit folds, if there are; more if these would not do before the next are gathered.
  static constexpr std::size_t kSliceRows = 256;

  // `connection` outlives this and has the schema.
  explicit BooksWriter(Connection& connection) : db_(connection) {}

  // Folds what an earlier run left, in a transaction of its own.
  Result<void> open(Batch last_batch);

  // Within the transaction of a commit. They give SQLITE_OK or the error of the first statement that failed,
  // after which this is not to be used any more.
  int write(const Commit& commit);
  int fold_all(Batch last_batch);

 private:
  int charge(const Commit& commit);
  int change(const Commit& commit);
  // What was gathered up to `batch` is to be folded from here on; of what was before it, nothing is left.
  int close(Batch batch);
  int fold(std::size_t rows_max);
  int finish_fold();
  int put(const engine::PeriodRow& row);
  int put(const UsageKey& key, const UsageSum& sum);
  bool folding() const { return !periods_.empty() || !usage_.empty(); }

  Connection& db_;
  // Of batches after those that are being folded.
  PeriodRows gathered_periods_;
  UsageHours gathered_usage_;
  std::size_t gathered_batches_ = 0;
  // What is being folded; it is taken from the ends, which are the first in the order of their tables.
  std::vector<engine::PeriodRow> periods_;
  std::vector<std::pair<UsageKey, UsageSum>> usage_;
  Batch folding_to_ = 0;                             // the batch up to which it goes
  std::size_t slice_rows_ = 0;                       // that each commit folds of it
  std::string packed_;                               // reused buffer
  std::vector<const engine::LedgerEntry*> entries_;  // reused: of the commit being written
  std::vector<const engine::PeriodRow*> changed_;    // likewise
};

}  // namespace turnpike::journal::sqlite

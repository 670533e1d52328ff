// The part of the reader that finds a page of a list of jobs or runs, filtered by account, state and a name.
#include <algorithm>

#include "journal/sqlite/reader.h"
#include "journal/sqlite/snapshot.h"

namespace turnpike::journal::sqlite {
namespace {

using engine::JobState;

void bind_bounds(Statement& statement, const Reader::ListQuery& query) {
  statement.bind_id(1, query.above);
  statement.bind_id(2, query.below > 0 ? query.below : static_cast<std::uint64_t>(INT64_MAX));
  statement.bind(3, static_cast<std::int64_t>(query.count));
}

// Keeps those `count` ids that the page shows.
void keep_page(std::vector<std::uint64_t>& ids, const Reader::ListQuery& query) {
  std::ranges::sort(ids);
  if (query.newest()) std::ranges::reverse(ids);
  if (ids.size() > query.count) ids.resize(query.count);
}

}  // namespace

// Adds the first ids of each group in `state` that the query means. A list of some account, status or name is
// merged from groups of the same three, which the index holds in order; groups are found by jumping from one
// to the next.
void Reader::group_ids(const ListStatements& sql, const ListQuery& query, JobState state,
                       std::vector<std::uint64_t>& ids) {
  std::int64_t account = query.account ? static_cast<std::int64_t>(query.account->value) : -1;
  std::string name;
  const auto jump = [&](const char* to) {  // to the next group; false: none
    auto& statement = db_.statement(to);
    const StatementScope scope(statement);
    statement.bind(1, static_cast<std::int64_t>(state));
    statement.bind(2, account);
    if (to == sql.next_name) statement.bind_text(3, name);
    if (!next(statement)) return false;
    account = statement.integer(0);
    name = statement.text(1);
    return true;
  };
  const auto take = [&](std::string_view of_name) {
    auto& statement = db_.statement(query.newest() ? sql.group_newest : sql.group_oldest);
    const StatementScope scope(statement);
    bind_bounds(statement, query);
    statement.bind(4, static_cast<std::int64_t>(state));
    statement.bind(5, account);
    statement.bind_text(6, of_name);
    while (next(statement)) ids.push_back(statement.id(0));
    if (ids.size() > 100 * kPageMax) keep_page(ids, query);
  };
  if (!query.name.empty()) {
    if (query.account) return take(query.name);
    while (jump(sql.next_account)) take(query.name);
    return;
  }
  if (!query.account && !jump(sql.next_account)) return;
  if (!query.account) take(name);
  while (jump(sql.next_name) || (!query.account && jump(sql.next_account))) take(name);
}

std::vector<std::uint64_t> Reader::list_ids(const ListStatements& sql, const ListQuery& query) {
  std::vector<std::uint64_t> ids;
  if (!query.account && !query.state && query.name.empty()) {
    auto& statement = db_.statement(query.newest() ? sql.all_newest : sql.all_oldest);
    const StatementScope scope(statement);
    bind_bounds(statement, query);
    while (next(statement)) ids.push_back(statement.id(0));
    return ids;
  }
  constexpr auto kLast = static_cast<int>(JobState::kExpired);
  for (int i = 0; i <= kLast; ++i) {
    const auto state = static_cast<JobState>(i);
    if (!query.state || *query.state == state) group_ids(sql, query, state, ids);
  }
  keep_page(ids, query);
  return ids;
}

}  // namespace turnpike::journal::sqlite

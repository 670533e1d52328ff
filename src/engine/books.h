// The parts of the books of periods that holding (holds.cpp) and charging (charges.cpp) share.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {

inline policy::Meter meter_at(std::size_t index) {
  return static_cast<policy::Meter>(index);
}

inline PeriodRow::Content* content_of(PeriodRow& row, std::string_view type) {
  const auto found = std::ranges::find(row.content, type, &PeriodRow::Content::type);
  return found == row.content.end() ? nullptr : &*found;
}
inline const PeriodRow::Content* content_of(const PeriodRow& row, std::string_view type) {
  const auto found = std::ranges::find(row.content, type, &PeriodRow::Content::type);
  return found == row.content.end() ? nullptr : &*found;
}

inline PeriodRow::Content& content_made(PeriodRow& row, const std::string& type) {
  if (auto* known = content_of(row, type)) return *known;
  return row.content.emplace_back(PeriodRow::Content{.type = type});
}

// `of`: a hold, or an entry, which name the same periods. What is looked at does not change.
template <typename Of, typename Look>
void Engine::State::look_at_books(const Account& account, const Of& of, Look look) {
  const auto visit = [&](Payer* payer, Wall start) {
    if (payer == nullptr || start == kNever) return;
    Book* book = book_at(*payer, start);
    CHECK(book != nullptr);  // books stay while something is held in them, or may still be corrected
    look(*payer, *book);
  };
  visit(const_cast<Account*>(&account), of.account_period);
  if (!of.team.empty()) visit(team_named(of.team), of.team_period);
  visit(&platform_, of.platform_period);
}

template <typename Of, typename Each>
void Engine::State::each_book(const Account& account, const Of& of, Each each) {
  look_at_books(account, of, [&](Payer& payer, Book& book) {
    each(payer, book);
    mark(payer, book);
  });
}

}  // namespace turnpike::engine

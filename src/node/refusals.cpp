#include "node/refusals.h"

#include <algorithm>
#include <utility>

namespace turnpike::node {
namespace {

constexpr std::size_t kAccountBytes = 32;  // of an account's id in a key

// Not within a character.
void cut(std::string& text) {
  if (text.size() <= Refusals::kTextMax) return;
  std::size_t length = Refusals::kTextMax;
  while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0U) == 0x80) --length;
  text.resize(length);
}

std::string key_of(AccountId account, std::string_view request_id) {
  return to_string(account) + ' ' + std::string(request_id);
}

std::size_t bytes_of(const Refusal& refusal) {
  std::size_t bytes = sizeof(Refusal) + 3 * refusal.request_id.size() + kAccountBytes +
                      refusal.method.size() + refusal.path.size() + refusal.task.size() +
                      refusal.model.size() + refusal.plan.size() + refusal.message.size() +
                      refusal.upgrade_to.size();
  if (refusal.limit != nullptr) bytes += sizeof(LimitReached);
  if (refusal.held_by) bytes += refusal.held_by->size() * sizeof(engine::Holder);
  return bytes;
}

}  // namespace

void Refusals::keep(Refusal refusal) {
  cut(refusal.message);
  cut(refusal.path);
  const Kept kept = std::make_shared<const Refusal>(std::move(refusal));
  std::string account_key = key_of(kept->account, kept->request_id);
  const std::scoped_lock lock(mutex_);
  while (!order_.empty() && (order_.size() >= kKept || kept->at - order_.front()->at > kKeptFor))
    drop_oldest();
  bytes_ += bytes_of(*kept);
  order_.push_back(kept);
  by_request_[kept->request_id] = kept;
  by_account_[std::move(account_key)] = kept;
  while (bytes_ > kBytesMax) drop_oldest();
}

void Refusals::drop_oldest() {
  const Kept oldest = std::move(order_.front());
  order_.pop_front();
  bytes_ -= bytes_of(*oldest);
  const auto forget = [&oldest](auto& index, const std::string& key) {
    const auto found = index.find(key);
    if (found != index.end() && found->second == oldest) index.erase(found);
  };
  forget(by_request_, oldest->request_id);
  forget(by_account_, key_of(oldest->account, oldest->request_id));
}

std::shared_ptr<const Refusal> Refusals::find(std::string_view request_id, std::optional<AccountId> account,
                                              Wall now) const {
  const std::string key = account ? key_of(*account, request_id) : std::string(request_id);
  const std::scoped_lock lock(mutex_);
  const auto& index = account ? by_account_ : by_request_;
  const auto found = index.find(key);
  if (found == index.end() || now - found->second->at > kKeptFor) return nullptr;
  return found->second;
}

std::size_t Refusals::size() const {
  const std::scoped_lock lock(mutex_);
  return order_.size();
}

bool LookBudget::may_look(Monotonic now) {
  if (filled_ == Monotonic{}) filled_ = now;
  const std::int64_t passed = std::clamp<std::int64_t>((now - filled_).count(), 0, 1'000'000);
  const std::int64_t more = passed * kJobsPerSecond / 1'000'000;
  // A part of a job is not lost: time goes on only with what it has given.
  if (more > 0) {
    left_ = std::min(kJobsPerSecond, left_ + more);
    filled_ = now;
  }
  return left_ > 0;
}

}  // namespace turnpike::node

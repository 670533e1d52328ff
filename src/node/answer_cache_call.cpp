#include "node/answer_cache_call.h"

#include <utility>

namespace turnpike::node {
namespace asio = boost::asio;
namespace {

constexpr int kStatusOk = 200;

class Tee final : public provider::ReplySink {
 public:
  Tee(std::shared_ptr<provider::ReplySink> client, std::shared_ptr<CachedCall> call)
      : client_(std::move(client)), call_(std::move(call)) {}

  void head(int status, std::string content_type) override {
    if (status != kStatusOk) call_->cut();
    call_->begun(content_type);
    client_->head(status, std::move(content_type));
  }

  asio::awaitable<bool> write(std::string bytes) override {
    call_->add(bytes);
    if (!client_left_) {
      auto writing = client_->write(std::move(bytes));
      client_left_ = !co_await std::move(writing);
    }
    if (!client_left_ || call_->followed()) co_return true;
    call_->cut();  // what comes from here on is read for its usage alone
    co_return false;
  }

  asio::awaitable<bool> spend(std::int64_t output_tokens) override {
    auto spending = client_->spend(output_tokens);
    const bool more = co_await std::move(spending);
    if (!more) call_->cut();
    co_return more;
  }

 private:
  const std::shared_ptr<provider::ReplySink> client_;
  const std::shared_ptr<CachedCall> call_;
  bool client_left_ = false;
};

}  // namespace

std::shared_ptr<provider::ReplySink> cached_sink(std::shared_ptr<provider::ReplySink> client,
                                                 std::shared_ptr<CachedCall> call) {
  return std::make_shared<Tee>(std::move(client), std::move(call));
}

CachedCall::CachedCall(AnswerCache& cache, Terms terms, Lead lead)
    : cache_(cache), terms_(std::move(terms)), lead_(std::move(lead)) {}

void CachedCall::begun(std::string content_type) {
  const std::scoped_lock lock(mutex_);
  if (ended_) return;
  begun_ = true;
  answer_->content_type = content_type;
  if (lead_) lead_.head(std::move(content_type));
}

void CachedCall::add(std::string_view bytes) {
  const std::scoped_lock lock(mutex_);
  if (ended_) return;
  if (lead_) lead_.write(bytes);
  if (too_long_) return;
  if (answer_->body.size() + bytes.size() > terms_.bytes_max) {
    too_long_ = true;
    answer_->body = {};
    answer_->events = {};
    return;
  }
  answer_->events.push_back(static_cast<std::uint32_t>(bytes.size()));
  answer_->body += bytes;
}

void CachedCall::cut() {
  const std::scoped_lock lock(mutex_);
  cut_ = true;
}

bool CachedCall::followed() const {
  const std::scoped_lock lock(mutex_);
  return lead_.followed();
}

void CachedCall::reply(const CallReply& reply) {
  const std::scoped_lock lock(mutex_);
  if (ended_) return;
  replied_ = true;
  status_ = reply.status;
  param_ = reply.param;
  if (terms_.stream) {
    answer_->ending = reply.stream_end;
  } else {
    answer_->content_type = reply.content_type;
    answer_->body = reply.body;
  }
}

AnswerPtr CachedCall::answer_of(const engine::JobRow& row, Wall now) {
  answer_->created_at = now;
  answer_->expires_at = now + terms_.ttl;
  answer_->provider = row.provider;
  answer_->model = row.model;
  answer_->version = row.model_version;
  answer_->cost = row.cost;
  answer_->usage = row.usage;
  answer_->stream = terms_.stream;
  if (!replied_) {  // a call by task
    answer_->content_type = "application/json";
    answer_->body = row.output;
  }
  return std::move(answer_);
}

void CachedCall::ended(const engine::JobRow& row, bool refused, Wall now) {
  const std::scoped_lock lock(mutex_);
  if (std::exchange(ended_, true)) return;
  const bool whole = !refused && row.state == engine::JobState::kCompleted && status_ == kStatusOk &&
                     terms_.stream == begun_ && !cut_ &&
                     row.artifacts.empty();  // files are kept by their own rules, and not here
  if (whole) {
    const bool as_asked = row.model == terms_.model && row.model_version == terms_.model_version &&
                          row.upstream_model == terms_.upstream_model;
    const AnswerPtr answer = answer_of(row, now);
    // Before it lands: who comes next finds it.
    if (as_asked && !too_long_) cache_.keep(terms_.key, answer, now);
    if (lead_) lead_.land(answer);
    return;
  }
  if (!lead_) return;
  // The same input would be refused to everyone; what befell this account or its try need not befall another.
  if (!refused && row.error && row.error->code == "invalid_input") {
    lead_.fail(turnpike::fail(ErrorCode::kInvalidRequest, row.error->message, param_).error());
  } else {
    lead_.give_up();
  }
}

}  // namespace turnpike::node

#include "node/readers.h"

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <exception>
#include <limits>
#include <utility>

#include "node/log.h"

namespace turnpike::node {
namespace asio = boost::asio;
namespace {

// Work that throws is a bug: it is contained, so that whoever waits is resumed.
void run_contained(Readers::Work& work) {
  try {
    work();
  } catch (const std::exception& error) {
    log_event(LogLevel::kError, "reader.exception", {{"what", error.what()}});
  }
}

void post_resume(const asio::any_io_executor& executor, Resume resume, bool done) {
  if (!resume) return;
  asio::post(executor, [resume = std::move(resume), done]() mutable { resume(done); });
}

}  // namespace

Readers::Readers(std::size_t threads, std::size_t waiting_max) : waiting_max_(waiting_max) {
  threads_.reserve(threads);
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work_loop(); });
}

Readers::~Readers() {
  stop();
}

void Readers::stop() {
  std::vector<std::thread> ending;
  std::deque<Request> own;
  std::deque<Request> refused;
  {
    const std::scoped_lock lock(mutex_);
    stopped_ = true;
    ending.swap(threads_);
    own.swap(own_);
    refused.swap(requests_);
  }
  ready_.notify_all();
  for (std::thread& thread : ending) thread.join();
  for (Request& request : own) post_resume(request.executor, std::move(request.resume), false);
  for (Request& request : refused) post_resume(request.executor, std::move(request.resume), false);
}

void Readers::work_loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    ready_.wait(lock, [this] { return stopped_ || !own_.empty() || !requests_.empty(); });
    if (stopped_) return;
    std::deque<Request>& queue = own_.empty() ? requests_ : own_;
    Request next = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    run_contained(next.work);
    next.work = nullptr;
    post_resume(next.executor, std::move(next.resume), true);
    lock.lock();
  }
}

void Readers::add(std::deque<Request>& queue, std::size_t waiting_max, Request request) {
  {
    const std::scoped_lock lock(mutex_);
    if (!stopped_ && queue.size() < waiting_max) {
      queue.push_back(std::move(request));
      ready_.notify_one();
      return;
    }
  }
  post_resume(request.executor, std::move(request.resume), false);
}

asio::awaitable<Result<void>> Readers::run_in(std::deque<Request>& queue, std::size_t waiting_max,
                                              Work work) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto start = [this, &queue, waiting_max, executor, work = std::move(work)](Resume resume) mutable {
    add(queue, waiting_max,
        Request{.work = std::move(work), .resume = std::move(resume), .executor = executor});
  };
  const bool done = co_await suspend(std::move(start));
  if (done) co_return Result<void>{};
  Error refused;
  refused.code = ErrorCode::kUnavailable;
  refused.message = "too many reads wait already; try again in a moment";
  refused.retryable = true;
  refused.retry_after = std::chrono::seconds(1);
  co_return std::unexpected(std::move(refused));
}

asio::awaitable<Result<void>> Readers::run(Work work) {
  return run_in(requests_, waiting_max_, std::move(work));
}

asio::awaitable<Result<void>> Readers::run_own(Work work) {
  return run_in(own_, std::numeric_limits<std::size_t>::max(), std::move(work));
}

void Readers::post_own(Work work) {
  add(own_, std::numeric_limits<std::size_t>::max(),
      Request{.work = std::move(work), .resume = {}, .executor = {}});
}

}  // namespace turnpike::node

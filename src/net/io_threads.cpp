#include "net/io_threads.h"

#include <pthread.h>

#include <boost/asio/executor_work_guard.hpp>
#include <string>

#include "base/check.h"

namespace turnpike::net {

IoThreads::IoThreads(std::size_t count) {
  CHECK(count > 0);
  for (std::size_t i = 0; i < count; ++i) {
    // 1: a single thread runs each context, so that its own posts wake nobody.
    contexts_.push_back(std::make_unique<boost::asio::io_context>(1));
    work_.push_back(boost::asio::make_work_guard(*contexts_.back()));
  }
  for (std::size_t i = 0; i < count; ++i) {
    threads_.emplace_back([context = contexts_[i].get()] { context->run(); });
    const std::string name = "io-" + std::to_string(i);
    pthread_setname_np(threads_.back().native_handle(), name.c_str());
  }
}

IoThreads::~IoThreads() {
  stop();
}

void IoThreads::stop() {
  work_.clear();
  for (const auto& context : contexts_) context->stop();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace turnpike::net

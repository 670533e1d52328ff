#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include "net/parser.h"
#include "net/text.h"

namespace turnpike::net {
namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;
using View = boost::beast::string_view;

constexpr std::uint32_t kHeaderBytesMax = 64 * 1024;

class Message final : public http::basic_parser<false> {
 public:
  Message(bool to_head, std::uint64_t body_bytes_max, ResponseParser::OnBytes on_bytes)
      : on_bytes_(std::move(on_bytes)), body_bytes_max_(body_bytes_max) {
    header_limit(kHeaderBytesMax);
    body_limit(boost::none);  // counted here
    skip(to_head);
    eager(true);
  }

  int status = 0;
  Headers headers;
  bool too_large = false;
  bool stopped = false;
  std::string fault;

 private:
  void on_request_impl(http::verb, View, View, int, error_code&) override {}
  void on_response_impl(int code, View, int, error_code&) override { status = code; }

  void on_field_impl(http::field field, View name, View value, error_code& ec) override {
    if (head_done_) return;
    if (headers.size() == kFieldsMax) {
      fault = "too many header fields";
      ec = http::error::bad_field;
      return;
    }
    if (field == http::field::transfer_encoding && !equals_ignoring_case(value, "chunked")) {
      fault = "a transfer encoding that was not asked for";
      ec = http::error::bad_transfer_encoding;
      return;
    }
    headers.emplace_back(name, value);
  }

  void on_header_impl(error_code&) override { head_done_ = true; }
  void on_body_init_impl(const boost::optional<std::uint64_t>& length, error_code& ec) override {
    if (length && *length > body_bytes_max_) overflow(ec);
  }

  std::size_t on_body_impl(View bytes, error_code& ec) override {
    body_bytes_ += bytes.size();
    if (body_bytes_ > body_bytes_max_) {
      overflow(ec);
    } else if (!on_bytes_(bytes)) {
      stopped = true;
      ec = http::error::end_of_stream;
    }
    return bytes.size();
  }
  void on_chunk_header_impl(std::uint64_t, View, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, View bytes, error_code& ec) override {
    return on_body_impl(bytes, ec);
  }
  void on_finish_impl(error_code&) override {}

  void overflow(error_code& ec) {
    too_large = true;
    fault = "the answer is too large";
    ec = http::error::body_limit;
  }

  ResponseParser::OnBytes on_bytes_;
  std::uint64_t body_bytes_max_;
  std::uint64_t body_bytes_ = 0;
  bool head_done_ = false;
};

}  // namespace

struct ResponseParser::Impl {
  Impl(bool to_head, std::uint64_t body_bytes_max, OnBytes on_bytes)
      : message(to_head, body_bytes_max, std::move(on_bytes)) {}

  void settle(error_code ec) {
    if (message.stopped || (!ec && message.is_done())) {
      state = ParseState::kDone;
    } else if (ec && ec != http::error::need_more) {
      state = ParseState::kFailed;
      if (message.fault.empty()) message.fault = "not a well-formed HTTP response: " + ec.message();
    } else if (message.is_header_done()) {
      state = ParseState::kBody;
    }
  }

  Message message;
  ParseState state = ParseState::kHead;
};

ResponseParser::ResponseParser(bool to_head, std::uint64_t body_bytes_max, OnBytes on_bytes)
    : impl_(std::make_unique<Impl>(to_head, body_bytes_max, std::move(on_bytes))) {}
ResponseParser::~ResponseParser() = default;

std::size_t ResponseParser::feed(std::string_view bytes) {
  if (bytes.empty() || impl_->state == ParseState::kDone || impl_->state == ParseState::kFailed) return 0;
  error_code ec;
  const auto taken = impl_->message.put(boost::asio::const_buffer(bytes.data(), bytes.size()), ec);
  impl_->settle(ec);
  return taken;
}

void ResponseParser::feed_end() {
  if (impl_->state == ParseState::kDone || impl_->state == ParseState::kFailed) return;
  error_code ec = http::error::partial_message;
  if (impl_->message.got_some()) impl_->message.put_eof(ec);
  impl_->settle(ec);
}

ParseState ResponseParser::state() const {
  return impl_->state;
}
int ResponseParser::status() const {
  return impl_->message.status;
}
Headers& ResponseParser::headers() {
  return impl_->message.headers;
}
bool ResponseParser::keep_alive() const {
  return !impl_->message.stopped && impl_->message.keep_alive();
}
bool ResponseParser::too_large() const {
  return impl_->message.too_large;
}
const std::string& ResponseParser::fault() const {
  return impl_->message.fault;
}

}  // namespace turnpike::net

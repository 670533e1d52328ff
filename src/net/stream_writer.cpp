#include "net/stream_writer.h"

#include <array>
#include <charconv>
#include <utility>

#include "base/check.h"
#include "net/connection.h"

namespace turnpike::net {

boost::asio::awaitable<Result<void>> StreamWriter::write(std::string bytes) {
  if (closed())
    co_return fail(ErrorCode::kUnavailable, "the stream has ended: the client left or the server stops");
  if (bytes.empty()) co_return Result<void>{};  // an empty chunk would end the body
  CHECK(!writing_);
  writing_ = true;
  std::array<char, 18> size{};
  char* end = std::to_chars(size.begin(), size.end() - 2, bytes.size(), 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  const std::string_view size_line(size.data(), static_cast<std::size_t>(end - size.data()));
  const Gather data = chunked_ ? Gather(size_line, bytes, "\r\n") : Gather(bytes);
  const bool written = co_await connection_->write(data);
  writing_ = false;
  if (!written) {
    break_off();
    co_return fail(ErrorCode::kUnavailable, "the client has left, or does not read");
  }
  co_return Result<void>{};
}

void StreamWriter::on_close(std::function<void()> callback) {
  if (closed() && connection_ != nullptr && callback) {
    callback();
    return;
  }
  on_close_ = std::move(callback);
}

void StreamWriter::close() {
  if (closed_.exchange(true)) return;
  if (const auto callback = std::exchange(on_close_, nullptr)) callback();
}

void StreamWriter::break_off() {
  broken_ = true;
  close();
}

void StreamWriter::detach() {
  on_close_ = nullptr;
  closed_ = true;
  connection_ = nullptr;
}

}  // namespace turnpike::net

// How a connection writes its answers: whole, from a file, as a stream.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>
#include <cerrno>
#include <system_error>
#include <utility>

#include "net/connection.h"
#include "net/response_head.h"
#include "net/stream_writer.h"

namespace turnpike::net {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kFileBytesAtOnce = 64 * 1024;
constexpr std::size_t kTlsJoinMax = 16 * 1024;  // one TLS record

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

// The next piece of a file, straight from the page cache as a rule; empty at its end or on an error.
std::string read_piece(int descriptor, std::uint64_t at, std::size_t size) {
  std::string piece;
  piece.resize(size);
  ssize_t got = -1;
  do {
    got = ::pread(descriptor, piece.data(), size, static_cast<off_t>(at));
  } while (got < 0 && errno == EINTR);
  piece.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return piece;
}

}  // namespace

asio::awaitable<bool> Connection::send(Response response, bool head_only, bool keep) {
  bool kept = false;
  if (parser_.http10() && std::holds_alternative<SocketBody>(response.body))
    response = render_error(400, "a WebSocket needs HTTP/1.1");
  if (std::holds_alternative<FileBody>(response.body)) {
    kept = co_await send_file(std::move(response), head_only, keep);
  } else if (std::holds_alternative<StreamBody>(response.body)) {
    kept = co_await send_stream(std::move(response), head_only, keep);
  } else if (std::holds_alternative<SocketBody>(response.body)) {
    render_head(head_, response, {.content_length = {}, .upgrade = true}, loop_.date);
    if (co_await write(Gather(head_))) {
      auto running = run_socket(std::move(std::get<SocketBody>(response.body)));
      co_await std::move(running);
    }
  } else {
    const std::string& body = std::get<std::string>(response.body);
    const Framing framing{.content_length = body.size(), .keep_alive = keep, .http10 = parser_.http10()};
    render_head(head_, response, framing, loop_.date);
    const bool bodiless = head_only || is_bodiless(response.status);
    const bool join = !bodiless && channel_.tls() != nullptr && body.size() < kTlsJoinMax;
    if (join) head_ += body;
    const Gather data(head_, bodiless || join ? std::string_view{} : std::string_view{body});
    kept = co_await write(data) && keep;
  }
  if (!kept) co_await linger();
  co_return kept;
}

asio::awaitable<bool> Connection::send_file(Response response, bool head_only, bool keep) {
  const auto& path = std::get<FileBody>(response.body).path;
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info{};
  if (file.number() < 0 || ::fstat(file.number(), &info) != 0 || !S_ISREG(info.st_mode)) {
    const bool gone = file.number() < 0 && errno == ENOENT;
    if (!gone) core_->report("cannot read " + path.string() + ": " + std::generic_category().message(errno));
    response =
        gone ? render_error(404, "the file is no longer there") : render_error(500, "the file is unreadable");
    if (!std::holds_alternative<std::string>(response.body)) response.body = std::string();
    co_return co_await send(std::move(response), head_only, keep);
  }
  const auto size = static_cast<std::uint64_t>(info.st_size);
  render_head(head_, response, {.content_length = size, .keep_alive = keep, .http10 = parser_.http10()},
              loop_.date);
  if (!co_await write(Gather(head_))) co_return false;
  if (head_only || is_bodiless(response.status)) co_return keep;
  for (std::uint64_t at = 0; at < size;) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kFileBytesAtOnce, size - at));
    const std::string piece = read_piece(file.number(), at, wanted);
    if (piece.empty()) {
      core_->report("a file ended early while it was sent: " + path.string());
      co_return false;  // short of its Content-Length: the client notices
    }
    if (!co_await write(Gather(piece))) co_return false;
    at += piece.size();
  }
  co_return keep;
}

asio::awaitable<bool> Connection::send_stream(Response response, bool head_only, bool keep) {
  const bool chunked = !parser_.http10();
  keep = keep && chunked;
  render_head(head_, response, {.content_length = {}, .chunked = chunked, .keep_alive = keep}, loop_.date);
  if (!co_await write(Gather(head_))) co_return false;
  if (head_only) co_return keep;
  auto writer = std::make_shared<StreamWriter>(*this, chunked);
  const bool whole = co_await run_stream(std::move(std::get<StreamBody>(response.body)), writer);
  if (!whole) {
    cut();  // without the last chunk: the client sees that something is missing
    co_return false;
  }
  if (chunked && !co_await write(Gather("0\r\n\r\n"))) co_return false;
  co_return keep;
}

asio::awaitable<bool> Connection::run_stream(StreamBody body, std::shared_ptr<StreamWriter> writer) {
  bool whole = false;
  stream_ = writer;
  if (stopping()) writer->close();
  input_.release();
  watch();
  try {
    asio::awaitable<void> running = body(writer);
    co_await std::move(running);
    whole = !writer->broken();
  } catch (const boost::system::system_error& error) {
    if (!stopping() || error.code() != asio::error::operation_aborted) core_->report(error.what());
  } catch (const std::exception& error) {
    core_->report(error.what());
  }
  stream_.reset();
  writer->detach();
  channel_.cancel();  // the watch
  co_return whole;
}

}  // namespace turnpike::net

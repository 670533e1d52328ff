#include "net/socket_link.h"

#include <utility>

#include "base/check.h"
#include "net/connection.h"

namespace turnpike::net {

std::optional<std::string> SocketLink::receive() {
  if (inbox_.empty()) return std::nullopt;
  const bool was_full = !wants_input();
  std::string text = std::move(inbox_.front());
  inbox_.erase(inbox_.begin());
  if (was_full && wants_input() && connection_ != nullptr) {
    heard_ = std::chrono::steady_clock::now();  // nobody listened meanwhile
    connection_->read_socket();
  }
  return text;
}

boost::asio::awaitable<Result<void>> SocketLink::send(std::vector<std::string> texts) {
  CHECK(!writing_);
  for (std::size_t next = 0; next < texts.size();) {
    if (closed()) co_return turnpike::fail(ErrorCode::kUnavailable, "the socket is closed");
    std::string bytes = std::exchange(owed_, {});
    do {
      append_frame(bytes, Opcode::kText, texts[next]);
      std::string().swap(texts[next]);
    } while (++next < texts.size() && bytes.size() < kWriteBytes);
    writing_ = true;
    const Gather data(bytes);
    const bool written = co_await connection_->write(data);
    writing_ = false;
    if (!written) {
      break_off();
      co_return turnpike::fail(ErrorCode::kUnavailable, "the peer has left, or does not read");
    }
  }
  co_return Result<void>{};
}

void SocketLink::close(CloseCode code, std::string reason) {
  end(close_payload(code, reason));
}

void SocketLink::on_change(std::function<void()> callback) {
  on_change_ = std::move(callback);
  if (closed() || !inbox_.empty()) changed();
}

void SocketLink::changed() const {
  if (on_change_) on_change_();
}

void SocketLink::end(std::string payload_of_close) {
  if (closed_.exchange(true)) return;
  close_payload_ = std::move(payload_of_close);
  changed();
}

void SocketLink::read(ReadBuffer& input, SteadyTime now) {
  heard_ = now;
  asked_ = false;
  while (wants_input()) {
    const std::size_t taken = reader_.feed(input.bytes());
    input.consume(taken);
    if (reader_.state() == FrameReader::State::kMore) return;
    on_frame();
  }
}

void SocketLink::on_frame() {
  switch (reader_.state()) {
    case FrameReader::State::kMore:
    case FrameReader::State::kPong:  // it was heard: that is all there is to it
      return;
    case FrameReader::State::kText:
      inbox_.push_back(reader_.payload());
      return changed();
    case FrameReader::State::kPing:
      return owe(Opcode::kPong, reader_.payload());
    case FrameReader::State::kClose: {
      const auto code = reader_.peer_code();
      return end(code ? close_payload(static_cast<CloseCode>(*code), {}) : std::string());
    }
    case FrameReader::State::kFailed:
      return end(close_payload(reader_.failure().code, reader_.failure().reason));
  }
}

void SocketLink::owe(Opcode opcode, std::string_view payload) {
  if (owed_.size() + payload.size() > kOwedBytesMax)
    return end(close_payload(CloseCode::kPolicy, "many pings, and their pongs are not read"));
  append_frame(owed_, opcode, payload);
  pay();
}

void SocketLink::pay() {
  if (writing_ || owed_.empty() || connection_ == nullptr) return;
  Gather data(owed_);
  const Io io = connection_->channel_.try_write(data);
  owed_.erase(0, io.bytes);
  if (io.kind == IoKind::kEnd || io.kind == IoKind::kFailed) break_off();
}

void SocketLink::tick(SteadyTime now) {
  if (closed()) return;
  pay();
  if (!wants_input()) return;  // its signs of life, too, wait for receive()
  if (now - heard_ >= silence_max_) {
    end(close_payload(CloseCode::kPolicy, "no sign of life: answer pings"));
  } else if (!asked_ && now - heard_ >= silence_max_ / 2) {
    asked_ = true;
    owe(Opcode::kPing, {});
  }
}

void SocketLink::stop() {
  close(CloseCode::kGoingAway, "the server is stopping");
}

void SocketLink::break_off() {
  broken_ = true;
  end({});
  if (writing_ && connection_ != nullptr) connection_->channel_.cancel();
}

void SocketLink::detach() {
  on_change_ = nullptr;
  closed_ = true;
  connection_ = nullptr;
}

std::string SocketLink::last_words() {
  append_frame(owed_, Opcode::kClose, close_payload_);
  return std::exchange(owed_, {});
}

}  // namespace turnpike::net

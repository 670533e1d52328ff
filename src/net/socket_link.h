// The WebSocket of one connection: its frames, its signs of life, and how it ends. Inside net only.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "net/read_buffer.h"
#include "net/server_core.h"
#include "net/websocket.h"
#include "net/websocket_frames.h"

namespace turnpike::net {

class Connection;

class SocketLink final : public WebSocket {
 public:
  static constexpr std::size_t kInboxMax = 8;            // texts that wait for receive()
  static constexpr std::size_t kOwedBytesMax = 1024;     // pongs that wait for room
  static constexpr std::size_t kWriteBytes = 64 * 1024;  // messages are gathered up to about this

  // `silence_max`: without a byte from the peer for so long it is closed; after half of it it is asked.
  SocketLink(Connection& connection, std::size_t message_bytes_max, Duration silence_max, SteadyTime now)
      : connection_(&connection), silence_max_(silence_max), heard_(now), reader_(message_bytes_max) {}

  std::optional<std::string> receive() override;
  boost::asio::awaitable<Result<void>> send(std::vector<std::string> texts) override;
  bool closed() const override { return closed_.load(std::memory_order_relaxed); }
  void close(CloseCode code, std::string reason) override;
  void on_change(std::function<void()> callback) override;

  // From the connection, on its io thread:
  bool wants_input() const { return !closed() && inbox_.size() < kInboxMax; }
  // Takes frames out of `input` as long as it wants them.
  void read(ReadBuffer& input, SteadyTime now);
  void tick(SteadyTime now);  // asks for a sign of life, or gives up
  void stop();                // the server stops
  // The peer has gone, or does not read: nothing more can be said.
  void break_off();
  bool broken() const { return broken_; }
  void detach();             // the handler has ended: nothing reaches the connection any more
  std::string last_words();  // what is still to be sent: the close frame at its end

 private:
  void on_frame();
  void owe(Opcode opcode, std::string_view payload);
  void pay();  // what is owed, as far as it can leave at once
  void end(std::string payload_of_close);
  void changed() const;

  Connection* connection_;
  const Duration silence_max_;
  SteadyTime heard_;
  bool asked_ = false;  // for a sign of life, since heard_
  FrameReader reader_;
  std::vector<std::string> inbox_;  // at most kInboxMax, the oldest first
  std::string owed_;                // whole frames, but for the first, which may have been sent in part
  bool writing_ = false;
  bool broken_ = false;
  std::atomic<bool> closed_ = false;
  std::string close_payload_;
  std::function<void()> on_change_;
};

}  // namespace turnpike::net

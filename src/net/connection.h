// The life of one server connection: requests in, answers out, strictly in order, in one coroutine. All of it
// on one io thread. Inside net only.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "net/channel.h"
#include "net/parser.h"
#include "net/read_buffer.h"
#include "net/server_core.h"

namespace turnpike::net {

class StreamWriter;
class SocketLink;

// Invariants:
// 1. deadline_ is set only while the coroutine waits for the socket; the sweep then may cancel that wait.
// 2. What was read and not yet parsed is in input_, at most kReadBytesMax: a client that pipelines waits
// there
//    and in the kernel.
// 3. stream_ is set exactly while a streamed body is being written, socket_ while the connection is a socket
//    whose handler runs.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Origin {
    std::string remote;
    bool control = false;
    bool rejected = false;  // over connections_max: is told so, and closed
  };

  Connection(std::shared_ptr<ServerCore> core, IoLoop& loop, Channel channel, Origin origin);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // The whole life; keeps `self`.
  static boost::asio::awaitable<void> serve(std::shared_ptr<Connection> self);

  // From the loop's sweep and from the server's stop, on the io thread:
  void expire(SteadyTime now);
  void begin_stop();  // ends waiting for requests, and streams; an answer under way goes on
  void cut();         // ends everything but the handler itself

 private:
  friend class StreamWriter;
  friend class SocketLink;
  enum class Read : std::uint8_t { kRequest, kClosed, kRefused };

  boost::asio::awaitable<bool> exchange();  // one request and its answer; true: another may follow
  boost::asio::awaitable<Read> read_request();
  std::optional<Read> parse();  // what is in input_; nothing: bytes are missing
  bool begin_body();            // false: refused
  Read read_failed();
  Read refuse(int status, std::string message);
  boost::asio::awaitable<Response> answer(Request request);
  boost::asio::awaitable<bool> refuse_and_close();
  boost::asio::awaitable<bool> send(Response response, bool head_only, bool keep);
  boost::asio::awaitable<bool> send_file(Response response, bool head_only, bool keep);
  boost::asio::awaitable<bool> send_stream(Response response, bool head_only, bool keep);
  boost::asio::awaitable<bool> run_stream(StreamBody body, std::shared_ptr<StreamWriter> writer);
  boost::asio::awaitable<void> run_socket(SocketBody body);
  // The data must stay where it is until then. False: the client has left, or did not read in time.
  boost::asio::awaitable<bool> write(Gather data);
  boost::asio::awaitable<void> linger();
  void watch_socket();
  void on_socket_readable(boost::system::error_code ec);
  void read_socket();  // what has come, as far as the socket wants it
  void watch();
  void on_readable(boost::system::error_code ec);
  Response render_error(int status, std::string_view message);
  bool stopping() const { return core_->stopping.load(std::memory_order_relaxed); }
  void arm(Duration time);  // sets the deadline of the waits that follow
  void disarm() { deadline_ = SteadyTime::max(); }

  const std::shared_ptr<ServerCore> core_;
  IoLoop& loop_;
  const std::list<Connection*>::iterator place_;
  Channel channel_;
  const Origin origin_;
  RequestParser parser_;
  ReadBuffer input_;
  std::string head_;  // of the answer being written; its memory is kept
  Refusal refusal_;
  SteadyTime deadline_ = SteadyTime::max();
  bool timed_out_ = false;
  bool broken_ = false;      // a write has failed: nothing more can be said
  bool reading_ = false;     // waits for the client's bytes, with no answer under way
  bool was_socket_ = false;  // lingers to its end even while the server stops, for the closing handshake
  std::shared_ptr<StreamWriter> stream_;
  std::shared_ptr<SocketLink> socket_;
};

}  // namespace turnpike::net

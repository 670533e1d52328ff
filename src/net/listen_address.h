// Listening sockets, with errors that say what to do. Inside net only.
#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <filesystem>
#include <string>

#include "base/result.h"

struct sockaddr;

namespace turnpike::net {

using Acceptor = boost::asio::basic_socket_acceptor<boost::asio::generic::stream_protocol>;

// "127.0.0.1:8080", "[::1]:8080", "localhost:8080".
Result<boost::asio::ip::tcp::endpoint> parse_listen_address(const std::string& text);
// A listening socket; with `shared` (SO_REUSEPORT) several may have the same port.
Result<Acceptor> bind_tcp(boost::asio::io_context& context, const boost::asio::ip::tcp::endpoint& address,
                          bool shared);
// Mode 0600. Replaces a socket file that nobody listens on.
Result<Acceptor> bind_unix(boost::asio::io_context& context, const std::filesystem::path& path);
std::uint16_t bound_port(const Acceptor& acceptor);
// "127.0.0.1:51234", "[::1]:51234".
std::string address_text(const sockaddr* address);

}  // namespace turnpike::net

#include "net/listen_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <boost/asio/local/stream_protocol.hpp>
#include <charconv>
#include <system_error>

namespace turnpike::net {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr int kBacklog = 4096;  // the kernel caps it at net.core.somaxconn

using ReusePort = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;

std::unexpected<Error> cannot_listen(const std::string& where, const error_code& ec) {
  const char* advice = ec == asio::error::address_in_use
                           ? "; another program listens there: stop it, or choose another address"
                       : ec == asio::error::access_denied
                           ? "; ports below 1024 need a right that this user does not have"
                           : "";
  return fail(ErrorCode::kConfiguration,
              fmt::format("cannot listen on {}: {}{}", where, ec.message(), advice));
}

bool somebody_listens(const std::filesystem::path& path) {
  asio::io_context context;
  asio::local::stream_protocol::socket probe(context);
  error_code ec;
  probe.connect(asio::local::stream_protocol::endpoint(path.string()), ec);
  return !ec;
}

}  // namespace

Result<asio::ip::tcp::endpoint> parse_listen_address(const std::string& text) {
  const auto colon = text.rfind(':');
  const std::string_view digits =
      colon == std::string::npos ? std::string_view{} : std::string_view(text).substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (digits.empty() || problem != std::errc{} || end != digits.data() + digits.size()) {
    return fail(ErrorCode::kConfiguration,
                fmt::format("'{}' is no address to listen on: write HOST:PORT", text));
  }
  std::string host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  error_code ec;
  const auto address = asio::ip::make_address(host, ec);
  if (!ec) return asio::ip::tcp::endpoint(address, port);
  asio::io_context context;
  asio::ip::tcp::resolver resolver(context);
  const auto found = resolver.resolve(host, "", asio::ip::tcp::resolver::passive, ec);
  if (ec || found.empty()) {
    return fail(ErrorCode::kConfiguration,
                fmt::format("cannot listen on '{}': unknown host '{}'", text, host));
  }
  return asio::ip::tcp::endpoint(found.begin()->endpoint().address(), port);
}

Result<Acceptor> bind_tcp(asio::io_context& context, const asio::ip::tcp::endpoint& address, bool shared) {
  Acceptor acceptor(context);
  error_code ec;
  acceptor.open(asio::generic::stream_protocol(address.protocol()), ec);
  if (!ec) acceptor.set_option(asio::socket_base::reuse_address(true), ec);
  if (!ec && shared) acceptor.set_option(ReusePort(true), ec);
  if (!ec) acceptor.bind(address, ec);
  if (!ec) acceptor.listen(kBacklog, ec);
  if (ec) return cannot_listen(fmt::format("{}:{}", address.address().to_string(), address.port()), ec);
  return acceptor;
}

Result<Acceptor> bind_unix(asio::io_context& context, const std::filesystem::path& path) {
  if (path.string().size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(
        ErrorCode::kConfiguration,
        fmt::format(
            "the path of the control socket is too long (at most {} bytes): {}; choose a shorter data folder",
            sizeof(sockaddr_un::sun_path) - 1, path.string()));
  }
  struct stat info{};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) {
    if (somebody_listens(path)) return cannot_listen(path.string(), asio::error::address_in_use);
    ::unlink(path.c_str());
  }
  Acceptor acceptor(context);
  error_code ec;
  const asio::local::stream_protocol::endpoint address(path.string());
  acceptor.open(asio::generic::stream_protocol(address.protocol()), ec);
  if (!ec) acceptor.bind(address, ec);
  // Nobody can connect before listen(): the file is never open to others.
  if (!ec && ::chmod(path.c_str(), S_IRUSR | S_IWUSR) != 0)
    ec.assign(errno, boost::system::system_category());
  if (!ec) acceptor.listen(kBacklog, ec);
  if (ec) return cannot_listen(path.string(), ec);
  return acceptor;
}

std::uint16_t bound_port(const Acceptor& acceptor) {
  error_code ec;
  const auto endpoint = acceptor.local_endpoint(ec);
  if (ec) return 0;
  const sockaddr* address = endpoint.data();
  if (address->sa_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(address)->sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in*>(address)->sin_port);
}

std::string address_text(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
    return fmt::format("[{}]:{}", text.data(), ntohs(v6->sin6_port));
  }
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
  inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
  return fmt::format("{}:{}", text.data(), ntohs(v4->sin_port));
}

}  // namespace turnpike::net

#include "unit/net/support.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_future.hpp>
#include <cstdlib>

namespace turnpike::net::test {
namespace {

void set_patience(int descriptor) {
  const timeval patience{.tv_sec = kPatience.count(), .tv_usec = 0};
  ::setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

std::string header_value(std::string_view head, std::string_view name) {
  const auto at = head.find("\r\n" + std::string(name) + ": ");
  if (at == std::string_view::npos) return {};
  const auto begin = at + name.size() + 4;
  return std::string(head.substr(begin, head.find("\r\n", begin) - begin));
}

}  // namespace

RawClient::RawClient(std::uint16_t port) : descriptor_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  set_patience(descriptor_);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
}

RawClient::RawClient(const std::filesystem::path& unix_path)
    : descriptor_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  set_patience(descriptor_);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  unix_path.string().copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
}

RawClient::~RawClient() {
  close();
}

void RawClient::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

void RawClient::reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

void RawClient::finish_sending() {
  ::shutdown(descriptor_, SHUT_WR);
}

void RawClient::shrink_receive_buffer() {
  const int bytes = 4096;
  ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

bool RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto n = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool RawClient::fill() {
  std::string piece(64 * 1024, '\0');
  const auto n = ::recv(descriptor_, piece.data(), piece.size(), 0);
  if (n < 0 && errno == EAGAIN) ADD_FAILURE() << "the server neither answered nor closed";
  if (n <= 0) return false;
  input_.append(piece, 0, static_cast<std::size_t>(n));
  return true;
}

std::string RawClient::read_until(std::string_view mark) {
  auto at = input_.find(mark);
  while (at == std::string::npos) {
    if (!fill()) return {};
    at = input_.find(mark);
  }
  std::string taken = input_.substr(0, at + mark.size());
  input_.erase(0, taken.size());
  return taken;
}

std::string RawClient::read_to_end() {
  while (fill()) {
  }
  return std::exchange(input_, {});
}

std::string RawClient::read_answer(bool to_head) {
  std::string answer = read_until("\r\n\r\n");
  if (answer.empty() || to_head) return answer;
  if (header_value(answer, "Transfer-Encoding") == "chunked") {
    for (;;) {
      const std::string line = read_until("\r\n");
      const auto size = std::strtoull(line.c_str(), nullptr, 16);
      while (input_.size() < size + 2) {
        if (!fill()) return {};
      }
      answer += input_.substr(0, size);
      input_.erase(0, size + 2);
      if (size == 0) return answer;
    }
  }
  const std::string length = header_value(answer, "Content-Length");
  const auto size = std::strtoull(length.c_str(), nullptr, 10);
  while (input_.size() < size) {
    if (!fill()) return {};
  }
  answer += input_.substr(0, size);
  input_.erase(0, size);
  return answer;
}

int status_of(std::string_view answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::atoi(std::string(answer.substr(9, 3)).c_str()) : 0;
}

std::string body_of(std::string_view answer) {
  const auto at = answer.find("\r\n\r\n");
  return at == std::string_view::npos ? std::string() : std::string(answer.substr(at + 4));
}

std::string get(std::string_view path) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n\r\n";
}

std::string post(std::string_view path, std::string_view body) {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

void ErrorLog::add(std::string_view what) {
  const std::scoped_lock lock(mutex_);
  lines_.emplace_back(what);
}

std::vector<std::string> ErrorLog::all() const {
  const std::scoped_lock lock(mutex_);
  return lines_;
}

TestServer::TestServer(Handler handler, const std::function<void(ServerOptions&)>& adjust, BodyRules rules) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.spool_dir = dir.path();
  options.on_error = [log = errors](std::string_view what) { log->add(what); };
  if (adjust) adjust(options);
  if (!rules) rules = [](std::string_view, std::string_view) { return BodyRule{}; };
  const auto render = [](int status, std::string_view message) {
    return Response{.status = status, .headers = {{"x-rendered", "yes"}}, .body = std::string(message)};
  };
  auto started = Server::start(threads, std::move(options), std::move(handler), std::move(rules), render);
  if (!started) throw std::runtime_error(started.error().message);
  server = std::move(*started);
}

boost::asio::awaitable<Response> echo(Request request) {
  Response response;
  response.content_type = "text/plain";
  response.body = request.method + " " + request.path + " " + request.body;
  co_return response;
}

ScriptedServer::ScriptedServer(std::vector<Step> script)
    : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
  ::listen(listener_, 16);
  socklen_t size = sizeof address;
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this, steps = std::move(script)] { follow(steps); });
}

void ScriptedServer::follow(const std::vector<Step>& script) {
  for (const auto& step : script) {
    const int peer = ::accept(listener_, nullptr, nullptr);
    if (peer < 0) return;
    set_patience(peer);
    {
      const std::scoped_lock lock(mutex_);
      peer_ = peer;
      if (over_) ::shutdown(peer, SHUT_RDWR);
    }
    step(peer);
    const std::scoped_lock lock(mutex_);
    ::close(std::exchange(peer_, -1));
  }
}

ScriptedServer::~ScriptedServer() {
  {
    const std::scoped_lock lock(mutex_);
    over_ = true;
    if (peer_ >= 0) ::shutdown(peer_, SHUT_RDWR);
  }
  ::shutdown(listener_, SHUT_RDWR);
  thread_.join();
  ::close(listener_);
}

std::string ScriptedServer::url(std::string_view path) const {
  return "http://127.0.0.1:" + std::to_string(port_) + std::string(path);
}

void send_bytes(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto n = ::send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string read_request(int descriptor) {
  std::string request;
  const auto more = [&] {
    std::string piece(4096, '\0');
    const auto n = ::recv(descriptor, piece.data(), piece.size(), 0);
    if (n > 0) request.append(piece, 0, static_cast<std::size_t>(n));
    return n > 0;
  };
  while (!request.contains("\r\n\r\n")) {
    if (!more()) return request;
  }
  const auto head = request.find("\r\n\r\n") + 4;
  const auto length =
      std::strtoull(header_value(request.substr(0, head), "Content-Length").c_str(), nullptr, 10);
  while (request.size() < head + length) {
    if (!more()) break;
  }
  return request;
}

void wait_for_close(int descriptor) {
  std::string piece(4096, '\0');
  while (::recv(descriptor, piece.data(), piece.size(), 0) > 0) {
  }
}

Result<ClientResponse> call(const std::shared_ptr<Client>& client, IoThreads& threads,
                            ClientRequest request) {
  auto sending = client->send(std::move(request));
  auto answer = boost::asio::co_spawn(threads.context(0), std::move(sending), boost::asio::use_future);
  return answer.get();
}

Certificate make_certificate(const std::filesystem::path& folder, const std::string& dns_name,
                             bool with_address) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 24L * 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* name = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(dns_name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  const std::string names = "DNS:" + dns_name + (with_address ? ",IP:127.0.0.1" : "");
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, names.c_str());
  X509_add_ext(certificate.get(), extension, -1);
  X509_EXTENSION_free(extension);
  X509_sign(certificate.get(), key.get(), EVP_sha256());

  Certificate files{.certificate_file = folder / (dns_name + ".pem"),
                    .key_file = folder / (dns_name + ".key")};
  const std::unique_ptr<FILE, decltype(&std::fclose)> pem(std::fopen(files.certificate_file.c_str(), "w"),
                                                          std::fclose);
  PEM_write_X509(pem.get(), certificate.get());
  const std::unique_ptr<FILE, decltype(&std::fclose)> secret(std::fopen(files.key_file.c_str(), "w"),
                                                             std::fclose);
  PEM_write_PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return files;
}

}  // namespace turnpike::net::test

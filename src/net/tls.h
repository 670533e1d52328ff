// TLS contexts, and a connection's TLS over a non-blocking socket. OpenSSL's types stay out of this header.
// Inside net only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct ssl_ctx_st;
struct ssl_st;

namespace turnpike::net {

// What a TLS step came to. kRead, kWrite: the socket must become readable or writable first.
enum class TlsStep : std::uint8_t { kDone, kRead, kWrite, kEnd, kFailed };

// One TLS session over a socket's descriptor, which it borrows. Not thread-safe.
class TlsSession {
 public:
  TlsSession(ssl_ctx_st* context, int descriptor);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // The client's side: SNI, and the name that the certificate must bear. False: out of memory.
  bool expect_host(const std::string& host);
  TlsStep handshake(bool as_server);
  TlsStep read(char* data, std::size_t size, std::size_t& done);
  TlsStep write(const char* data, std::size_t size, std::size_t& done);
  // Sends close_notify if it can be sent at once.
  void say_goodbye();
  // Why the last step failed: OpenSSL's words, and the verification's where that was it.
  std::string failure() const;
  bool verification_failed() const;

 private:
  TlsStep classify(int result);

  int descriptor_;  // its address is what OpenSSL's BIO holds
  ssl_st* ssl_;
  std::string failure_;
};

// Immutable once made; shared by all threads.
class TlsContext {
 public:
  // TLS >= 1.2, ALPN http/1.1. kConfiguration: which file, and what is wrong with it.
  static Result<TlsContext> server(const std::string& certificate_file, const std::string& key_file);
  // Verifies against `ca_file`, or the system's roots where that is empty.
  static Result<TlsContext> client(const std::string& ca_file);
  std::unique_ptr<TlsSession> open(int descriptor) const;

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  using Handle = std::unique_ptr<ssl_ctx_st, Free>;
  explicit TlsContext(Handle context) : context_(std::move(context)) {}
  static Handle make(bool as_server);

  Handle context_;
};

}  // namespace turnpike::net

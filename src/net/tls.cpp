#include "net/tls.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <utility>

namespace turnpike::net {
namespace {

constexpr std::array<unsigned char, 9> kAlpn{8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

// OpenSSL's own socket BIO writes with write(2), and a peer that has left would kill the process by SIGPIPE.
int descriptor_of(BIO* bio) {
  return *static_cast<const int*>(BIO_get_data(bio));
}

int bio_write(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t n = ::send(descriptor_of(bio), data, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(n);
}

int bio_read(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t n = ::recv(descriptor_of(bio), data, static_cast<std::size_t>(size), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  if (n == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return static_cast<int>(n);
}

long bio_control(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_FLUSH) return 1;
  if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
  return 0;
}

BIO_METHOD* bio_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "turnpike socket");
    if (made == nullptr) throw std::bad_alloc();
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                    unsigned int offered_size, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kAlpn.data(), kAlpn.size(), offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

std::string last_words() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  std::array<char, 256> text{};
  ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

// The hashed folder is read one certificate at a time, when it is asked for; the bundle would cost 100 ms and
// some MB at once, so it is read only where an operator named it or there is no folder.
bool trust_system(SSL_CTX* context) {
  const bool has_folder = ::access(X509_get_default_cert_dir(), R_OK) == 0;
  if (has_folder && SSL_CTX_set_default_verify_dir(context) != 1) return false;
  const bool named =
      ::getenv(X509_get_default_cert_file_env()) != nullptr;  // NOLINT(concurrency-mt-unsafe): start-up
  return (has_folder && !named) || SSL_CTX_set_default_verify_file(context) == 1;
}

}  // namespace

TlsSession::TlsSession(ssl_ctx_st* context, int descriptor)
    : descriptor_(descriptor), ssl_(SSL_new(context)) {
  BIO* bio = BIO_new(bio_method());
  if (ssl_ == nullptr || bio == nullptr) {
    SSL_free(ssl_);
    BIO_free(bio);
    throw std::bad_alloc();
  }
  BIO_set_data(bio, &descriptor_);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
}

TlsSession::~TlsSession() {
  SSL_free(ssl_);
}

bool TlsSession::expect_host(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> address{};
  if (inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
      inet_pton(AF_INET6, host.c_str(), address.data()) == 1) {
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), host.c_str()) == 1;
  }
  SSL_set_hostflags(ssl_, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set1_host(ssl_, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl_, host.c_str()) == 1;
}

TlsStep TlsSession::classify(int result) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_NONE:
      return TlsStep::kDone;
    case SSL_ERROR_WANT_READ:
      return TlsStep::kRead;
    case SSL_ERROR_WANT_WRITE:
      return TlsStep::kWrite;
    case SSL_ERROR_ZERO_RETURN:
      return TlsStep::kEnd;
    default:
      failure_ = last_words();
      return TlsStep::kFailed;
  }
}

TlsStep TlsSession::handshake(bool as_server) {
  ERR_clear_error();
  return classify(as_server ? SSL_accept(ssl_) : SSL_connect(ssl_));
}

TlsStep TlsSession::read(char* data, std::size_t size, std::size_t& done) {
  ERR_clear_error();
  return classify(SSL_read_ex(ssl_, data, size, &done));
}

TlsStep TlsSession::write(const char* data, std::size_t size, std::size_t& done) {
  ERR_clear_error();
  return classify(SSL_write_ex(ssl_, data, size, &done));
}

void TlsSession::say_goodbye() {
  if (SSL_is_init_finished(ssl_) == 0 || !failure_.empty()) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

bool TlsSession::verification_failed() const {
  return SSL_get_verify_result(ssl_) != X509_V_OK;
}

std::string TlsSession::failure() const {
  if (!verification_failed()) return failure_;
  return fmt::format("certificate not verified: {}",
                     X509_verify_cert_error_string(SSL_get_verify_result(ssl_)));
}

void TlsContext::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

TlsContext::Handle TlsContext::make(bool as_server) {
  Handle context(SSL_CTX_new(as_server ? TLS_server_method() : TLS_client_method()));
  if (!context) throw std::bad_alloc();
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  return context;
}

Result<TlsContext> TlsContext::server(const std::string& certificate_file, const std::string& key_file) {
  Handle context = make(true);
  if (SSL_CTX_use_certificate_chain_file(context.get(), certificate_file.c_str()) != 1) {
    return fail(
        ErrorCode::kConfiguration,
        fmt::format("cannot use the TLS certificate {}: {}; give a PEM file with the certificate first and "
                    "its chain after it",
                    certificate_file, last_words()));
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1) {
    return fail(ErrorCode::kConfiguration,
                fmt::format("cannot use the TLS key {}: {}; give the PEM file of the key of {}", key_file,
                            last_words(), certificate_file));
  }
  SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
  return TlsContext(std::move(context));
}

Result<TlsContext> TlsContext::client(const std::string& ca_file) {
  Handle context = make(false);
  const bool trusted = ca_file.empty()
                           ? trust_system(context.get())
                           : SSL_CTX_load_verify_locations(context.get(), ca_file.c_str(), nullptr) == 1;
  if (!trusted) {
    return fail(ErrorCode::kConfiguration,
                fmt::format("cannot read the trusted certificates {}: {}",
                            ca_file.empty() ? "of the system" : ca_file, last_words()));
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_alpn_protos(context.get(), kAlpn.data(), kAlpn.size());
  return TlsContext(std::move(context));
}

std::unique_ptr<TlsSession> TlsContext::open(int descriptor) const {
  return std::make_unique<TlsSession>(context_.get(), descriptor);
}

}  // namespace turnpike::net

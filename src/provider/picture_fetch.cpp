#include "provider/picture_fetch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/url/parse.hpp>
#include <boost/url/url.hpp>
#include <cerrno>
#include <charconv>
#include <limits>
#include <string_view>
#include <utility>

#include "net/public_address.h"
#include "provider/json_text.h"
#include "provider/picture.h"
#include "provider/spawn.h"
#include "provider/upstream_failure.h"
#include "provider/upstream_try.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;

constexpr Duration kConnectTimeout = std::chrono::seconds(5);
constexpr Duration kSilenceMax = std::chrono::seconds(10);  // between two pieces of a picture
constexpr std::size_t kNameBytesMax = 120;                  // of a host in a message
constexpr ::mode_t kMode = 0640;  // as artifacts have it: a sandbox reads it by its group

// "https://example.com:8443": all of an address that a message may repeat.
std::string origin_of(const std::string& url) {
  const auto parsed = boost::urls::parse_uri(url);
  return parsed ? clean_text(std::string(parsed->encoded_origin()), kNameBytesMax, false) : std::string();
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool may_pass(int status) {
  return status >= 500 || status == 408 || status == 425 || status == 429;
}

// A file of ours that is removed unless it is kept.
class NewFile {
 public:
  NewFile() = default;
  ~NewFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  bool is_open() const { return static_cast<bool>(file_); }
  bool create(std::filesystem::path path) {
    file_ = Descriptor{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, kMode)};
    if (!file_) return false;
    path_ = std::move(path);
    return ::fchmod(file_.get(), kMode) == 0;
  }
  bool write(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = ::write(file_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }
  std::filesystem::path keep() { return std::exchange(path_, {}); }

 private:
  Descriptor file_;
  std::filesystem::path path_;
};

class Fetching {
 public:
  Fetching(std::shared_ptr<net::Client> client, PictureFetch fetch)
      : client_(std::move(client)), fetch_(std::move(fetch)), deadline_(fetch_.timeout) {}

  asio::awaitable<std::expected<InputFile, Failure>> run() {
    for (int redirects = 0;; ++redirects) {
      if (auto fit = check_address(); !fit) co_return std::unexpected(std::move(fit.error()));
      auto opening = open_stream(client_, request());
      auto answer = co_await std::move(opening);
      if (!answer) co_return no_answer(answer.error());
      const std::unique_ptr<net::ClientStream> stream = std::move(*answer);
      if (!is_redirect(stream->status())) {
        auto taking = take(*stream);
        co_return co_await std::move(taking);
      }
      if (redirects == kPictureRedirectsMax)
        co_return invalid(fmt::format("{} leads on, as {} before it did", name(), kPictureRedirectsMax));
      if (auto followed = follow(*stream); !followed) co_return std::unexpected(std::move(followed.error()));
    }
  }

 private:
  using Fetched = std::expected<InputFile, Failure>;
  using Checked = std::expected<void, Failure>;

  std::string name() const { return origin_of(fetch_.url); }

  static std::unexpected<Failure> invalid(std::string_view what) {
    return std::unexpected(
        failure(FailureClass::kInvalidInput, fmt::format("{}: {}", kPictureUrlField, what)));
  }
  static std::unexpected<Failure> transient(std::string_view what) {
    return std::unexpected(failure(FailureClass::kTransient, fmt::format("{}: {}", kPictureUrlField, what)));
  }

  // What an address shows by itself. What its name is looked up to, net checks (public_only).
  Checked check_address() const {
    if (const auto fit = net::check_url(fetch_.url); !fit)
      return invalid("it leads to what is no http:// or https:// address");
    if (fetch_.allow_private) return {};
    if (const auto fit = net::check_public_url(fetch_.url); !fit)
      return invalid(fmt::format("{} {}", name(), fit.error().message));
    return {};
  }

  net::ClientRequest request() const {
    net::ClientRequest request;
    request.url = fetch_.url;
    request.headers = {{"Accept", "image/png, image/jpeg, image/webp, image/gif"}};
    request.timeout = deadline_.remaining();
    request.connect_timeout = std::min(kConnectTimeout, request.timeout);
    request.public_only = !fetch_.allow_private;
    // Counted here, so that the message can say how much it was.
    request.response_bytes_max = std::numeric_limits<std::uint64_t>::max();
    request.keep_alive = false;  // strangers' servers have no place among the kept connections
    return request;
  }

  // What the client says names the host and no path.
  static std::unexpected<Failure> no_answer(const Error& error) {
    const bool never = error.code == ErrorCode::kInvalidRequest ||
                       (error.code == ErrorCode::kUpstreamError && !error.retryable);
    return never ? invalid(error.message) : transient(error.message);
  }

  // The next address: what an answer says under Location, which may be relative.
  Checked follow(const net::ClientStream& stream) {
    const std::string* location = net::find_header(stream.headers(), "location");
    if (location == nullptr || location->size() > kPictureUrlBytesMax)
      return invalid(fmt::format("{} leads on to no address", name()));
    const auto reference = boost::urls::parse_uri_reference(*location);
    const auto base = boost::urls::parse_uri(fetch_.url);
    if (!reference || !base) return invalid(fmt::format("{} leads on to no address", name()));
    boost::urls::url next(*base);
    if (!next.resolve(*reference)) return invalid(fmt::format("{} leads on to no address", name()));
    fetch_.url = std::string(next.buffer());
    return {};
  }

  Checked check_head(const net::ClientStream& stream) const {
    const int status = stream.status();
    if (status != 200) {
      auto refused = may_pass(status) ? transient(fmt::format("{} answered {}", name(), status))
                                      : invalid(fmt::format("{} answered {}", name(), status));
      const net::ClientResponse head{.status = status, .headers = stream.headers(), .body = {}};
      refused.error().retry_after = classify_refusal(head, {}).retry_after;
      return refused;
    }
    const std::string* length = net::find_header(stream.headers(), "content-length");
    std::uint64_t bytes = 0;
    const bool said =
        length != nullptr &&
        std::from_chars(length->data(), length->data() + length->size(), bytes).ec == std::errc{};
    if (said && bytes > fetch_.bytes_max) return too_large(fmt::format("of {} bytes", bytes));
    return {};
  }

  std::unexpected<Failure> too_large(std::string_view how_large) const {
    return invalid(
        fmt::format("{} sends a file {}; at most {} may be fetched", name(), how_large, fetch_.bytes_max));
  }

  // The body, up to its end, into a file of ours.
  asio::awaitable<Fetched> take(net::ClientStream& stream) {
    if (auto fit = check_head(stream); !fit) co_return std::unexpected(std::move(fit.error()));
    NewFile file;
    std::string head;
    std::uint64_t total = 0;
    std::optional<PictureKind> kind;
    for (;;) {
      const auto bytes = co_await stream.read(std::min(kSilenceMax, deadline_.remaining()));
      if (!bytes) co_return no_answer(bytes.error());
      const bool cancelled = co_await is_cancelled();
      if (cancelled) co_return transient("the fetch was stopped");
      total += bytes->size();
      if (total > fetch_.bytes_max)
        co_return too_large(fmt::format("of more than {} bytes", fetch_.bytes_max));
      if (!kind) {
        head += *bytes;
        if (head.size() < kPictureHeadBytes && !bytes->empty()) continue;
        kind = picture_kind(head);
        if (!kind) co_return no_picture(head);
        if (!file.create(with_extension(*kind)) || !file.write(head)) co_return not_kept();
      } else if (!file.write(*bytes)) {
        co_return not_kept();
      }
      if (bytes->empty()) break;
    }
    co_return InputFile{
        .field = std::string(kPictureField), .path = file.keep(), .mime = std::string(kind->mime)};
  }

  std::unexpected<Failure> no_picture(std::string_view head) const {
    if (head.empty()) return invalid(fmt::format("{} sent nothing", name()));
    return invalid(fmt::format("what {} sent is {}, and no picture: PNG, JPEG, WebP and GIF are taken",
                               name(), name_of_bytes(head)));
  }

  static std::unexpected<Failure> not_kept() { return transient("the picture could not be kept"); }

  std::filesystem::path with_extension(const PictureKind& kind) const {
    std::filesystem::path path = fetch_.file;
    path += fmt::format(".{}", kind.extension);
    return path;
  }

  const std::shared_ptr<net::Client> client_;
  PictureFetch fetch_;  // its address is the last that was led to
  const TryDeadline deadline_;
};

}  // namespace

asio::awaitable<std::expected<InputFile, Failure>> fetch_picture(std::shared_ptr<net::Client> client,
                                                                 PictureFetch fetch) {
  Fetching fetching(std::move(client), std::move(fetch));
  auto running = fetching.run();
  co_return co_await std::move(running);
}

}  // namespace turnpike::provider

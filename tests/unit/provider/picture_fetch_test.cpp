// What is fetched for a stranger, what is not, and why.
#include "provider/picture_fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <fstream>
#include <iterator>
#include <string>

#include "support/scripted_client.h"
#include "support/temp_folder.h"

namespace turnpike::provider {
namespace {

using namespace std::string_literals;
using support::client_error;
using support::ScriptedAnswer;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;
using Fetched = std::expected<InputFile, Failure>;

constexpr const char* kUrl = "https://pictures.example.com/a.png?token=secret";

std::string picture(std::size_t bytes) {
  const std::string head = "\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\0\x0A\0\0\0\x0A"s;
  return head + std::string(bytes - head.size(), 'x');
}

ScriptedAnswer body(std::deque<std::string> pieces, net::Headers headers = {}) {
  return {.headers = std::move(headers), .pieces = std::move(pieces)};
}
ScriptedAnswer status(int code, net::Headers headers = {}) {
  return {.status = code, .headers = std::move(headers)};
}
ScriptedAnswer leads_to(std::string location, int code = 302) {
  return status(code, {{"Location", std::move(location)}});
}

struct PictureFetching : testing::Test {
  // `cancel`: once the client has been asked and waits.
  Fetched fetch(const std::string& url, std::uint64_t bytes_max = 1000, bool allow_private = false,
                bool cancel = false) {
    boost::asio::io_context context;
    boost::asio::cancellation_signal signal;
    Fetched result = std::unexpected(Failure{});
    PictureFetch what{.url = url,
                      .file = folder.path() / "try",
                      .bytes_max = bytes_max,
                      .timeout = std::chrono::seconds(30),
                      .allow_private = allow_private};
    boost::asio::co_spawn(context, run(client, std::move(what), result),
                          boost::asio::bind_cancellation_slot(signal.slot(), [](const std::exception_ptr& e) {
                            if (e) std::rethrow_exception(e);
                          }));
    if (cancel) {
      while (context.poll_one() > 0) continue;
      signal.emit(boost::asio::cancellation_type::terminal);
    }
    context.run();
    return result;
  }
  std::string why_not(const std::string& url = kUrl, std::uint64_t bytes_max = 1000,
                      bool allow_private = false, bool cancel = false) {
    const Fetched fetched = fetch(url, bytes_max, allow_private, cancel);
    if (fetched) return "fetched";
    EXPECT_EQ(folder.files(), 0U) << "nothing is left";
    EXPECT_THAT(fetched.error().message, AllOf(Not(HasSubstr("secret")), Not(HasSubstr("a.png"))));
    return std::string(policy::failure_class_name(fetched.error().failure)) + ": " + fetched.error().message;
  }
  static boost::asio::awaitable<void> run(std::shared_ptr<net::Client> client, PictureFetch what,
                                          Fetched& result) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    auto fetching = fetch_picture(std::move(client), std::move(what));
    result = co_await std::move(fetching);
  }

  std::shared_ptr<support::ScriptedClient> client = std::make_shared<support::ScriptedClient>();
  support::TempFolder folder;
};

TEST_F(PictureFetching, KeepsWhatComesAsTheInputsImage) {
  const std::string whole = picture(900);
  client->put(kUrl, {body({whole.substr(0, 5), whole.substr(5, 300), whole.substr(305)},
                          {{"Content-Type", "text/html"}})});
  const Fetched fetched = fetch(kUrl);
  ASSERT_TRUE(fetched) << fetched.error().message;
  EXPECT_EQ(fetched->field, "image");
  EXPECT_EQ(fetched->mime, "image/png") << "by its bytes, whatever it is called";
  EXPECT_EQ(fetched->path, folder.path() / "try.png");
  std::ifstream file(fetched->path, std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), whole);
  struct stat status{};
  ASSERT_EQ(::stat(fetched->path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0640U);
  ASSERT_THAT(client->asked(), SizeIs(1));
  EXPECT_TRUE(client->asked().front().public_only);
  EXPECT_FALSE(client->asked().front().keep_alive);
  EXPECT_LE(client->asked().front().timeout, std::chrono::seconds(30));
}

TEST_F(PictureFetching, EndsWhereMoreComesThanMay) {
  client->put(kUrl, {body({}, {{"Content-Length", "2000000000"}})});
  EXPECT_EQ(why_not(),
            "invalid_input: image_url: https://pictures.example.com sends a file of 2000000000 bytes; at "
            "most 1000 may be fetched");
  EXPECT_EQ(client->pieces_read(), 0U);
  std::deque<std::string> endless(100, std::string(100, 'x'));
  endless.push_front(picture(100));
  client->put(kUrl, {body(endless, {{"Content-Length", "500"}})});
  EXPECT_THAT(why_not(), HasSubstr("of more than 1000 bytes"));
  EXPECT_EQ(client->pieces_read(), 11U);
  client->put(kUrl, {body({picture(1000)})});
  EXPECT_EQ(why_not(), "fetched");
}

TEST_F(PictureFetching, EndsWithTheFirstBytesThatAreOfNoPicture) {
  client->put(kUrl, {body({"PK\x03\x04" + std::string(100, 'x'), std::string(100, 'x')},
                          {{"Content-Type", "image/png"}})});
  EXPECT_EQ(why_not(),
            "invalid_input: image_url: what https://pictures.example.com sent is a ZIP archive, and no "
            "picture: PNG, JPEG, WebP and GIF are taken");
  EXPECT_EQ(client->pieces_read(), 1U);
  client->put(kUrl, {body({})});
  EXPECT_THAT(why_not(), HasSubstr("sent nothing"));
  client->put(kUrl, {body({"<html>"})});
  EXPECT_THAT(why_not(), HasSubstr("a web page"));
}

TEST_F(PictureFetching, FollowsWhereItIsLedAndChecksEachAddress) {
  client->put(kUrl, {leads_to("/b.png")});
  client->put("https://pictures.example.com/b.png", {leads_to("//cdn.example.com:8443/c.png?x=1#top", 308)});
  client->put("https://cdn.example.com:8443/c.png?x=1#top", {leads_to("d.png", 303)});
  client->put("https://cdn.example.com:8443/d.png", {body({picture(100)})});
  EXPECT_EQ(why_not(), "fetched");
  ASSERT_THAT(client->asked(), SizeIs(4));
  for (const auto& request : client->asked()) EXPECT_TRUE(request.public_only);
}

TEST_F(PictureFetching, IsLedOnNoFurtherThanThreeTimes) {
  client->put(kUrl, {leads_to(kUrl)});
  EXPECT_EQ(why_not(), "invalid_input: image_url: https://pictures.example.com leads on, as 3 before it did");
  EXPECT_THAT(client->asked(), SizeIs(4));
}

TEST_F(PictureFetching, IsNotLedToWhereItMayNotBegin) {
  for (const char* location :
       {"http://127.0.0.1/a.png", "http://[::1]/", "http://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/", "http://[::ffff:192.168.0.1]/", "file:///etc/passwd",
        "unix:/run/docker.sock:/v1", "ftp://example.com/", "https://ann:pw@example.com/",
        "http://exa mple.com/"}) {
    auto fresh = std::make_shared<support::ScriptedClient>();
    fresh->put(kUrl, {leads_to(location)});
    client = fresh;
    EXPECT_THAT(why_not(), StartsWith("invalid_input: image_url: ")) << location;
    EXPECT_THAT(client->asked(), SizeIs(1)) << location;
  }
  client->put(kUrl, {status(302)});
  EXPECT_THAT(why_not(), HasSubstr("leads on to no address"));
}

TEST_F(PictureFetching, GoesToPrivateAddressesOnlyWhereItMay) {
  const std::string url = "http://127.0.0.1:8080/a.png";
  client->put(url, {body({picture(100)})});
  EXPECT_EQ(why_not(url),
            "invalid_input: image_url: http://127.0.0.1:8080 leads to an address that is not public");
  EXPECT_THAT(client->asked(), IsEmpty());
  EXPECT_EQ(why_not(url, 1000, true), "fetched");
  EXPECT_FALSE(client->asked().front().public_only);
}

TEST_F(PictureFetching, TellsWhatCanNeverSucceedFromWhatMayPass) {
  for (const int code : {204, 206, 300, 304, 400, 401, 403, 404, 410, 451}) {
    client->put(kUrl, {status(code)});
    EXPECT_EQ(why_not(),
              "invalid_input: image_url: https://pictures.example.com answered " + std::to_string(code));
  }
  for (const int code : {408, 425, 429, 500, 502, 503, 504}) {
    client->put(kUrl, {status(code)});
    EXPECT_EQ(why_not(),
              "transient: image_url: https://pictures.example.com answered " + std::to_string(code));
  }
  const auto fails_with = [this](ErrorCode code, bool retryable) {
    client->put(kUrl, {{.error = client_error(code, "https://pictures.example.com: why", retryable)}});
    return why_not();
  };
  EXPECT_THAT(fails_with(ErrorCode::kUpstreamError, false), StartsWith("invalid_input: image_url: https://"));
  EXPECT_THAT(fails_with(ErrorCode::kUpstreamError, true), StartsWith("transient: image_url: https://"));
  EXPECT_THAT(fails_with(ErrorCode::kUpstreamTimeout, true), StartsWith("transient: image_url: https://"));
}

TEST_F(PictureFetching, WaitsAsLongAsItIsAskedTo) {
  client->put(kUrl, {status(503, {{"Retry-After", "7"}})});
  const Fetched fetched = fetch(kUrl);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().retry_after, std::chrono::seconds(7));
}

TEST_F(PictureFetching, LeavesNothingOfWhatBrokeOff) {
  ScriptedAnswer half = body({picture(500)});
  half.error = client_error(ErrorCode::kUpstreamError, "https://pictures.example.com: reset", true);
  client->put(kUrl, {half});
  EXPECT_EQ(why_not(), "transient: image_url: https://pictures.example.com: reset");
}

TEST_F(PictureFetching, LeavesNothingWhenItIsStopped) {
  ScriptedAnswer slow = body({picture(500)});
  slow.hangs = true;
  client->put(kUrl, {slow});
  EXPECT_THAT(why_not(kUrl, 1000, false, true), StartsWith("transient: "));
}

TEST_F(PictureFetching, TakesNoPlaceOfAnotherFile) {
  std::ofstream(folder.path() / "try.png") << "another's";
  client->put(kUrl, {body({picture(100)})});
  const Fetched fetched = fetch(kUrl);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().failure, policy::FailureClass::kTransient);
  EXPECT_EQ(std::filesystem::file_size(folder.path() / "try.png"), 9U);
}

}  // namespace
}  // namespace turnpike::provider

// Fetches the picture that an input names by its address, on behalf of a stranger: bounded in bytes and time,
// to public addresses alone unless the operator allows others, and only what begins as a picture is kept.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <string>

#include "net/client.h"
#include "provider/provider.h"

namespace turnpike::provider {

struct PictureFetch {
  std::string url;
  // Where what comes is written, but for the extension, which is that of its kind: a new file, readable by
  // its group, that is its caller's to remove. Nothing is left there where nothing comes of it.
  std::filesystem::path file;
  std::uint64_t bytes_max = 0;
  Duration timeout{};  // from the first look-up to the last byte, redirects included
  bool allow_private = false;
};

// Pictures are often behind one or two (a short link, a content network); each is checked as the first
// address is.
constexpr int kPictureRedirectsMax = 3;
constexpr std::size_t kPictureUrlBytesMax = 2048;

// The file, named by the input's field `image`. On the caller's executor; a cancellation ends it with a
// failure. Failures, which name the host and nothing else of the address:
//   kInvalidInput  the address or what is there can never be taken: no such page (4xx), no picture, too
//   large,
//                  an address that is not public, a certificate that is not trusted
//   kTransient     another attempt may find it: 5xx, 408, 425, 429, refused, broken off, not in time, or no
//                  room on our disk
boost::asio::awaitable<std::expected<InputFile, Failure>> fetch_picture(std::shared_ptr<net::Client> client,
                                                                        PictureFetch fetch);

}  // namespace turnpike::provider

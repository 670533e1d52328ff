// The picture that a try is to edit: got, and looked at, before its provider is asked.
#include <algorithm>
#include <utility>
#include <vector>

#include "node/runners.h"
#include "provider/picture.h"
#include "provider/picture_fetch.h"
#include "provider/upstream_failure.h"

namespace turnpike::node {
namespace asio = boost::asio;
using policy::FailureClass;

asio::awaitable<Runners::Taken> Runners::take_picture(LivePtr live, provider::Request& request) {
  std::string_view name = provider::kPictureField;
  if (auto url = provider::picture_url(request.task, request.input)) {
    name = provider::kPictureUrlField;
    auto fetching = fetch_picture(std::move(live), std::move(*url), request);
    if (Taken fetched = co_await std::move(fetching); !fetched) co_return fetched;
  }
  std::vector<std::filesystem::path> pictures_named;  // one; but whatever stands in the field is looked at
  for (const provider::InputFile& file : request.files) {
    if (file.field == provider::kPictureField) pictures_named.push_back(file.path);
  }
  if (pictures_named.empty()) co_return Taken();
  const policy::Pictures pictures = parts_.policy()->pictures;
  const provider::PictureBounds bounds{.edge_max = pictures.edge_max,
                                       .pixels_max = static_cast<std::int64_t>(pictures.pixels_max)};
  Taken fit;
  auto look = [&fit, &pictures_named, bounds, name] {
    for (const auto& path : pictures_named) {
      if (fit) fit = provider::check_picture(path, bounds, name);
    }
  };
  auto looking = parts_.readers.run_own(std::move(look));
  const Result<void> looked = co_await std::move(looking);
  if (!looked) {
    co_return std::unexpected(
        provider::failure(FailureClass::kTransient, "the server could not prepare the attempt"));
  }
  co_return fit;
}

// Its time is the attempt's. An input has no `image` beside, so it takes nobody's place among the files.
asio::awaitable<Runners::Taken> Runners::fetch_picture(LivePtr live, std::string url,
                                                       provider::Request& request) {
  const policy::Pictures pictures = parts_.policy()->pictures;
  Duration timeout = std::min(pictures.timeout, request.timeout);
  if (live->start.claim) timeout = std::min(timeout, kWorkPictureMax);
  provider::PictureFetch fetch{.url = std::move(url),
                               .file = parts_.spool_dir / to_string(live->start.try_id),
                               .bytes_max = live->start.upload_bytes_max,
                               .timeout = timeout,
                               .allow_private = pictures.allow_private};
  const Monotonic begun = parts_.clock.now().mono;
  auto fetching = provider::fetch_picture(parts_.picture_client, std::move(fetch));
  auto file = co_await std::move(fetching);
  if (!file) co_return std::unexpected(std::move(file.error()));
  live->picture = file->path;
  request.files.push_back(std::move(*file));
  request.timeout -= parts_.clock.now().mono - begun;
  if (request.timeout > Duration{0}) co_return Taken();
  co_return std::unexpected(
      provider::failure(FailureClass::kTimeout, "image_url: the picture took all of the attempt's time"));
}

}  // namespace turnpike::node

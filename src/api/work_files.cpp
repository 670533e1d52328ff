// Files of work: those that its input names, and those that its worker makes.
#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

#include "api/handlers.h"
#include "api/upload.h"
#include "api/work.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kNameMax = 64;

// What it is called in the result: letters, digits, `-` and `_`.
Result<std::string> file_name(const Context& context) {
  const auto name = context.request.query_value("name").value_or("file");
  const bool plain = std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
  if (plain && !name.empty() && name.size() <= kNameMax) return std::string(name);
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("`name` must be 1 to {} letters, digits, `-` or `_`", kNameMax), "name");
}

}  // namespace

Handled upload_work_file(Context& context) {
  const auto id = try_of(context);
  if (!id) co_return std::unexpected(id.error());
  if (auto known = check_query(context, "name"); !known) co_return std::unexpected(std::move(known.error()));
  auto name = file_name(context);
  if (!name) co_return std::unexpected(std::move(name.error()));
  if (context.request.body_file.empty() || context.request.body_bytes == 0)
    co_return fail(ErrorCode::kInvalidRequest, "the body is empty: send the file itself", "body");
  const auto kind = upload_kind(context.request);
  if (!kind) co_return std::unexpected(kind.error());
  const provider::Worker worker = worker_of(context.caller);
  provider::WorkDesk& desk = context.node().desk();
  const auto folder = desk.folder(*id, worker);
  if (!folder) co_return std::unexpected(folder.error());
  if (context.request.body_bytes > folder->file_bytes_max) {
    co_return fail(ErrorCode::kTooLarge,
                   fmt::format("the file has {} bytes; its provider takes {} (file_size)",
                               context.request.body_bytes, folder->file_bytes_max),
                   "body");
  }
  const auto place = folder->work_dir / fmt::format("file-{}.{}", context.node().fresh_id(), kind->extension);
  Result<void> moved;
  std::function<void(journal::Journal&)> question = [&moved, &kind, &place,
                                                     file = context.request.body_file](auto&) {
    moved = check_magic(file, *kind);
    if (!moved) return;
    std::error_code error;
    std::filesystem::rename(file, place, error);
    if (error) moved = fail_errno("the file could not be kept", error.value());
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  // The work may have ended meanwhile, and its folder gone with it: that is what is told then.
  if (!moved) {
    const auto still = desk.folder(*id, worker);
    co_return std::unexpected(still ? moved.error() : still.error());
  }
  auto kept = desk.attach(*id, worker,
                          {.name = *name,
                           .path = place,
                           .mime = std::string(kind->mime),
                           .extension = std::string(kind->extension)});
  if (!kept) co_return std::unexpected(std::move(kept.error()));
  co_return json_response(201, fmt::format(R"({{"object":"work_file","name":"{}","mime":"{}","bytes":{}}})",
                                           *name, kind->mime, context.request.body_bytes));
}

Handled serve_work_input(Context& context) {
  const auto id = try_of(context);
  if (!id) co_return std::unexpected(id.error());
  if (auto known = check_query(context, "file"); !known) co_return std::unexpected(std::move(known.error()));
  const auto folder = context.node().desk().folder(*id, worker_of(context.caller));
  if (!folder) co_return std::unexpected(folder.error());
  const auto number = context.request.query_value("file").value_or("");
  std::size_t at = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), at);
  if (error != std::errc() || end != number.data() + number.size() || at >= folder->inputs.size()) {
    co_return fail(ErrorCode::kNotFound, "this work has no such file: take the urls of its `files`", "file");
  }
  net::Response response;
  response.content_type = folder->inputs[at].mime;
  response.headers.emplace_back("Cache-Control", "no-store");
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.body = net::FileBody{folder->inputs[at].path};
  co_return response;
}

}  // namespace turnpike::api

// Uploads, and files served by their content's hash.
#include <algorithm>
#include <utility>

#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/render.h"
#include "api/upload.h"

namespace turnpike::api {
namespace {

boost::asio::awaitable<Result<void>> check_upload(Context& context, AccountId account, UploadKind kind) {
  const auto row = context.node().account(account);
  const auto* plan = row ? context.policy->plan(row->plan) : nullptr;
  if (plan == nullptr) plan = context.policy->plan(context.policy->accounts.default_plan);
  if (plan != nullptr && context.request.body_bytes > plan->limits.upload_bytes_max) {
    co_return fail(ErrorCode::kTooLarge,
                   fmt::format("the file has {} bytes; plan {} allows {}", context.request.body_bytes,
                               plan->name, plan->limits.upload_bytes_max),
                   "body");
  }
  Result<void> checked;
  std::function<void(journal::Journal&)> question =
      [&checked, &kind, file = context.request.body_file](auto&) { checked = check_magic(file, kind); };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  co_return checked;
}

std::string upload_json(const engine::ArtifactRef& artifact, Wall created_at) {
  Buffer out;
  append(out, "{\"object\":\"artifact\",\"created_at\":");
  append_time(out, created_at);
  Buffer inner;
  append_artifact(inner, artifact);
  out.push_back(',');
  append(out, std::string_view(inner.data() + 1, inner.size() - 1));
  return to_text(out);
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 &&
         std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// The row by which the caller may see this content; nothing if there is none.
std::optional<engine::ArtifactRef> visible(const std::vector<journal::ArtifactRow>& rows,
                                           std::optional<AccountId> scope, std::string_view extension) {
  for (const auto& row : rows) {
    if ((!scope || row.account == *scope) && row.ref.extension == extension) return row.ref;
  }
  return std::nullopt;
}

bool none_match(const net::Request& request, std::string_view etag) {
  const std::string* header = request.header("If-None-Match");
  return header != nullptr && (*header == "*" || header->find(etag) != std::string::npos);
}

}  // namespace

Handled upload_artifact(Context& context) {
  if (context.request.body_file.empty() || context.request.body_bytes == 0) {
    co_return fail(ErrorCode::kInvalidRequest, "the body is empty: send the file itself", "body");
  }
  const auto kind = upload_kind(context.request);
  if (!kind) co_return std::unexpected(kind.error());
  auto finding = acting_account(context, {});
  const auto account = co_await std::move(finding);
  if (!account) co_return std::unexpected(account.error());
  auto checking = check_upload(context, *account, *kind);
  const auto checked = co_await std::move(checking);
  if (!checked) co_return std::unexpected(checked.error());
  auto storing = context.node().store_artifact(context.request.body_file, std::string(kind->mime),
                                               std::string(kind->extension), *account);
  const auto artifact = co_await std::move(storing);
  if (!artifact) co_return std::unexpected(artifact.error());
  co_return json_response(201, upload_json(*artifact, context.now));
}

Handled serve_artifact(Context& context) {
  const Error absent = fail(ErrorCode::kNotFound, "there is no such artifact", "name").error();
  const std::string_view name = context.id;
  const auto dot = name.find('.');
  if (dot == std::string_view::npos || !is_sha256(name.substr(0, dot))) co_return std::unexpected(absent);
  const std::string hash(name.substr(0, dot));
  Result<std::vector<journal::ArtifactRow>> rows;
  std::function<void(journal::Journal&)> question = [&rows, &hash](auto& journal) {
    rows = journal.artifacts_by_sha256(hash);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  if (!rows) co_return std::unexpected(rows.error());
  const auto artifact = visible(*rows, context.scope(), name.substr(dot + 1));
  if (!artifact) co_return std::unexpected(absent);
  const std::string etag = "\"" + hash + "\"";
  net::Response response;
  response.content_type = artifact->mime;
  response.headers.emplace_back("ETag", etag);
  response.headers.emplace_back("Cache-Control", "private, max-age=31536000, immutable");
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.headers.emplace_back("Content-Security-Policy", "sandbox; default-src 'none'");
  if (none_match(context.request, etag)) {
    response.status = 304;
    response.body = std::string();
  } else {
    response.body = net::FileBody{context.node().artifact_path(hash, artifact->extension)};
  }
  co_return response;
}

}  // namespace turnpike::api

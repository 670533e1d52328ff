#include "cli/demo_client.h"

#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <fstream>
#include <system_error>

namespace turnpike::cli {

namespace json = boost::json;

std::string text_at(const json::value& value, std::string_view pointer) {
  json::error_code ec;
  const json::value* found = value.find_pointer(pointer, ec);
  const auto* text = found != nullptr ? found->if_string() : nullptr;
  return text != nullptr ? std::string(text->data(), text->size()) : std::string();
}

std::optional<std::int64_t> number_at(const json::value& value, std::string_view pointer) {
  json::error_code ec;
  const json::value* found = value.find_pointer(pointer, ec);
  if (found == nullptr || !found->is_number()) return std::nullopt;
  return found->to_number<std::int64_t>(ec);
}

Result<json::value> DemoClient::ask(std::string_view method, const std::string& path, std::string body,
                                    std::size_t user, int status) {
  const auto response = http_.send(method, path, std::move(body),
                                   {{"Turnpike-Account", std::string(kDemoUsers.at(user).first)}});
  if (!response) return std::unexpected(response.error());
  if (response->status == 404) return fail(ErrorCode::kNotFound, error_message(*response));
  if (response->status != status) return fail(ErrorCode::kUpstreamError, error_message(*response));
  json::error_code ec;
  json::value value = json::parse(response->body, ec);
  if (ec) return fail(ErrorCode::kUpstreamError, "the server's answer is no JSON");
  return value;
}

Result<std::vector<std::filesystem::path>> DemoClient::fetch(std::size_t user, const std::string& id,
                                                             const json::value& body) {
  json::error_code ec;
  const json::value* artifacts = body.find_pointer("/result/artifacts", ec);
  if (artifacts == nullptr || !artifacts->is_array() || artifacts->get_array().empty())
    return fail(ErrorCode::kUpstreamError, fmt::format("{} was completed without a file", id));
  const std::string name(kDemoUsers.at(user).first);
  const std::filesystem::path folder = out_ / name;
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed)
    return fail(ErrorCode::kIo, fmt::format("cannot make {}: {}", folder.string(), failed.message()));
  std::vector<std::filesystem::path> files;
  for (const auto& artifact : artifacts->get_array()) {
    const std::string url = text_at(artifact, "/url");
    const auto response = http_.send("GET", url, {}, {{"Turnpike-Account", name}});
    if (!response) return std::unexpected(response.error());
    const auto bytes = number_at(artifact, "/bytes");
    if (response->status != 200 || bytes != static_cast<std::int64_t>(response->body.size())) {
      return fail(ErrorCode::kUpstreamError, fmt::format("{} did not come as promised (status {}, {} bytes)",
                                                         url, response->status, response->body.size()));
    }
    const auto file = folder / (id + std::filesystem::path(url).extension().string());
    std::ofstream stream(file, std::ios::binary | std::ios::trunc);
    stream << response->body;
    stream.close();
    if (!stream) return fail(ErrorCode::kIo, fmt::format("cannot write {}", file.string()));
    files.push_back(file);
  }
  return files;
}

}  // namespace turnpike::cli

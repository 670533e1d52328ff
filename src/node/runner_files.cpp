// The part of the runners that blocks: folders, inputs, results. All of it runs on reader threads.
#include <boost/json.hpp>
#include <fstream>
#include <iterator>
#include <span>
#include <system_error>
#include <utility>

#include "node/runners.h"

namespace turnpike::node {
namespace fs = std::filesystem;

Result<void> Runners::read_inputs(const Live& live, bool with_folder, provider::Request& request) const {
  if (!live.start.body && !request.wire) {
    auto stored = parts_.journal.job(live.start.row.id, true);
    if (!stored) return std::unexpected(std::move(stored.error()));
    if (!*stored || !(*stored)->body) return fail(ErrorCode::kInternal, "a job that starts has no input");
    request.input = (*stored)->body->input;
  }
  if (with_folder) {
    std::error_code error;
    fs::create_directory(folder_of(live), error);
    if (error) return fail_errno("making a work folder", error.value());
    request.work_dir = folder_of(live);
  }
  return find_files(live.start.row.account, request);
}

Result<std::optional<provider::InputFile>> Runners::find_file(AccountId account, std::string_view id) const {
  const auto parsed = parse_id<ArtifactTag>(id);
  if (!parsed) return std::nullopt;
  const auto row = parts_.journal.artifact(*parsed);
  if (!row) return std::unexpected(row.error());
  if (!*row || (*row)->account != account) return std::nullopt;
  const engine::ArtifactRef& ref = (*row)->ref;
  return provider::InputFile{
      .field = {}, .path = parts_.artifacts.path_of(ref.sha256, ref.extension), .mime = ref.mime};
}

// Top-level fields of the input that are ids of the account's own artifacts, or lists of nothing else. What
// is not is left to the provider, which knows whether the field should have been one; so is a list with more
// than there is room for.
Result<void> Runners::find_files(AccountId account, provider::Request& request) const {
  if (request.input.find(ArtifactTag::kPrefix) == std::string::npos) return {};
  boost::system::error_code error;
  const boost::json::value input = boost::json::parse(request.input, error);
  if (error || !input.is_object()) return {};
  for (const auto& field : input.get_object()) {
    const std::size_t room = provider::kInputFilesMax - request.files.size();
    const auto* list = field.value().if_array();
    const std::span<const boost::json::value> ids =
        list != nullptr ? std::span(list->data(), list->size()) : std::span(&field.value(), 1);
    if (ids.size() > room) continue;
    std::vector<provider::InputFile> files;
    for (const boost::json::value& id : ids) {
      if (!id.is_string()) break;
      auto file = find_file(account, std::string_view(id.get_string()));
      if (!file) return std::unexpected(std::move(file.error()));
      if (!*file) break;
      (*file)->field = std::string(field.key());
      if (list != nullptr) (*file)->place = static_cast<std::uint32_t>(files.size());
      files.push_back(std::move(**file));
    }
    if (files.size() == ids.size())
      request.files.insert(request.files.end(), std::make_move_iterator(files.begin()),
                           std::make_move_iterator(files.end()));
  }
  return {};
}

// Moves what was produced into the store; either all of it or nothing stays.
Result<std::vector<engine::ArtifactRef>> Runners::store_files(const Live& live,
                                                              provider::Success& success) const {
  std::vector<engine::ArtifactRef> kept;
  if (auto stored = store_all(live, success, kept); !stored) {
    for (const engine::ArtifactRef& ref : kept) parts_.artifacts.release(ref, false);
    return std::unexpected(std::move(stored.error()));
  }
  return kept;
}

Result<void> Runners::store_all(const Live& live, provider::Success& success,
                                std::vector<engine::ArtifactRef>& kept) const {
  for (provider::ProducedFile& file : success.files) {
    auto ref = parts_.artifacts.put(file.path, std::move(file.mime), std::move(file.extension));
    if (!ref) return std::unexpected(std::move(ref.error()));
    kept.push_back(std::move(*ref));
  }
  if (success.output.size() <= provider::kOutputBytesMax) return {};
  const fs::path path = parts_.spool_dir / (to_string(live.start.try_id) + ".json");
  std::ofstream file(path, std::ios::binary);
  file << success.output;
  file.close();
  if (!file) return fail(ErrorCode::kIo, "writing a large output failed");
  auto ref = parts_.artifacts.put(path, "application/json", "json");
  if (!ref) return std::unexpected(std::move(ref.error()));
  kept.push_back(std::move(*ref));
  success.output = R"({"output_in_artifact":)" + std::to_string(kept.size() - 1) + "}";
  return {};
}

}  // namespace turnpike::node

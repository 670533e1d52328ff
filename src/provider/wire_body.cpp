#include "provider/wire_body.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/json_escape.h"
#include "base/json_walk.h"
#include "base/multipart.h"

namespace turnpike::provider {
namespace {

constexpr std::array<std::string_view, 3> kOwnFields = {"userId", "userTier", "videoConfig"};

// The names under which an operation takes its output limit.
std::vector<std::string_view> limit_names(Wire kind) {
  switch (kind) {
    case Wire::kChat:
      return {"max_tokens", "max_completion_tokens"};
    case Wire::kCompletions:
      return {"max_tokens"};
    case Wire::kResponses:
      return {"max_output_tokens"};
    case Wire::kNone:
    case Wire::kEmbeddings:
    case Wire::kImages:
    case Wire::kImageEdits:
    case Wire::kSpeech:
    case Wire::kTranscriptions:
      return {};
  }
  return {};
}

// Pieces of a text that become others. They do not overlap; what is inserted at one place keeps its order.
class Splice {
 public:
  explicit Splice(std::string_view text) : text_(text) {}

  void replace(std::size_t begin, std::size_t end, std::string with) {
    const auto behind = std::ranges::upper_bound(edits_, begin, {}, &Edit::begin);
    edits_.insert(behind, Edit{.begin = begin, .end = end, .with = std::move(with)});
  }
  void insert(std::size_t at, std::string what) { replace(at, at, std::move(what)); }

  std::string result() {
    std::size_t size = text_.size();
    for (const Edit& edit : edits_) size += edit.with.size();
    std::string out;
    out.reserve(size);
    std::size_t at = 0;
    for (const Edit& edit : edits_) {
      out.append(text_.substr(at, edit.begin - at)).append(edit.with);
      at = edit.end;
    }
    return out.append(text_.substr(at));
  }

 private:
  struct Edit {
    std::size_t begin, end;
    std::string with;
  };
  const std::string_view text_;
  std::vector<Edit> edits_;  // by begin
};

// Takes the members that are our own out, each with one comma.
void drop_own(const std::vector<JsonMember>& members, Splice& splice) {
  std::size_t kept = members.size();  // the last that stays
  for (std::size_t i = members.size(); i-- > 0 && kept == members.size();) {
    if (!is_own_field(members[i].name)) kept = i;
  }
  if (kept == members.size()) return;
  for (std::size_t i = 0; i < kept; ++i) {
    if (is_own_field(members[i].name)) splice.replace(members[i].begin, members[i + 1].begin, {});
  }
  if (kept + 1 < members.size()) splice.replace(members[kept].end(), members.back().end(), {});
}

// Usage of a stream is asked for whether or not the client wants to see it.
void ask_for_usage(const std::vector<JsonMember>& members, std::size_t first, Splice& splice) {
  constexpr std::string_view kAsk = "\"include_usage\":true";
  const JsonMember* options = find_member(members, "stream_options");
  if (options == nullptr) {
    splice.insert(first, fmt::format("\"stream_options\":{{{}}},", kAsk));
    return;
  }
  const auto inner = json_members(options->value);
  if (!inner || inner->empty()) {
    splice.replace(options->value_begin, options->end(), fmt::format("{{{}}}", kAsk));
    return;
  }
  const JsonMember* asked = find_member(*inner, "include_usage");
  if (asked == nullptr) {
    splice.insert(options->value_begin + inner->front().begin, fmt::format("{},", kAsk));
  } else if (asked->value != "true") {
    splice.replace(options->value_begin + asked->value_begin, options->value_begin + asked->end(), "true");
  }
}

void bound_output(const std::vector<JsonMember>& members, const WireCall& call, const WireChange& change,
                  std::size_t first, Splice& splice) {
  if (change.output_limit <= 0) return;
  bool named = false;
  for (const std::string_view name : limit_names(call.kind)) {
    const JsonMember* member = find_member(members, name);
    if (member == nullptr || member->is_null()) continue;
    named = true;
    const auto asked = member->whole();
    if (asked && *asked <= change.output_limit) continue;
    splice.replace(member->value_begin, member->end(), fmt::to_string(change.output_limit));
  }
  if (named || change.limit_name.empty()) return;
  std::string limit = fmt::to_string(change.output_limit);
  if (const JsonMember* null = find_member(members, change.limit_name)) {
    splice.replace(null->value_begin, null->end(), std::move(limit));
  } else {
    splice.insert(first, fmt::format("\"{}\":{},", change.limit_name, limit));
  }
}

std::unexpected<Error> not_as_expected() {
  return fail(ErrorCode::kInvalidRequest, "the body cannot be read", "body");
}

Result<std::string> change_json(const WireCall& call, const WireChange& change) {
  const auto members = json_members(call.body);
  if (!members) return not_as_expected();
  const JsonMember* model = find_member(*members, "model");
  if (model == nullptr) return not_as_expected();
  const std::size_t first = call.body.find('{') + 1;
  Splice splice(call.body);
  splice.replace(model->value_begin, model->end(), json_quoted(change.model));
  bound_output(*members, call, change, first, splice);
  const bool tells_usage = call.kind == Wire::kChat || call.kind == Wire::kCompletions;
  if (call.stream && tells_usage) ask_for_usage(*members, first, splice);
  drop_own(*members, splice);
  return splice.result();
}

Result<std::string> change_form(const WireCall& call, const WireChange& change) {
  const auto parts = form_parts(call.content_type, call.body);
  const FormPart* model = parts ? find_part(*parts, "model") : nullptr;
  if (model == nullptr) return not_as_expected();
  Splice splice(call.body);
  splice.replace(model->content_begin, model->content_begin + model->content.size(),
                 std::string(change.model));
  return splice.result();
}

}  // namespace

std::string_view wire_path(Wire kind) {
  switch (kind) {
    case Wire::kChat:
      return "/chat/completions";
    case Wire::kCompletions:
      return "/completions";
    case Wire::kResponses:
      return "/responses";
    case Wire::kEmbeddings:
      return "/embeddings";
    case Wire::kImages:
      return "/images/generations";
    case Wire::kImageEdits:
      return "/images/edits";
    case Wire::kSpeech:
      return "/audio/speech";
    case Wire::kTranscriptions:
      return "/audio/transcriptions";
    case Wire::kNone:
      return "";
  }
  return "";
}

bool is_own_field(std::string_view name) {
  return std::ranges::find(kOwnFields, name) != kOwnFields.end();
}

Result<std::string> change_body(const WireCall& call, const WireChange& change) {
  return call.content_type.starts_with("multipart/") ? change_form(call, change) : change_json(call, change);
}

std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || c == '"' || c == '\\') {
      out += json_escape(byte);
    } else {
      out += c;
    }
  }
  return out += '"';
}

}  // namespace turnpike::provider

#include "api/wire_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "api/json.h"
#include "base/json_walk.h"
#include "base/multipart.h"

namespace turnpike::api {
namespace {

using provider::Wire;

constexpr std::uint64_t kMiB = 1ULL << 20U;
constexpr std::size_t kModelMax = 128;
constexpr std::int64_t kTokensMax = 10'000'000;
constexpr std::int64_t kChoicesMax = 128;
constexpr std::int64_t kEdgeMax = 16'384;
constexpr std::int64_t kScalarBytes = 8;  // a number, true, false or null, as text
// What is not compressed below a kilobyte a second is a second or less of sound: a bound on its duration.
constexpr std::int64_t kMillisecondsPerByte = 1;

// Pictures in messages make a body large; so do sound files.
constexpr std::array kOperations = {
    Operation{Wire::kChat, "/v1/chat/completions", "text", false, 16 * kMiB},
    Operation{Wire::kCompletions, "/v1/completions", "text", false, 4 * kMiB},
    Operation{Wire::kResponses, "/v1/responses", "text", false, 16 * kMiB},
    Operation{Wire::kEmbeddings, "/v1/embeddings", "embedding", false, 4 * kMiB},
    Operation{Wire::kImages, "/v1/images/generations", "image", false, 1 * kMiB},
    Operation{Wire::kImageEdits, "/v1/images/edits", "image_edit", true, 64 * kMiB},
    Operation{Wire::kSpeech, "/v1/audio/speech", "speech", false, 1 * kMiB},
    Operation{Wire::kTranscriptions, "/v1/audio/transcriptions", "transcription", true, 26 * kMiB},
};

// Fields that are read or written here, by any operation: to take one for another would cost.
constexpr std::array<std::string_view, 22> kKnown = {"model",
                                                     "messages",
                                                     "input",
                                                     "prompt",
                                                     "stream",
                                                     "stream_options",
                                                     "max_tokens",
                                                     "max_completion_tokens",
                                                     "max_output_tokens",
                                                     "n",
                                                     "best_of",
                                                     "size",
                                                     "user",
                                                     "userId",
                                                     "userTier",
                                                     "videoConfig",
                                                     "tools",
                                                     "service_tier",
                                                     "background",
                                                     "stream_format",
                                                     "partial_images",
                                                     "instructions"};

// Fields that providers charge for beside tokens, or by more than tokens of text, whatever they say.
constexpr std::array<std::string_view, 6> kCostly = {
    "web_search_options", "audio", "prediction", "previous_response_id", "conversation", "partial_images"};

template <std::size_t N>
bool among(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Some servers match names whatever their case.
const std::string_view* known_otherwise(std::string_view name) {
  for (const auto& known : kKnown) {
    const bool alike = std::ranges::equal(name, known, [](char a, char b) { return lower(a) == lower(b); });
    if (alike) return name == known ? nullptr : &known;
  }
  return nullptr;
}

std::unexpected<Error> wrong(std::string_view field, std::string_view right) {
  return fail(ErrorCode::kInvalidRequest, fmt::format("`{}` {}", field, right), std::string(field));
}

std::int64_t characters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; });
}

// One pass over a body: its members, and how much there is to read for a model.
struct Measure : JsonVisitor {
  std::vector<JsonMember> members;
  std::string_view top;       // the member of the body under way
  std::string_view escaped;   // a name of the body's with an escape in it
  bool conversation = false;  // in messages or input
  std::int64_t text_bytes = 0;
  std::int64_t messages = 0;
  std::int64_t prompts = 0;   // elements of `prompt` that are texts or lists
  std::int64_t pictures = 0;  // parts that say so
  std::int64_t data_urls = 0;
  std::vector<std::string> extras;

  void key(int depth, std::string_view raw) {
    if (depth == 1) {
      top = raw;
      conversation = raw == "messages" || raw == "input";
      if (raw.find('\\') != std::string_view::npos) escaped = raw;
    } else {
      text_bytes += static_cast<std::int64_t>(raw.size());  // schemas are read as well
    }
  }
  void enter(int depth, std::string_view /*key*/, bool object) {
    if (depth == 3 && object && conversation) ++messages;
    if (depth == 3 && !object && top == "prompt") ++prompts;
  }
  void text(int depth, std::string_view key, std::string_view raw, std::size_t bytes) {
    if (depth == 2 && top == "prompt") ++prompts;
    if (conversation && key == "type") part(raw);
    const bool picture = conversation && (key == "url" || key == "image_url") && raw.starts_with("data:");
    if (picture) {
      ++data_urls;
    } else if (depth != 1 || is_read(top)) {
      text_bytes += static_cast<std::int64_t>(bytes);
    }
    if (depth == 3 && top == "tools" && key == "type" && raw != "function" && raw != "custom")
      add("tools." + std::string(raw));
    if (depth == 2 && top == "modalities" && raw == "audio") add("modalities");
  }
  void scalar(int depth, std::string_view /*key*/, std::string_view /*raw*/) {
    if (depth < 2) return;
    // Tokens may be given as their numbers.
    text_bytes += top == "input" || top == "prompt" ? 1 : kScalarBytes;
  }
  void member(const JsonMember& member) { members.push_back(member); }

  // Texts at the top that a model reads; the others are names and words for the server.
  static bool is_read(std::string_view name) {
    return name == "prompt" || name == "input" || name == "instructions" || name == "suffix";
  }
  void part(std::string_view type) {
    if (type == "image_url" || type == "input_image") ++pictures;
    if (type == "input_audio" || type == "file" || type == "input_file") add(std::string(type));
  }
  void add(std::string extra) {
    if (std::ranges::find(extras, extra) == extras.end()) extras.push_back(std::move(extra));
  }
};

// What is read of both shapes: a member of a JSON object, or a part of a form.
struct Field {
  std::string_view text;  // JSON text, or the part's content
  bool json = true;
  bool absent() const { return json && text == "null"; }
};

std::optional<std::int64_t> whole_of(std::string_view text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc{} && stop == end ? std::optional(number) : std::nullopt;
}

Result<std::optional<std::int64_t>> read_whole(const std::optional<Field>& field, std::string_view name,
                                               std::int64_t most) {
  if (!field || field->absent()) return std::nullopt;
  const auto number = whole_of(field->text);
  if (number && *number >= 1 && *number <= most) return number;
  return wrong(name, fmt::format("must be a whole number from 1 to {}", most));
}

Result<bool> read_bool(const std::optional<Field>& field, std::string_view name) {
  if (!field || field->absent() || field->text == "false") return false;
  if (field->text == "true") return true;
  return wrong(name, "must be true or false");
}

Result<std::string> read_text(const Field& field, std::string_view name) {
  if (!field.json) return std::string(field.text);
  if (!field.text.starts_with('"')) return wrong(name, "must be a text");
  if (field.text.find('\\') == std::string_view::npos)
    return std::string(field.text.substr(1, field.text.size() - 2));
  const auto parsed = parse_json(field.text, {});
  if (!parsed || !parsed->is_string()) return wrong(name, "must be a text");
  return std::string(parsed->get_string());
}

// "1024x1536"; what is no size (auto) says nothing.
void read_size(std::string_view size, policy::Ask& ask) {
  const std::size_t cross = size.find('x');
  if (cross == std::string_view::npos) return;
  const auto width = whole_of(size.substr(0, cross));
  const auto height = whole_of(size.substr(cross + 1));
  if (!width || !height || *width < 1 || *height < 1 || *width > kEdgeMax || *height > kEdgeMax) return;
  ask.width = width;
  ask.height = height;
}

// The fields that bound what a request may cost; `find` gives one by its name.
template <typename Find>
Result<void> read_bounds(const Operation& operation, const Find& find, WireFields& fields) {
  const auto model = find("model");
  if (!model || model->absent()) return wrong("model", "is missing: name the model to be used");
  auto name = read_text(*model, "model");
  if (!name) return std::unexpected(std::move(name.error()));
  if (name->empty() || name->size() > kModelMax)
    return wrong("model", fmt::format("must be a text of 1 to {} bytes", kModelMax));
  fields.model = std::move(*name);
  auto stream = read_bool(find("stream"), "stream");
  if (!stream) return std::unexpected(std::move(stream.error()));
  fields.stream = *stream;
  policy::Ask& ask = fields.ask;
  for (const std::string_view limit : {"max_tokens", "max_completion_tokens", "max_output_tokens"}) {
    auto tokens = read_whole(find(limit), limit, kTokensMax);
    if (!tokens) return std::unexpected(std::move(tokens.error()));
    if (*tokens) ask.max_output_tokens = std::max(ask.max_output_tokens.value_or(0), **tokens);
  }
  for (const std::string_view choices : {"n", "best_of"}) {
    auto number = read_whole(find(choices), choices, kChoicesMax);
    if (!number) return std::unexpected(std::move(number.error()));
    if (*number) ask.choices = std::max(ask.choices, **number);
  }
  for (const std::string_view costly : kCostly) {
    const auto field = find(costly);
    if (field && !field->absent()) ask.extras.emplace_back(costly);
  }
  if (const auto tier = find("service_tier"); tier && !tier->absent()) {
    const auto word = read_text(*tier, "service_tier");
    if (word && *word != "auto" && *word != "default" && *word != "flex")
      ask.extras.emplace_back("service_tier");
  }
  if (const auto size = find("size"); size && !size->absent()) {
    if (const auto text = read_text(*size, "size")) read_size(*text, ask);
  }
  if (const auto background = find("background"); background && background->text == "true")
    return wrong("background", "must be left out, or false: what would be used could not be known");
  if (operation.kind == Wire::kSpeech) {
    const auto format = find("stream_format");
    fields.stream = format && !format->absent() && read_text(*format, "stream_format") == "sse";
  }
  return {};
}

Result<void> check_names(const Measure& measure) {
  if (!measure.escaped.empty())
    return fail(ErrorCode::kInvalidRequest, "the name of a field must be written without escapes", "body");
  std::vector<std::string_view> names;
  names.reserve(measure.members.size());
  for (const JsonMember& member : measure.members) names.push_back(member.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice != names.end()) return wrong(*twice, "is given twice");
  for (const std::string_view name : names) {
    if (const auto* known = known_otherwise(name))
      return wrong(name, fmt::format("must be written `{}`", *known));
  }
  return {};
}

Result<bool> read_stream_options(const std::vector<JsonMember>& members) {
  const JsonMember* options = find_member(members, "stream_options");
  if (options == nullptr || options->is_null()) return false;
  const auto inner = json_members(options->value);
  if (!inner) return wrong("stream_options", "must be an object");
  const auto count = std::ranges::count(*inner, "include_usage", &JsonMember::name);
  if (count > 1) return wrong("stream_options.include_usage", "is given twice");
  for (const JsonMember& option : *inner) {
    if (option.name.find('\\') != std::string_view::npos)
      return wrong("stream_options", "must be written without escapes");
  }
  const JsonMember* asked = find_member(*inner, "include_usage");
  if (asked == nullptr) return false;
  return read_bool(Field{.text = asked->value}, "stream_options.include_usage");
}

// What a model is to be given must be there, and be of the right kind.
Result<void> check_content(const Operation& operation, const Measure& measure) {
  const auto needs = [&measure](std::string_view name) { return find_member(measure.members, name); };
  switch (operation.kind) {
    case Wire::kChat: {
      const JsonMember* messages = needs("messages");
      if (messages == nullptr)
        return wrong("messages", "is missing: the conversation, as a list of messages");
      if (!messages->is_list() || measure.messages == 0)
        return wrong("messages", "must be a list of messages");
      return {};
    }
    case Wire::kEmbeddings:
    case Wire::kSpeech: {
      const JsonMember* input = needs("input");
      if (input == nullptr || input->is_null()) return wrong("input", "is missing");
      if (operation.kind == Wire::kSpeech && !input->is_text()) return wrong("input", "must be a text");
      return {};
    }
    case Wire::kImages:
      if (needs("prompt") == nullptr) return wrong("prompt", "is missing");
      return {};
    case Wire::kCompletions:
    case Wire::kResponses:
    case Wire::kImageEdits:
    case Wire::kTranscriptions:
    case Wire::kNone:
      return {};
  }
  return {};
}

std::string identity_of(const std::vector<JsonMember>& members) {
  std::string object = "{";
  for (const std::string_view name : {"user", "userId", "userTier", "videoConfig"}) {
    const JsonMember* member = find_member(members, name);
    if (member == nullptr) continue;
    if (object.size() > 1) object += ',';
    object += quote(name);
    object += ':';
    object += member->value;
  }
  return object += '}';
}

Result<WireFields> read_object(const Operation& operation, std::string_view body) {
  if (body.empty()) return fail(ErrorCode::kInvalidRequest, "the body is empty: send a JSON object", "body");
  Measure measure;
  measure.members.reserve(16);
  if (const auto fault = walk_json(body, measure)) {
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("the body is not valid JSON (at byte {}), or nested deeper than {} levels",
                            fault->at, kJsonWalkDepthMax),
                "body");
  }
  const std::size_t first = body.find_first_not_of(" \n\r\t");
  if (body[first] != '{') return fail(ErrorCode::kInvalidRequest, "the body must be a JSON object", "body");
  if (auto checked = check_names(measure); !checked) return std::unexpected(std::move(checked.error()));
  WireFields fields;
  const auto find = [&measure](std::string_view name) -> std::optional<Field> {
    const JsonMember* member = find_member(measure.members, name);
    return member == nullptr ? std::nullopt : std::optional(Field{.text = member->value});
  };
  if (auto read = read_bounds(operation, find, fields); !read)
    return std::unexpected(std::move(read.error()));
  if (auto checked = check_content(operation, measure); !checked)
    return std::unexpected(std::move(checked.error()));
  auto wants = read_stream_options(measure.members);
  if (!wants) return std::unexpected(std::move(wants.error()));
  fields.wants_usage = *wants;
  policy::Ask& ask = fields.ask;
  ask.text_bytes = measure.text_bytes;
  ask.messages = std::max<std::int64_t>(1, measure.messages);
  ask.pictures = std::max(measure.pictures, measure.data_urls);
  for (std::string& extra : measure.extras) ask.extras.push_back(std::move(extra));
  if (operation.kind == Wire::kCompletions) ask.choices *= std::max<std::int64_t>(1, measure.prompts);
  if (operation.kind == Wire::kSpeech) {
    const auto text = read_text(*find("input"), "input");
    if (!text) return std::unexpected(text.error());
    ask.characters = characters(*text);
  }
  fields.identity = identity_of(measure.members);
  return fields;
}

Result<WireFields> read_form(const Operation& operation, std::string_view content_type,
                             std::string_view body) {
  const auto parts = form_parts(content_type, body);
  if (!parts) {
    return fail(ErrorCode::kInvalidRequest, "the body must be multipart/form-data, whole, with a boundary",
                "body");
  }
  WireFields fields;
  for (const FormPart& part : *parts) {
    if (part.is_file) continue;
    if (const auto* known = known_otherwise(part.name))
      return wrong(part.name, fmt::format("must be written `{}`", *known));
    const auto same = [&part](const FormPart& other) { return other.name == part.name; };
    if (among(kKnown, part.name) && std::ranges::count_if(*parts, same) > 1)
      return wrong(part.name, "is given twice");
  }
  const auto find = [&parts](std::string_view name) -> std::optional<Field> {
    const FormPart* part = find_part(*parts, name);
    if (part == nullptr || part->is_file) return std::nullopt;
    return Field{.text = part->content, .json = false};
  };
  if (auto read = read_bounds(operation, find, fields); !read)
    return std::unexpected(std::move(read.error()));
  std::int64_t files = 0;
  std::int64_t file_bytes = 0;
  for (const FormPart& part : *parts) {
    if (part.is_file) {
      ++files;
      file_bytes += static_cast<std::int64_t>(part.content.size());
    } else {
      fields.ask.text_bytes += static_cast<std::int64_t>(part.content.size());
    }
  }
  const bool sound = operation.kind == Wire::kTranscriptions;
  if (files == 0) return wrong(sound ? "file" : "image", "is missing: send it as a part with a file's name");
  if (sound) {
    fields.ask.duration_ms = file_bytes * kMillisecondsPerByte;
  } else {
    fields.ask.pictures = files;
  }
  if (const auto user = find("user")) fields.identity = "{\"user\":" + quote(user->text) + "}";
  return fields;
}

}  // namespace

std::span<const Operation> operations() {
  return kOperations;
}

const Operation* operation_at(std::string_view path) {
  const auto found = std::ranges::find(kOperations, path, &Operation::path);
  return found == kOperations.end() ? nullptr : &*found;
}

const Operation& operation_of(Wire kind) {
  return *std::ranges::find(kOperations, kind, &Operation::kind);
}

Result<WireFields> read_wire(const Operation& operation, std::string_view content_type,
                             std::string_view body) {
  return operation.form ? read_form(operation, content_type, body) : read_object(operation, body);
}

}  // namespace turnpike::api

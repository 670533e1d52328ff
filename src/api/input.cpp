#include "api/input.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <string>

#include "net/public_address.h"

namespace turnpike::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kTextMax = 1 << 20;  // the body's own bound is what counts
constexpr std::size_t kNameMax = 64;
constexpr std::int64_t kEdgeMax = 8192;
constexpr std::size_t kTextsMax = 2048;
constexpr std::size_t kUrlBytesMax = 2048;

bool is_name(std::string_view text) {
  return text.front() != '-' && text.front() != '.' && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
                  c == '+' || c == '.' || c == '-';
         });
}

void check_content(const json::value& content, const std::string& path, Mistakes& mistakes) {
  if (content.is_string()) return;
  const auto* parts = content.if_array();
  const bool good =
      parts != nullptr && !parts->empty() && std::ranges::all_of(*parts, [](const json::value& part) {
        const auto* object = part.if_object();
        const auto* type = object != nullptr ? object->if_contains("type") : nullptr;
        const auto* text = object != nullptr ? object->if_contains("text") : nullptr;
        return type != nullptr && type->is_string() && type->get_string() == "text" && text != nullptr &&
               text->is_string();
      });
  if (!good) {
    mistakes.add(path, fmt::format("`{}` must be a text, or a list of parts of type `text`", path));
  }
}

void check_text(Fields& fields, const json::object& input, std::string_view path, Mistakes& mistakes) {
  const bool has_prompt = fields.text("prompt", 1, kTextMax).has_value();
  const auto* messages = fields.array("messages", 1, kMessagesMax);
  if (messages != nullptr) check_messages(*messages, std::string(path) + "messages", mistakes);
  if (has_prompt && messages != nullptr) {
    fields.mistake("messages", fmt::format("give `{}prompt` or `{}messages`, not both", path, path));
  }
  if (!input.contains("prompt") && !input.contains("messages")) {
    fields.mistake(
        "prompt", fmt::format("`{}prompt` (a text) or `{}messages` (a conversation) is missing", path, path));
  }
  (void)fields.integer("max_tokens", 1, kMaxTokensMax);
  check_sampling(fields);
}

void check_speech(Fields& fields) {
  fields.require("text");
  (void)fields.text("text", 1, kTextMax);
  const auto voice = fields.text("voice", 1, kNameMax);
  if (voice && !is_name(*voice)) {
    fields.mistake("voice", "a voice is a name such as `en` or `en-gb`, of letters, digits and _+.-");
  }
  (void)fields.integer("speed", 1, 1000);
  (void)fields.word("format", {"wav", "mp3", "ogg", "flac", "opus", "aac", "pcm"});
}

void check_image(Fields& fields) {
  fields.require("prompt");
  (void)fields.text("prompt", 1, kTextMax);
  (void)fields.integer("width", 1, kEdgeMax);
  (void)fields.integer("height", 1, kEdgeMax);
  (void)fields.word("format", {"png", "jpeg", "webp"});
}

void check_operations(const json::object& operations, std::string_view path, Mistakes& mistakes) {
  Fields fields(operations, path, mistakes);
  const std::string own(path);
  if (const auto* resize = fields.object("resize")) {
    Fields inner(*resize, own + "resize.", mistakes);
    (void)inner.integer("width", 1, kEdgeMax);
    (void)inner.integer("height", 1, kEdgeMax);
    (void)inner.word("crop", {"centre", "attention", "entropy", "none"});
    if (!resize->contains("width") && !resize->contains("height")) {
      inner.mistake("width", fmt::format("`{}resize` needs `width`, `height` or both", own));
    }
    inner.finish();
  }
  if (const auto* lighting = fields.object("lighting")) {
    Fields inner(*lighting, own + "lighting.", mistakes);
    (void)inner.number("brightness", 0.1, 4);
    (void)inner.number("contrast", 0.1, 4);
    inner.finish();
  }
  if (const auto* compress = fields.object("compress")) {
    Fields inner(*compress, own + "compress.", mistakes);
    (void)inner.integer("quality", 1, 100);
    (void)inner.word("format", {"jpeg", "png", "webp"});
    inner.finish();
  }
  fields.finish();
}

// Its form alone: what is there, and where its name leads to, shows when the job begins.
void check_image_url(Fields& fields, std::string_view path, InputFacts& facts) {
  const auto url = fields.text("image_url", 1, kUrlBytesMax);
  if (!url) return;
  facts.image_url = *url;
  if (net::check_url(facts.image_url)) return;
  fields.mistake("image_url",
                 fmt::format("`{}image_url` must be an address such as https://example.com/a.png: "
                             "https:// or http://, a host, no user or password, other "
                             "characters than those of a URL escaped",
                             path));
}

bool gives(const json::object& input, std::string_view name) {
  const auto* value = input.if_contains(name);
  return value != nullptr && !value->is_null();
}

void check_image_edit(Fields& fields, const json::object& input, std::string_view path, Mistakes& mistakes,
                      InputFacts& facts) {
  const bool named = gives(input, "image");
  const bool addressed = gives(input, "image_url");
  check_image_url(fields, path, facts);
  if (named && addressed)
    fields.mistake("image_url", fmt::format("give `{}image` or `{}image_url`, not both", path, path));
  if (!named && !addressed) {
    fields.mistake("image",
                   fmt::format("`{}image` (the id of an artifact) or `{}image_url` (the address of a "
                               "picture) is missing",
                               path, path));
  }
  if (const auto image = fields.text("image", 1, kNameMax)) {
    facts.image = parse_id<ArtifactTag>(*image);
    if (!facts.image) {
      fields.mistake("image", fmt::format("`{}image` must be the id of an artifact (art_…): upload it by "
                                          "POST /api/artifacts",
                                          path));
    }
  }
  (void)fields.text("prompt", 1, kTextMax);
  if (const auto* operations = fields.object("operations")) {
    check_operations(*operations, std::string(path) + "operations.", mistakes);
  }
}

void check_embedding(Fields& fields, std::string_view path) {
  fields.require("texts");
  const auto* texts = fields.array("texts", 1, kTextsMax);
  if (texts == nullptr) return;
  const bool good = std::ranges::all_of(*texts, [](const json::value& text) { return text.is_string(); });
  if (!good) fields.mistake("texts", fmt::format("`{}texts` must be a list of texts", path));
}

}  // namespace

void check_sampling(Fields& fields) {
  (void)fields.number("temperature", 0, 2);
  (void)fields.number("top_p", 0, 1);
  (void)fields.number("presence_penalty", -2, 2);
  (void)fields.number("frequency_penalty", -2, 2);
  (void)fields.integer("seed", INT64_MIN, INT64_MAX);
  const auto* stop = fields.any("stop");
  if (stop != nullptr && !stop->is_string() && !stop->is_array()) {
    fields.mistake("stop", "`stop` must be a text or a list of texts");
  }
  (void)fields.object("response_format");
}

void check_messages(const json::array& messages, std::string_view path, Mistakes& mistakes) {
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string own = fmt::format("{}.{}", path, i);
    const auto* message = messages[i].if_object();
    if (message == nullptr) {
      mistakes.add(own, fmt::format("`{}` must be an object with `role` and `content`", own));
      return;
    }
    Fields fields(*message, own + ".", mistakes);
    fields.require("role");
    (void)fields.word("role", {"system", "developer", "user", "assistant"});
    (void)fields.text("name", 1, kNameMax);
    fields.require("content");
    const auto* content = fields.any("content");
    if (content != nullptr) check_content(*content, own + ".content", mistakes);
    fields.finish();
    if (mistakes.any()) return;  // the first bad message is enough to tell of
  }
}

namespace {

std::int64_t whole(const json::object& input, std::string_view name, std::int64_t otherwise) {
  const auto* value = input.if_contains(name);
  return value != nullptr && value->is_int64() ? std::max<std::int64_t>(0, value->get_int64()) : otherwise;
}

std::optional<std::int64_t> whole(const json::object& input, std::string_view name) {
  const auto* value = input.if_contains(name);
  if (value == nullptr || !value->is_int64()) return std::nullopt;
  return std::max<std::int64_t>(0, value->get_int64());
}

// All text anywhere below: whatever a model may be given to read. Keys count too, for schemas are read as
// well.
std::int64_t text_bytes(const json::value& value) {
  if (const auto* text = value.if_string()) return static_cast<std::int64_t>(text->size());
  std::int64_t bytes = 0;
  if (const auto* list = value.if_array()) {
    for (const auto& item : *list) bytes += text_bytes(item);
  } else if (const auto* object = value.if_object()) {
    for (const auto& member : *object)
      bytes += static_cast<std::int64_t>(member.key().size()) + text_bytes(member.value());
  } else {
    bytes = 8;  // a number, true, false or null, as text
  }
  return bytes;
}

std::int64_t characters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; });
}

}  // namespace

policy::Ask measure_input(std::string_view task, const json::object& input) {
  policy::Ask ask;
  if (task == "speech") {
    if (const auto* text = input.if_contains("text"); text != nullptr && text->is_string()) {
      ask.characters = characters(std::string_view(text->get_string()));
    }
    return ask;
  }
  for (const auto& member : input) ask.text_bytes += text_bytes(member.value());
  const auto* messages = input.if_contains("messages");
  ask.messages = messages != nullptr && messages->is_array()
                     ? static_cast<std::int64_t>(messages->get_array().size())
                     : 1;
  for (const std::string_view name : {"max_tokens", "max_completion_tokens", "max_output_tokens"}) {
    if (const auto limit = whole(input, name))
      ask.max_output_tokens = std::max(ask.max_output_tokens.value_or(0), *limit);
  }
  ask.choices = whole(input, "n", 1);
  ask.width = whole(input, "width");
  ask.height = whole(input, "height");
  const auto* scenes = input.if_contains("scenes");
  ask.scenes =
      scenes != nullptr && scenes->is_array() ? static_cast<std::int64_t>(scenes->get_array().size()) : 0;
  return ask;
}

InputFacts check_input(std::string_view task, const json::object& input, std::string_view path,
                       Mistakes& mistakes) {
  InputFacts facts;
  facts.ask = measure_input(task, input);
  Fields fields(input, path, mistakes);
  if (task == "text") {
    check_text(fields, input, path, mistakes);
  } else if (task == "speech") {
    check_speech(fields);
  } else if (task == "image") {
    check_image(fields);
  } else if (task == "image_edit") {
    check_image_edit(fields, input, path, mistakes, facts);
  } else if (task == "embedding") {
    check_embedding(fields, path);
  } else {
    return facts;
  }
  fields.finish();
  return facts;
}

}  // namespace turnpike::api

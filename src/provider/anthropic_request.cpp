// The way to Anthropic: OpenAI's chat as a request of the Messages API.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "provider/anthropic_wire.h"
#include "provider/json_text.h"

namespace turnpike::provider {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

constexpr double kTemperatureMax = 1;        // Anthropic's
constexpr double kOpenAiTemperatureMax = 2;  // what a client may write
constexpr std::string_view kVersion = "2023-06-01";
constexpr std::string_view kWhiteSpace = " \t\r\n\f\v";

// What of a job's input is a chat's; the rest would change what comes back, or is another task's.
constexpr std::array<std::string_view, 12> kJobFields = {
    "prompt",           "messages",          "max_tokens",      "temperature",      "top_p", "stop", "seed",
    "presence_penalty", "frequency_penalty", "response_format", "reasoning_effort", "user"};

// Where a value stands: for the message and the `param` of a refusal.
std::unexpected<Error> refuse(const std::string& field, std::string_view what) {
  return fail(ErrorCode::kInvalidRequest, fmt::format("{} {}", field, what), field);
}

std::unexpected<Error> cannot_keep(const std::string& field) {
  return refuse(field, "cannot be kept by this provider: leave it out, or choose another model");
}

bool is_nothing(const value& it) {
  return it.is_null() || (it.is_array() && it.get_array().empty()) ||
         (it.is_object() && it.get_object().empty());
}

object text_block(std::string_view text) {
  object block;
  block["type"] = "text";
  block["text"] = text;
  return block;
}

// data:image/png;base64,… or https://…
Result<object> image_block(const object& part, const std::string& field) {
  const object* image = object_in(part, "image_url");
  const auto url = image == nullptr ? std::nullopt : text_in(*image, "url");
  if (!url) return refuse(field + ".url", "must be an address");
  for (const auto& each : *image) {
    const bool known =
        each.key() == "url" || (each.key() == "detail" && (each.value().is_null() || each.value() == "auto"));
    if (!known) return cannot_keep(fmt::format("{}.{}", field, std::string_view{each.key()}));
  }
  object source;
  if (url->starts_with("https://")) {
    source["type"] = "url";
    source["url"] = *url;
  } else {
    constexpr std::string_view kData = "data:";
    constexpr std::string_view kBase64 = ";base64,";
    const std::size_t comma = url->find(kBase64);
    if (!url->starts_with(kData) || comma == std::string_view::npos)
      return refuse(field + ".url", "must begin with https:// or data:image/TYPE;base64,");
    const std::string_view type = url->substr(kData.size(), comma - kData.size());
    if (type != "image/jpeg" && type != "image/png" && type != "image/gif" && type != "image/webp")
      return refuse(field + ".url", "must hold a picture of type jpeg, png, gif or webp");
    source["type"] = "base64";
    source["media_type"] = type;
    source["data"] = url->substr(comma + kBase64.size());
  }
  object block;
  block["type"] = "image";
  block["source"] = std::move(source);
  return block;
}

enum class Pictures : bool { kNo, kYes };

// A content, text or parts, as blocks. Empty texts are left out: that API refuses them, and they say nothing.
Result<array> content_blocks(const value* content, const std::string& field, Pictures pictures) {
  array blocks;
  if (content == nullptr || content->is_null()) return blocks;
  if (const auto* text = content->if_string()) {
    if (!text->empty()) blocks.push_back(text_block(*text));
    return blocks;
  }
  const array* parts = content->if_array();
  if (parts == nullptr) return refuse(field, "must be a text or a list of parts");
  for (std::size_t i = 0; i < parts->size(); ++i) {
    const std::string where = fmt::format("{}[{}]", field, i);
    const object* part = (*parts)[i].if_object();
    const auto type = part == nullptr ? std::nullopt : text_in(*part, "type");
    if (!type) return refuse(where, "must be a part with a type");
    // An assistant that refused said so in words.
    if (*type == "text" || *type == "refusal") {
      const auto text = text_in(*part, *type);
      if (!text) return refuse(fmt::format("{}.{}", where, *type), "must be a text");
      if (!text->empty()) blocks.push_back(text_block(*text));
    } else if (*type == "image_url" && pictures == Pictures::kYes) {
      auto block = image_block(*part, where + ".image_url");
      if (!block) return std::unexpected(block.error());
      blocks.push_back(std::move(*block));
    } else {
      return cannot_keep(where + ".type");
    }
  }
  return blocks;
}

Result<object> tool_use_block(const value& call, const std::string& field) {
  const object* fields = call.if_object();
  const object* function = fields == nullptr ? nullptr : object_in(*fields, "function");
  if (function == nullptr || text_in(*fields, "type").value_or("function") != "function")
    return refuse(field, "must be the call of a function");
  const auto id = text_in(*fields, "id");
  const auto name = text_in(*function, "name");
  if (!id || !name) return refuse(field, "must have an id and a function.name");
  const std::string_view arguments = text_in(*function, "arguments").value_or("");
  auto input = arguments.empty() ? Result<value>{object{}} : parse_json(arguments);
  if (!input || !input->is_object())
    return refuse(field + ".function.arguments", "must be the text of a JSON object");
  object block;
  block["type"] = "tool_use";
  block["id"] = *id;
  block["name"] = *name;
  block["input"] = std::move(*input);
  return block;
}

// One chat on its way; `prefix` stands before the names of fields ("input." in a job).
class Translation {
 public:
  Translation(const object& chat, std::string prefix) : chat_(chat), prefix_(std::move(prefix)) {}

  Result<object> run(const std::string& model, std::int64_t max_output_tokens) {
    body_["model"] = model;
    body_["max_tokens"] = max_output_tokens > 0 ? max_output_tokens : kAnthropicMaxTokensDefault;
    for (const auto& field : chat_) {
      // To OpenAI null is absent.
      if (field.value().is_null()) continue;
      if (auto done = take(field.key(), field.value()); !done) return std::unexpected(done.error());
    }
    if (auto done = take_limit(); !done) return std::unexpected(done.error());
    if (auto done = take_tool_choice(); !done) return std::unexpected(done.error());
    if (!output_config_.empty()) body_["output_config"] = std::move(output_config_);
    if (!system_.empty()) body_["system"] = std::move(system_);
    if (messages_.empty()) return refuse(at("messages"), "must hold at least one message of a user");
    body_["messages"] = std::move(messages_);
    return std::move(body_);
  }

 private:
  using Done = Result<void>;
  using Take = Done (Translation::*)(const value&);

  std::string at(std::string_view field) const { return prefix_ + std::string{field}; }

  Done take(std::string_view name, const value& it) {
    struct Known {
      std::string_view name;
      Take take;
    };
    static constexpr std::array<Known, 11> kKnown = {{
        {"messages", &Translation::take_messages},
        {"temperature", &Translation::take_temperature},
        {"top_p", &Translation::take_top_p},
        {"stop", &Translation::take_stop},
        {"stream", &Translation::take_stream},
        {"stream_options", &Translation::take_stream_options},
        {"tools", &Translation::take_tools},
        {"response_format", &Translation::take_response_format},
        {"reasoning_effort", &Translation::take_effort},
        {"user", &Translation::take_user},
        {"safety_identifier", &Translation::take_user},
    }};
    const auto known = std::ranges::find(kKnown, name, &Known::name);
    if (known != kKnown.end()) {
      field_ = at(name);
      return (this->*known->take)(it);
    }
    // Read together, after all others.
    if (name == "model" || name == "max_tokens" || name == "max_completion_tokens" || name == "tool_choice" ||
        name == "parallel_tool_calls")
      return {};
    if (name == "service_tier" && it == "auto") return {};
    if (name == "service_tier" && it == "default") {
      body_["service_tier"] = "standard_only";
      return {};
    }
    if (says_nothing(name, it)) return {};
    return cannot_keep(at(name));
  }

  // Values that ask for what happens anyway.
  static bool says_nothing(std::string_view name, const value& it) {
    if (name == "n") return it == 1;
    if (name == "presence_penalty" || name == "frequency_penalty") return it == 0 || it == 0.0;
    if (name == "logprobs" || name == "store") return it == false;
    if (name == "top_logprobs") return it == 0;
    if (name == "verbosity") return it == "medium";
    if (name == "modalities") return it == value(array{"text"});
    if (name == "logit_bias" || name == "metadata" || name == "functions") return is_nothing(it);
    return false;
  }

  // --- messages

  Done take_messages(const value& it) {
    const array* list = it.if_array();
    if (list == nullptr || list->empty()) return refuse(field_, "must be a list of messages");
    for (std::size_t i = 0; i < list->size(); ++i) {
      const std::string where = fmt::format("{}[{}]", at("messages"), i);
      const object* message = (*list)[i].if_object();
      const auto role = message == nullptr ? std::nullopt : text_in(*message, "role");
      if (!role) return refuse(where, "must be a message with a role");
      if (auto done = take_message(*message, *role, where); !done) return done;
    }
    return {};
  }

  Done take_message(const object& message, std::string_view role, const std::string& where) {
    if (role == "system" || role == "developer") return take_system(message, where);
    if (role == "user") return take_user_message(message, where);
    if (role == "assistant") return take_assistant(message, where);
    if (role == "tool") return take_tool_result(message, where);
    return refuse(where + ".role", "must be one of system, developer, user, assistant and tool");
  }

  // Every field of a message but those named is refused where it says something.
  static Done only(const object& message, const std::string& where,
                   std::initializer_list<std::string_view> known) {
    for (const auto& field : message) {
      const std::string_view name = field.key();
      if (name == "role" || std::ranges::find(known, name) != known.end() || is_nothing(field.value()))
        continue;
      return cannot_keep(fmt::format("{}.{}", where, name));
    }
    return {};
  }

  Done take_system(const object& message, const std::string& where) {
    if (auto done = only(message, where, {"content"}); !done) return done;
    auto blocks = content_blocks(message.if_contains("content"), where + ".content", Pictures::kNo);
    if (!blocks) return std::unexpected(blocks.error());
    for (value& block : *blocks) system_.push_back(std::move(block));
    return {};
  }

  Done take_user_message(const object& message, const std::string& where) {
    if (auto done = only(message, where, {"content"}); !done) return done;
    auto blocks = content_blocks(message.if_contains("content"), where + ".content", Pictures::kYes);
    if (!blocks) return std::unexpected(blocks.error());
    if (blocks->empty()) return refuse(where + ".content", "must not be empty");
    add("user", std::move(*blocks));
    return {};
  }

  Done take_assistant(const object& message, const std::string& where) {
    if (auto done = only(message, where, {"content", "refusal", "tool_calls"}); !done) return done;
    auto blocks = content_blocks(message.if_contains("content"), where + ".content", Pictures::kNo);
    if (!blocks) return std::unexpected(blocks.error());
    if (const auto refusal = text_in(message, "refusal"); refusal && !refusal->empty())
      blocks->push_back(text_block(*refusal));
    if (const array* calls = array_in(message, "tool_calls")) {
      for (std::size_t i = 0; i < calls->size(); ++i) {
        auto block = tool_use_block((*calls)[i], fmt::format("{}.tool_calls[{}]", where, i));
        if (!block) return std::unexpected(block.error());
        blocks->push_back(std::move(*block));
      }
    }
    // One that said nothing and called nothing leaves no trace.
    if (!blocks->empty()) add("assistant", std::move(*blocks));
    return {};
  }

  Done take_tool_result(const object& message, const std::string& where) {
    if (auto done = only(message, where, {"content", "tool_call_id"}); !done) return done;
    const auto id = text_in(message, "tool_call_id");
    if (!id) return refuse(where + ".tool_call_id", "is required");
    auto blocks = content_blocks(message.if_contains("content"), where + ".content", Pictures::kNo);
    if (!blocks) return std::unexpected(blocks.error());
    object result;
    result["type"] = "tool_result";
    result["tool_use_id"] = *id;
    if (!blocks->empty()) result["content"] = std::move(*blocks);
    array content;
    content.push_back(std::move(result));
    add("user", std::move(content));
    return {};
  }

  void add(std::string_view role, array blocks) {
    object* last = messages_.empty() ? nullptr : &messages_.back().get_object();
    if (last == nullptr || last->at("role").get_string() != role) {
      object message;
      message["role"] = role;
      message["content"] = array{};
      messages_.push_back(std::move(message));
      last = &messages_.back().get_object();
    }
    array& content = last->at("content").get_array();
    for (value& block : blocks) content.push_back(std::move(block));
  }

  // --- how the answer is made

  Done take_limit() {
    const value* newer = present("max_completion_tokens");
    const value* older = present("max_tokens");
    const char* name = newer != nullptr ? "max_completion_tokens" : "max_tokens";
    const value* limit = newer != nullptr ? newer : older;
    if (limit == nullptr) return {};
    if (newer != nullptr && older != nullptr && *newer != *older)
      return refuse(at("max_tokens"), "and max_completion_tokens must not say different things");
    if (count_of(chat_, name) < 1 || limit->is_double())
      return refuse(at(name), "must be an integer of at least 1");
    body_["max_tokens"] = *limit;
    return {};
  }

  const value* present(std::string_view name) const {
    const value* it = chat_.if_contains(name);
    return it == nullptr || it->is_null() ? nullptr : it;
  }

  Done take_temperature(const value& it) {
    const auto number = it.is_number() ? it.to_number<double>() : -1;
    if (number < 0 || number > kOpenAiTemperatureMax) return refuse(field_, "must be a number from 0 to 2");
    body_["temperature"] = number > kTemperatureMax ? value(1) : it;
    return {};
  }

  Done take_top_p(const value& it) {
    const auto number = it.is_number() ? it.to_number<double>() : -1;
    if (number < 0 || number > 1) return refuse(field_, "must be a number from 0 to 1");
    body_["top_p"] = it;
    return {};
  }

  Done take_stop(const value& it) {
    array sequences;
    if (it.is_string()) {
      sequences.push_back(it);
    } else if (const array* list = it.if_array()) {
      sequences = *list;
    } else {
      return refuse(field_, "must be a text or a list of texts");
    }
    for (const value& sequence : sequences) {
      const auto* text = sequence.if_string();
      if (text == nullptr || std::string_view{*text}.find_first_not_of(kWhiteSpace) == std::string_view::npos)
        return refuse(field_, "must hold texts that are not white space alone");
    }
    if (!sequences.empty()) body_["stop_sequences"] = std::move(sequences);
    return {};
  }

  Done take_stream(const value& it) {
    if (!it.is_bool()) return refuse(field_, "must be true or false");
    if (it.get_bool()) body_["stream"] = true;
    return {};
  }

  // Who wants the usage is told it behind the answer, by whoever sends it on.
  Done take_stream_options(const value& it) {
    if (!it.is_object()) return refuse(field_, "must be an object");
    for (const auto& option : it.get_object()) {
      const bool known =
          option.key() == "include_usage" || option.value() == false || option.value().is_null();
      if (!known) return cannot_keep(fmt::format("{}.{}", field_, std::string_view{option.key()}));
    }
    return {};
  }

  Done take_user(const value& it) {
    if (!it.is_string()) return refuse(field_, "must be a text");
    if (const value* metadata = body_.if_contains("metadata");
        metadata != nullptr && metadata->get_object().at("user_id") != it)
      return refuse(at("user"), "and safety_identifier must not say different things");
    object metadata;
    metadata["user_id"] = it;
    body_["metadata"] = std::move(metadata);
    return {};
  }

  Done take_response_format(const value& it) {
    const object* format = it.if_object();
    const auto type = format == nullptr ? std::nullopt : text_in(*format, "type");
    if (!type) return refuse(field_, "must be an object with a type");
    if (*type == "text") return {};
    if (*type != "json_schema")
      return refuse(field_ + ".type",
                    "must be text or json_schema: this provider keeps no form without a schema");
    const object* wanted = object_in(*format, "json_schema");
    const object* schema = wanted == nullptr ? nullptr : object_in(*wanted, "schema");
    if (schema == nullptr) return refuse(field_ + ".json_schema.schema", "is required");
    object kept = *schema;
    // What the answer is for is told to the model in the schema itself.
    if (const auto description = text_in(*wanted, "description");
        description && !kept.contains("description"))
      kept["description"] = *description;
    object out;
    out["type"] = "json_schema";
    out["schema"] = std::move(kept);
    output_config_["format"] = std::move(out);
    return {};
  }

  Done take_effort(const value& it) {
    if (it == "none") {
      object thinking;
      thinking["type"] = "disabled";
      body_["thinking"] = std::move(thinking);
      return {};
    }
    if (it != "low" && it != "medium" && it != "high" && it != "xhigh")
      return refuse(field_, "must be one of none, low, medium, high and xhigh");
    output_config_["effort"] = it;
    return {};
  }

  // --- tools

  Done take_tools(const value& it) {
    const array* list = it.if_array();
    if (list == nullptr) return refuse(field_, "must be a list of tools");
    array tools;
    for (std::size_t i = 0; i < list->size(); ++i) {
      auto tool = translate_tool((*list)[i], fmt::format("{}[{}]", at("tools"), i));
      if (!tool) return std::unexpected(tool.error());
      tools.push_back(std::move(*tool));
    }
    if (!tools.empty()) body_["tools"] = std::move(tools);
    return {};
  }

  static Result<object> translate_tool(const value& it, const std::string& where) {
    const object* fields = it.if_object();
    const object* function = fields == nullptr ? nullptr : object_in(*fields, "function");
    if (function == nullptr || text_in(*fields, "type").value_or("") != "function")
      return refuse(where, "must be a function");
    object tool;
    object no_parameters;
    no_parameters["type"] = "object";
    no_parameters["properties"] = object{};
    tool["input_schema"] = std::move(no_parameters);
    for (const auto& field : *function) {
      const std::string_view name = field.key();
      const value& given = field.value();
      if (given.is_null()) continue;
      if ((name == "name" || name == "description") && given.is_string()) {
        tool[name] = given;
      } else if (name == "parameters" && given.is_object()) {
        if (!given.get_object().empty()) tool["input_schema"] = given;
      } else if (name == "strict" && given.is_bool()) {
        if (given.get_bool()) tool["strict"] = true;
      } else {
        return cannot_keep(fmt::format("{}.function.{}", where, name));
      }
    }
    if (!tool.contains("name")) return refuse(where + ".function.name", "is required");
    return tool;
  }

  Done take_tool_choice() {
    const value* wanted = present("tool_choice");
    const value* parallel = present("parallel_tool_calls");
    if (parallel != nullptr && !parallel->is_bool())
      return refuse(at("parallel_tool_calls"), "must be true or false");
    const bool one_at_a_time = parallel != nullptr && !parallel->get_bool();
    if (wanted == nullptr && !one_at_a_time) return {};
    if (!body_.contains("tools"))
      return refuse(at(wanted != nullptr ? "tool_choice" : "parallel_tool_calls"), "needs tools");
    object choice;
    if (wanted == nullptr || *wanted == "auto") {
      choice["type"] = "auto";
    } else if (*wanted == "none") {
      choice["type"] = "none";
    } else if (*wanted == "required") {
      choice["type"] = "any";
    } else {
      const object* named = wanted->if_object();
      const object* function = named == nullptr ? nullptr : object_in(*named, "function");
      const auto name = function == nullptr ? std::nullopt : text_in(*function, "name");
      if (!name) return refuse(at("tool_choice"), "must be auto, none, required or a function");
      choice["type"] = "tool";
      choice["name"] = *name;
    }
    if (one_at_a_time && choice["type"] != "none") choice["disable_parallel_tool_use"] = true;
    body_["tool_choice"] = std::move(choice);
    return {};
  }

  const object& chat_;
  const std::string prefix_;
  std::string field_;  // that is being taken
  object body_;
  object output_config_;
  array system_;
  array messages_;
};

// A job's input as a chat.
Result<object> chat_of(const object& input) {
  object chat;
  for (const auto& field : input) {
    const std::string_view name = field.key();
    if (std::ranges::find(kJobFields, name) == kJobFields.end())
      return refuse(fmt::format("input.{}", name), "is not known to this provider");
    if (name != "prompt") chat[name] = field.value();
  }
  const value* prompt = input.if_contains("prompt");
  if ((prompt != nullptr) == input.contains("messages"))
    return refuse("input.prompt", "or input.messages must be given, and not both");
  if (prompt == nullptr) return chat;
  if (!prompt->is_string()) return refuse("input.prompt", "must be a text");
  object message;
  message["role"] = "user";
  message["content"] = *prompt;
  array messages;
  messages.push_back(std::move(message));
  chat["messages"] = std::move(messages);
  return chat;
}

Result<std::string> translate(const object& chat, std::string prefix, const std::string& model,
                              std::int64_t max_output_tokens) {
  auto body = Translation{chat, std::move(prefix)}.run(model, max_output_tokens);
  if (!body) return std::unexpected(body.error());
  return boost::json::serialize(*body);
}

}  // namespace

net::Headers anthropic_headers(const std::string& key, bool stream) {
  net::Headers headers{{"Accept", stream ? "text/event-stream" : "application/json"},
                       {"Content-Type", "application/json"},
                       {"anthropic-version", std::string{kVersion}}};
  if (!key.empty()) headers.emplace_back("x-api-key", key);
  return headers;
}

Result<std::string> make_anthropic_body(std::string_view chat, const std::string& model,
                                        std::int64_t max_output_tokens) {
  const auto parsed = parse_json(chat);
  if (!parsed || !parsed->is_object())
    return fail(ErrorCode::kInvalidRequest, "the body must be a JSON object");
  return translate(parsed->get_object(), "", model, max_output_tokens);
}

Result<std::string> make_anthropic_body(const Request& request, const std::string& model) {
  const auto input = parse_json(request.input);
  if (!input || !input->is_object())
    return fail(ErrorCode::kInvalidRequest, "the input must be a JSON object", "input");
  if (request.task != "text")
    return fail(ErrorCode::kConfiguration, fmt::format("Anthropic has no task {}", request.task));
  const auto chat = chat_of(input->get_object());
  if (!chat) return std::unexpected(chat.error());
  return translate(*chat, "input.", model, request.max_output_tokens);
}

}  // namespace turnpike::provider

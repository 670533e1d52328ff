#include "provider/http_wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cmath>

#include "provider/json_text.h"

namespace turnpike::provider {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using policy::Template;
using policy::TemplateFilter;
using policy::TemplatePlace;
using policy::TemplateReference;
using policy::TemplateRoot;

constexpr double kAmountMax = 1e15;  // of one meter in one try: beyond it is nonsense

Result<JsonTemplate> parse_body(const value& json, TemplatePlace place) {
  if (const auto* text = json.if_string()) {
    auto parsed = Template::parse(*text, place);
    if (!parsed) return std::unexpected(parsed.error());
    return JsonTemplate{std::move(*parsed)};
  }
  if (const auto* fields = json.if_object()) {
    JsonTemplate::Fields parsed;
    for (const auto& field : *fields) {
      auto child = parse_body(field.value(), place);
      if (!child) return child;
      parsed.emplace_back(field.key(), std::move(*child));
    }
    return JsonTemplate{std::move(parsed)};
  }
  if (const auto* items = json.if_array()) {
    JsonTemplate::Items parsed;
    for (const value& item : *items) {
      auto child = parse_body(item, place);
      if (!child) return child;
      parsed.push_back(std::move(*child));
    }
    return JsonTemplate{std::move(parsed)};
  }
  return JsonTemplate{json};
}

Result<ParsedHttpRequest> parse_request(const policy::HttpRequest& config, TemplatePlace place) {
  ParsedHttpRequest request{.method = config.method, .path = {}, .url_at = {}, .headers = {}, .json = {}};
  if (config.url_at.empty()) {
    auto path = Template::parse(config.path, place);
    if (!path) return std::unexpected(path.error());
    if (!config.path.starts_with('/')) return fail(ErrorCode::kConfiguration, "a path must begin with /");
    request.path = std::move(*path);
  } else {
    request.url_at = split_path(config.url_at);
  }
  for (const auto& [name, text] : config.headers) {
    auto header = Template::parse(text, place);
    if (!header) return std::unexpected(header.error());
    request.headers.emplace_back(name, std::move(*header));
  }
  if (config.json.empty()) return request;
  const auto json = parse_json(config.json);
  if (!json) return fail(ErrorCode::kConfiguration, "the body is no JSON");
  auto body = parse_body(*json, place);
  if (!body) return std::unexpected(body.error());
  request.json = std::move(*body);
  return request;
}

ParsedCondition parse_condition(const policy::HttpCondition& config) {
  return {.at = split_path(config.at), .is = config.is};
}

Result<void> parse_into(const std::optional<policy::HttpRequest>& config,
                        std::optional<ParsedHttpRequest>& out) {
  if (!config) return {};
  auto parsed = parse_request(*config, TemplatePlace::kFollowUp);
  if (!parsed) return std::unexpected(parsed.error());
  out = std::move(*parsed);
  return {};
}

Result<ParsedPoll> parse_poll(const policy::HttpPoll& config) {
  auto request = parse_request(config.request, TemplatePlace::kFollowUp);
  if (!request) return std::unexpected(request.error());
  ParsedPoll poll{.request = std::move(*request),
                  .until = parse_condition(config.until),
                  .failed = {},
                  .message_at = {},
                  .result = {},
                  .cancel = {}};
  if (config.failed) poll.failed = parse_condition(*config.failed);
  if (!config.message_at.empty()) poll.message_at = split_path(config.message_at);
  if (auto done = parse_into(config.result, poll.result); !done) return std::unexpected(done.error());
  if (auto done = parse_into(config.cancel, poll.cancel); !done) return std::unexpected(done.error());
  return poll;
}

std::optional<double> number_in(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// A number, the text of one, or how many a list has.
std::optional<double> amount_at(const value& answer, const std::string& path) {
  const value* at = value_at(answer, split_path(path));
  if (at == nullptr) return std::nullopt;
  if (const auto* list = at->if_array()) return static_cast<double>(list->size());
  if (at->is_number()) return at->to_number<double>();
  const auto* text = at->if_string();
  return text == nullptr ? std::nullopt : number_in(*text);
}

std::optional<double> amount_of(const policy::HttpUsage& usage, const HttpExpansion& expansion,
                                const value& answer, const net::Headers& headers) {
  if (usage.value > 0) return static_cast<double>(usage.value);
  if (!usage.characters_of.empty())
    return static_cast<double>(count_characters(expansion.text_field(usage.characters_of)));
  if (usage.header.empty()) return amount_at(answer, usage.at);
  const std::string* header = net::find_header(headers, usage.header);
  return header == nullptr ? std::nullopt : number_in(*header);
}

}  // namespace

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    parts.emplace_back(path.substr(0, dot));
    if (dot == path.size()) return parts;
    path.remove_prefix(dot + 1);
  }
}

Result<ParsedHttpTask> parse_http_task(const policy::HttpTask& config) {
  auto request = parse_request(config.request, TemplatePlace::kRequest);
  if (!request) return std::unexpected(request.error());
  ParsedHttpTask task{.config = config, .request = std::move(*request), .poll = {}};
  if (!config.poll) return task;
  auto poll = parse_poll(*config.poll);
  if (!poll) return std::unexpected(poll.error());
  task.poll = std::move(*poll);
  return task;
}

bool is_same_server(std::string_view url, std::string_view base_url) {
  const std::size_t scheme = base_url.find("://");
  if (scheme == std::string_view::npos) return false;
  const std::string_view server = base_url.substr(0, base_url.find('/', scheme + 3));
  if (!url.starts_with(server)) return false;
  return url.size() == server.size() || url[server.size()] == '/' || url[server.size()] == '?';
}

Result<HttpExpansion> HttpExpansion::make(const Request& request) {
  auto input = parse_json(request.input);
  if (!input || !input->is_object())
    return fail(ErrorCode::kInvalidRequest, "the input must be a JSON object", "input");
  HttpExpansion expansion;
  expansion.input_ = std::move(*input);
  expansion.model_ = request.model;
  return expansion;
}

std::string_view HttpExpansion::text_field(std::string_view name) const {
  return text_in(input_.get_object(), name).value_or("");
}

const value* HttpExpansion::find(const TemplateReference& reference) const {
  if (reference.root == TemplateRoot::kInput) return value_at(input_, reference.path);
  if (reference.root == TemplateRoot::kAnswer) return value_at(answer_, reference.path);
  return nullptr;
}

std::optional<std::string> HttpExpansion::look_up(const TemplateReference& reference) const {
  if (reference.root == TemplateRoot::kModel) return model_;
  const value* found = find(reference);
  return found == nullptr ? std::nullopt : scalar_text(*found);
}

// A number stays one, and what no filter looked at stays what it is.
Result<std::optional<value>> HttpExpansion::expand_text(const Template& text) const {
  const auto expanded =
      text.expand([this](const TemplateReference& reference) { return look_up(reference); });
  if (!expanded) return std::unexpected(expanded.error());
  if (!*expanded) return std::nullopt;
  const TemplateReference* sole = text.sole_reference();
  if (sole != nullptr && sole->filter == TemplateFilter::kNone) {
    const value* found = find(*sole);
    if (found != nullptr && !found->is_null() && !found->is_string()) return *found;
  }
  if (sole != nullptr && (sole->filter == TemplateFilter::kInt || sole->filter == TemplateFilter::kNumber)) {
    if (auto number = parse_json(**expanded); number && number->is_number()) return std::move(*number);
  }
  return value(**expanded);
}

Result<std::optional<value>> HttpExpansion::expand(const JsonTemplate& json) const {
  if (const auto* as_it_is = std::get_if<value>(&json.it)) return *as_it_is;
  if (const auto* text = std::get_if<Template>(&json.it)) return expand_text(*text);
  if (const auto* fields = std::get_if<JsonTemplate::Fields>(&json.it)) {
    object out;
    for (const auto& [name, child] : *fields) {
      auto expanded = expand(child);
      if (!expanded) return expanded;
      if (*expanded) out[name] = std::move(**expanded);
    }
    // Of a section of which nothing is left, nothing is said.
    if (out.empty() && !fields->empty()) return std::nullopt;
    return value(std::move(out));
  }
  array out;
  for (const JsonTemplate& child : std::get<JsonTemplate::Items>(json.it)) {
    auto expanded = expand(child);
    if (!expanded) return expanded;
    if (*expanded) out.push_back(std::move(**expanded));
  }
  return value(std::move(out));
}

Result<net::ClientRequest> HttpExpansion::make_request(const ParsedHttpRequest& request,
                                                       const HttpUpstream& upstream) const {
  const auto lookup = [this](const TemplateReference& reference) { return look_up(reference); };
  net::ClientRequest message;
  message.method = request.method;
  if (request.path) {
    const auto path = request.path->expand_url(lookup);
    if (!path) return std::unexpected(path.error());
    if (!*path) return fail(ErrorCode::kConfiguration, "a path may not be left out as a whole");
    message.url = upstream.base_url + **path;
  } else {
    const value* at = value_at(answer_, request.url_at);
    const auto* url = at == nullptr ? nullptr : at->if_string();
    if (url == nullptr)
      return fail(ErrorCode::kUpstreamError, "the upstream's answer does not say where to ask next");
    if (!is_same_server(*url, upstream.base_url))
      return fail(ErrorCode::kUpstreamError, "the upstream's answer sends us to another server");
    message.url = *url;
  }
  for (const auto& [name, text] : request.headers) {
    auto expanded = text.expand(lookup);
    if (!expanded) return std::unexpected(expanded.error());
    if (!*expanded) continue;
    const bool fits = std::ranges::all_of(**expanded, [](char c) { return c >= ' ' && c <= '~'; });
    if (!fits)
      return fail(ErrorCode::kInvalidRequest,
                  fmt::format("the header {} would hold what is no plain text", name));
    message.headers.emplace_back(name, std::move(**expanded));
  }
  if (!upstream.key.empty())
    message.headers.emplace_back(upstream.auth.header, upstream.auth.prefix + upstream.key);
  if (!request.json) return message;
  const auto body = expand(*request.json);
  if (!body) return std::unexpected(body.error());
  message.body = boost::json::serialize(body->value_or(object{}));
  if (message.body.size() > kHttpBodyBytesMax)
    return fail(ErrorCode::kInvalidRequest, "the input is too large for this provider", "input");
  message.headers.emplace_back("Content-Type", "application/json");
  return message;
}

bool holds(const ParsedCondition& condition, const value& answer) {
  const value* at = value_at(answer, condition.at);
  const auto text = at == nullptr ? std::nullopt : scalar_text(*at);
  return text && std::ranges::find(condition.is, *text) != condition.is.end();
}

std::optional<std::string> text_at(const value& answer, const std::string& path) {
  const value* at = value_at(answer, split_path(path));
  return at == nullptr ? std::nullopt : scalar_text(*at);
}

object output_of(const policy::HttpTask& task, const value& answer) {
  object output;
  for (const auto& [field, path] : task.output) {
    if (const value* at = value_at(answer, split_path(path))) output[field] = *at;
  }
  return output;
}

void apply_usage(const policy::HttpTask& task, const HttpExpansion& expansion, const value& answer,
                 const net::Headers& headers, Success& success) {
  for (const policy::HttpUsage& usage : task.usage) {
    const auto amount = amount_of(usage, expansion, answer, headers);
    if (!amount || !(*amount >= 0)) continue;
    const double exact = std::ceil(*amount * static_cast<double>(usage.times));
    std::erase_if(success.usage, [&](const auto& each) { return each.first == usage.meter; });
    success.usage.emplace_back(usage.meter, static_cast<std::int64_t>(std::min(exact, kAmountMax)));
  }
}

std::optional<DataUrl> read_data_url(std::string_view url) {
  constexpr std::string_view kData = "data:";
  constexpr std::string_view kBase64 = ";base64,";
  const std::size_t comma = url.find(kBase64);
  if (!url.starts_with(kData) || comma == std::string_view::npos) return std::nullopt;
  auto bytes = decode_base64(url.substr(comma + kBase64.size()));
  if (!bytes) return std::nullopt;
  return DataUrl{.mime = std::string{url.substr(kData.size(), comma - kData.size())},
                 .bytes = std::move(*bytes)};
}

}  // namespace turnpike::provider

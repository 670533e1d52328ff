#include "api/docs_page.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <utility>

#include "api/error.h"

namespace turnpike::api {
namespace {

constexpr std::string_view kStyle =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2230}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f4f7;border-radius:4px}"
    "code{padding:.1em .3em}pre{padding:.8em;overflow:auto}h2{margin-top:2.5rem;border-bottom:1px solid "
    "#d5d9e2}"
    "h3 b{display:inline-block;min-width:4.5rem;color:#0b5cad}table{border-collapse:collapse}"
    "td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}"
    "@media(prefers-color-scheme:dark){body{background:#12151c;color:#dfe3ec}code,pre{background:#1e2330}"
    "h3 b{color:#7db8f5}h2{border-color:#333a49}}";

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string text_of(const YAML::Node& node) {
  return node && node.IsScalar() ? escaped(node.Scalar()) : std::string();
}

// A reference within the file, followed.
YAML::Node follow(const YAML::Node& root, const YAML::Node& node) {
  if (!node || !node.IsMap() || !node["$ref"]) return node;
  std::string_view path = node["$ref"].Scalar();
  YAML::Node found(root);  // reset() points it elsewhere; assigning would change the document
  if (!path.starts_with("#/")) return node;
  path.remove_prefix(2);
  while (!path.empty()) {
    const auto slash = path.find('/');
    found.reset(std::as_const(found)[std::string(path.substr(0, slash))]);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  return found;
}

std::string type_of(const YAML::Node& schema) {
  if (schema["enum"]) {
    std::string words;
    for (const auto& word : schema["enum"]) words += (words.empty() ? "" : " | ") + text_of(word);
    return words;
  }
  if (schema["$ref"]) {
    const std::string& path = schema["$ref"].Scalar();
    return escaped(path.substr(path.rfind('/') + 1));
  }
  const YAML::Node type = schema["type"];
  if (type && type.IsSequence()) {
    std::string words;
    for (const auto& word : type) words += (words.empty() ? "" : " or ") + text_of(word);
    return words;
  }
  return text_of(type);
}

void append_fields(std::string& out, const YAML::Node& schema) {
  if (!schema || !schema["properties"]) return;
  out += "<table>";
  for (const auto& property : schema["properties"]) {
    out += fmt::format("<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>", text_of(property.first),
                       type_of(property.second), text_of(property.second["description"]));
  }
  out += "</table>";
}

// Of a body that is one of several, each.
void append_body(std::string& out, const YAML::Node& root, const YAML::Node& schema) {
  if (!schema || !schema["oneOf"]) return append_fields(out, follow(root, schema));
  for (const auto& each : schema["oneOf"]) {
    out += fmt::format("<p>{}</p>", type_of(each));
    append_fields(out, follow(root, each));
  }
}

void append_operation(std::string& out, const YAML::Node& root, const std::string& method,
                      const std::string& path, const YAML::Node& operation) {
  std::string shouted;
  for (const char c : method) shouted += static_cast<char>(c & ~0x20);
  out += fmt::format("<h3><b>{}</b> <code>{}</code></h3><p>{}</p>", shouted, escaped(path),
                     text_of(operation["summary"]));
  if (operation["description"]) out += "<p>" + text_of(operation["description"]) + "</p>";
  if (operation["parameters"]) {
    out += "<table>";
    for (const auto& entry : operation["parameters"]) {
      const YAML::Node parameter = follow(root, entry);
      out +=
          fmt::format("<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>", text_of(parameter["name"]),
                      text_of(parameter["in"]), text_of(parameter["description"]));
    }
    out += "</table>";
  }
  const YAML::Node body = operation["requestBody"];
  if (body && body["content"] && body["content"]["application/json"]) {
    append_body(out, root, body["content"]["application/json"]["schema"]);
  }
  out += "<p>";
  for (const auto& response : operation["responses"]) {
    out += fmt::format("<code>{}</code> {} &nbsp; ", text_of(response.first),
                       text_of(follow(root, response.second)["description"]));
  }
  out += "</p>";
}

void append_errors(std::string& out) {
  out += "<h2 id=\"errors\">Errors</h2><table><tr><th>code</th><th>status</th></tr>";
  for (int code = 0; code <= static_cast<int>(ErrorCode::kUnavailable); ++code) {
    const auto value = static_cast<ErrorCode>(code);
    const char* name = error_code_name(value);
    out += fmt::format("<tr id=\"error-{0}\"><td><code>{0}</code></td><td>{1}</td></tr>", name,
                       status_of(value));
  }
  out += "</table>";
}

}  // namespace

std::string docs_page(std::string_view openapi) {
  const YAML::Node root = YAML::Load(std::string(openapi));
  std::string out = fmt::format(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>{0}</title><style>{1}</style></head><body><h1>{0}</h1><p>{2}</p>"
      "<p>The whole contract: <a href=\"/openapi.yaml\">/openapi.yaml</a></p>",
      text_of(root["info"]["title"]), kStyle, text_of(root["info"]["description"]));
  std::string tag;
  for (const auto& path : root["paths"]) {
    for (const auto& operation : path.second) {
      if (!operation.second.IsMap() || !operation.second["responses"]) continue;
      const YAML::Node tags = operation.second["tags"];
      const std::string own = tags && tags.size() > 0 ? text_of(tags[0]) : std::string();
      if (own != tag) out += fmt::format("<h2>{}</h2>", own);
      tag = own;
      append_operation(out, root, operation.first.Scalar(), path.first.Scalar(), operation.second);
    }
  }
  append_errors(out);
  out += "</body></html>\n";
  return out;
}

}  // namespace turnpike::api

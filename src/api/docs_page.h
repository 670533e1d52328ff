// The reference page at /docs, made from api/openapi.yaml.
#pragma once

#include <string>
#include <string_view>

namespace turnpike::api {

// The file as it was when the program was built.
std::string_view openapi_text();

// One HTML page that needs nothing from elsewhere. Throws what yaml-cpp throws if the text is no OpenAPI.
std::string docs_page(std::string_view openapi);

}  // namespace turnpike::api

// What is said to a program that stays, and what it answers: the pure half. The protocol is written down in
// docs/decisions/0020.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/client.h"
#include "provider/provider.h"

namespace turnpike::provider {

// A file as the program finds it.
struct ServedFile {
  std::string name;  // of an input: its field; of an output: as the task declares it
  std::string path;
  std::string mime;
  bool of_list = false;  // one of those that its field, a list, names
};
struct ServedCall {
  std::string work_dir;  // as the program sees it
  std::vector<ServedFile> files;
  std::vector<ServedFile> outputs;
  Duration timeout{};
};

// The body of the request. `request.input` is a JSON object, checked.
std::string server_request(const Request& request, const ServedCall& call);

struct ServerAnswer {
  boost::json::object output;
  std::vector<std::pair<std::string, std::int64_t>> usage;  // meters that are known, each once
};
// The body of an answer with status 200. Errors: kUpstreamError, what is wrong with it, for the user.
Result<ServerAnswer> read_answer(std::string_view body);

// The body of an answer with another status: its class is the program's own word, or what the status means.
Failure read_refusal(const std::string& program, const net::ClientResponse& response);

}  // namespace turnpike::provider

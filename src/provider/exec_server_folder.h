// The folders of a program that stays, and of one try in them. The program is alive and may be hostile while
// we look: nothing is reached by a path that it could have exchanged, and what it made is copied before it is
// looked at.
//
//   ROOT/own/home          the program's own, with its socket     /work in a sandbox
//   ROOT/own/tries/TRY     what it makes for one try              /tries
//   ROOT/input/TRY         what it is given for it, read-only     /input
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "provider/spawn.h"

namespace turnpike::provider {

class ServerFolder {
 public:
  // Makes a folder of a new name in `parent`. `user`: whose home it is; 0: ours. Errors: kIo.
  static Result<ServerFolder> make(const std::filesystem::path& parent, const std::string& provider,
                                   uid_t user);

  ServerFolder(ServerFolder&& other) noexcept : root_(std::exchange(other.root_, {})), user_(other.user_) {}
  ServerFolder& operator=(ServerFolder&&) = delete;
  ServerFolder(const ServerFolder&) = delete;
  ServerFolder& operator=(const ServerFolder&) = delete;
  ~ServerFolder();  // removes it

  uid_t user() const { return user_; }
  std::filesystem::path own() const { return root_ / "own"; }  // all that the program can write
  std::filesystem::path home() const { return root_ / "own" / "home"; }
  std::filesystem::path tries() const { return root_ / "own" / "tries"; }
  std::filesystem::path input() const { return root_ / "input"; }
  // The socket that is there now, if there is one: never a link to another.
  Descriptor socket() const;

 private:
  ServerFolder(std::filesystem::path root, uid_t user) : root_(std::move(root)), user_(user) {}
  std::filesystem::path root_;  // empty: moved away
  uid_t user_;
};
constexpr const char* kSocketName = "server.sock";

// One try's part of it.
class TryFolder {
 public:
  // Errors: kIo.
  static Result<TryFolder> make(const ServerFolder& server, const std::string& name);

  TryFolder(TryFolder&& other) noexcept
      : tries_(std::exchange(other.tries_, {})),
        input_(std::exchange(other.input_, {})),
        own_(std::move(other.own_)) {}
  TryFolder& operator=(TryFolder&&) = delete;
  TryFolder(const TryFolder&) = delete;
  TryFolder& operator=(const TryFolder&) = delete;
  ~TryFolder();  // removes it

  // Copies an input in, under a plain name. Errors: kIo.
  Result<void> put(const std::filesystem::path& file, const std::string& name) const;
  // Copies what the program made under a plain name into `folder`, at most one byte more than bytes_max;
  // copies nothing where there is no plain file of that name. Errors: kUpstreamError (linked elsewhere), kIo.
  Result<void> take(const std::string& name, const std::filesystem::path& folder,
                    std::uint64_t bytes_max) const;

 private:
  TryFolder(std::filesystem::path tries, std::filesystem::path input, Descriptor own)
      : tries_(std::move(tries)), input_(std::move(input)), own_(std::move(own)) {}
  std::filesystem::path tries_;  // empty: moved away
  std::filesystem::path input_;
  Descriptor own_;  // the folder at tries_, whatever is there now
};

}  // namespace turnpike::provider

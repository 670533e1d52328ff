// A program that stays, for tests: a Python server that does what a request's input says.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "contract/provider/harness.h"
#include "policy/policy.h"
#include "provider/confinement.h"

namespace turnpike::provider::test {

// `act` in the input (or in the prompt) chooses; the class of an error and its status are the program's word.
inline constexpr const char* kLocalServer = R"py(
import http.server, json, os, random, signal, socketserver, sys, threading, time

NAME = "%016x" % random.SystemRandom().getrandbits(64)
SERVED = [0]

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self):
        return "-"
    def log_message(self, *_):
        pass
    def reply(self, status, body, length=None, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
    def error(self, status, kind=None, headers=()):
        self.reply(status, {"error": {"class": kind, "message": "no /etc/very-secret/luck today"}}, None, headers)
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        SERVED[0] += 1
        act = asked["input"].get("act", "ok")
        self.close_connection = True
        if act == "ok":
            self.reply(200, {"output": {"server": NAME, "served": SERVED[0], "pid": os.getpid()},
                             "usage": {"tokens_in": 3, "tokens_out": 4}})
        elif act == "echo":
            self.reply(200, {"output": {"asked": asked, "path": self.path}})
        elif act == "hang":
            open("hanging", "w").close()
            time.sleep(600)
        elif act == "wait":  # as hang, but sees who leaves
            open("waiting", "w").close()
            self.connection.recv(1)
        elif act == "die":
            print("died of", asked["task"], file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        elif act == "exit":
            print("a last line", file=sys.stderr, flush=True)
            os._exit(3)
        elif act == "transient":
            self.error(500)
        elif act == "rate_limited":
            self.error(503, "rate_limited", [("Retry-After", "3")])
        elif act == "misconfigured":
            self.error(500, "misconfigured")
        elif act == "invalid_input":
            self.error(400)
        elif act == "garbage":
            self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        elif act == "html":
            self.reply(200, b"<html>")
        elif act == "half":
            self.reply(200, b'{"output":', 400)
        elif act == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                pass
        elif act == "answer":
            self.reply(200, asked["input"]["answer"])
        elif act == "file":
            for output in asked["outputs"].values():
                with open(output["path"], "wb") as file:
                    file.write(b"made for " + asked["try"].encode())
            self.reply(200, {})
        elif act == "read":
            with open(asked["files"]["source"]["path"], "rb") as file:
                seen = file.read().decode()
            try:
                open(asked["files"]["source"]["path"], "a")
                seen += " and could write it"
            except OSError:
                pass
            self.reply(200, {"output": {"seen": seen}})
        elif act == "link":
            os.symlink("/etc/passwd", asked["outputs"]["text"]["path"])
            self.reply(200, {})
        elif act == "swap":  # its folder for a link to another
            try:
                os.rename(asked["work_dir"], asked["work_dir"] + ".old")
                os.symlink("/etc", asked["work_dir"])
            except OSError:
                pass  # the folder that it is in is not its own
            self.reply(200, {})
        elif act == "unlisten":
            os.unlink(os.environ["TURNPIKE_SOCKET"])
            os.symlink("/run/other.sock", os.environ["TURNPIKE_SOCKET"])
            self.reply(200, {"output": {}})

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

mode = sys.argv[1] if len(sys.argv) > 1 else "serve"
if mode == "crash":
    print("cannot find the weights", file=sys.stderr, flush=True)
    sys.exit(1)
Server(os.environ["TURNPIKE_SOCKET"], Handler).serve_forever()
)py";

// The script, in a folder of its own, and a configuration that runs it.
class LocalServer {
 public:
  LocalServer() {
    write_file(script(), kLocalServer);
    std::filesystem::permissions(folder_.path(), std::filesystem::perms{0755});
    std::filesystem::permissions(script(), std::filesystem::perms{0644});
  }
  std::filesystem::path script() const { return folder_.path() / "local_server.py"; }
  // No other test's: to find its folders and processes by.
  std::string name() const { return folder_.path().filename().string(); }

  policy::Provider config(const std::string& mode = "serve") const {
    policy::Provider config;
    config.name = name();
    config.kind = policy::ProviderKind::kExec;
    policy::ExecServe& serve = config.serve.emplace();
    serve.command = {"/usr/bin/python3", script().string(), mode};
    serve.files = {script().string()};
    serve.concurrency = 8;
    config.exec_tasks["act"] = {};
    policy::ExecTask& file = config.exec_tasks["file"];
    file.outputs = {{.name = "text", .file = "made.txt", .mime = "text/plain"}};
    file.file_bytes_max = 4096;
    return config;
  }

  // Whether a process of it has made a file of this name in its home.
  bool made(const std::string& file) const {
    std::error_code error;
    const auto parent = folder_.path().parent_path();
    for (std::filesystem::directory_iterator at{parent, error}, end; !error && at != end;
         at.increment(error)) {
      if (at->path().filename().string().starts_with("server-" + name() + "-") &&
          std::filesystem::exists(at->path() / "own" / "home" / file, error))
        return true;
    }
    return false;
  }
  std::size_t processes() const { return processes_with(script().string()); }

 private:
  TempFolder folder_;
};

}  // namespace turnpike::provider::test

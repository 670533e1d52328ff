#!/usr/bin/python3
"""A program that stays: counts and turns text for examples/exec_server.yaml, with the standard library alone.

The protocol is in docs/decisions/0020: one POST for each try, JSON in and out, over the Unix socket TURNPIKE_SOCKET.
"""

import http.server
import json
import os
import socketserver
import textwrap


class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self):  # a Unix socket has no address
        return "-"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["input"].get("text")
        if not isinstance(text, str):
            return self.answer(400, {"error": {"class": "invalid_input", "message": "`text` must be text"}})
        if asked["task"] == "wrap":
            with open(asked["outputs"]["page"]["path"], "w") as page:
                page.write(textwrap.fill(text, 60) + "\n")
        words = text.split()
        self.answer(200, {"output": {"words": len(words), "longest": max(words, key=len, default="")},
                          "usage": {"tokens_in": len(words)}})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64  # at least `concurrency`


Server(os.environ["TURNPIKE_SOCKET"], Handler).serve_forever()

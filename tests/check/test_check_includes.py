"""The rules of scripts/check-includes, each shown by a small tree that breaks it and one that does not."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/check-includes"

# The targets that the cases below include; each is clean by itself.
GROUND = {
    "src/base/ids.h": "#pragma once\n#include <fmt/format.h>\n#include <cstdint>\n",
    "src/policy/policy.h": '#pragma once\n#include "base/ids.h"\n',
    "src/engine/rows.h": '#pragma once\n#include "policy/policy.h"\n',
    "src/engine/engine.h": '#pragma once\n#include "engine/rows.h"\n',
    "src/journal/journal.h": '#pragma once\n#include "engine/rows.h"\n',
    "src/net/http.h": '#pragma once\n#include "base/ids.h"\n#include <boost/asio/awaitable.hpp>\n',
    "src/provider/provider.h": '#pragma once\n#include "net/http.h"\n#include "policy/policy.h"\n',
    "src/billing/stripe.h": '#pragma once\n#include "net/http.h"\n',
    "src/node/node.h": '#pragma once\n#include "engine/engine.h"\n#include "net/http.h"\n#include "provider/provider.h"\n',
    "src/api/api.h": '#pragma once\n#include "node/node.h"\n#include "journal/journal.h"\n',
    "src/cli/cli.h": '#pragma once\n#include "api/api.h"\n',
}


def check(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run([SCRIPT, tmp_path], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_accepts_a_tree_that_follows_the_arrows(tmp_path):
    status, lines = check(tmp_path, GROUND)
    assert (status, lines) == (0, [f"check-includes: {len(GROUND)} files, 0 offences"])


def test_an_empty_tree_is_no_success(tmp_path):
    status, lines = check(tmp_path, {"tests/unit/a.cpp": "int a;\n"})
    assert status == 2 and "no source" in lines[0]


@pytest.mark.parametrize(("name", "line", "rule"), [
    ("src/base/a.cpp", '#include "policy/policy.h"', "base may include no other folder"),
    ("src/policy/a.cpp", '#include "engine/rows.h"', "policy may include base"),
    ("src/engine/a.cpp", '#include "journal/journal.h"', "engine may include base, policy"),
    ("src/engine/a.cpp", '#include <journal/journal.h>', "engine may include base, policy"),
    ("src/engine/a.cpp", '#include "../journal/journal.h"', "engine may include base, policy"),
    ("src/engine/deep/a.cpp", '#  include  "net/http.h"', "engine may include base, policy"),
    ("src/net/a.cpp", '#include "policy/policy.h"', "net may include base"),
    ("src/journal/sqlite/a.cpp", '#include "engine/engine.h"', "of engine, journal may include engine/rows.h only"),
    ("src/journal/a.cpp", '#include "node/node.h"', "journal may include base, engine, policy"),
    ("src/provider/a.cpp", '#include "engine/rows.h"', "provider may include base, net, policy"),
    ("src/billing/a.cpp", '#include "provider/provider.h"', "billing may include base, net, policy"),
    ("src/node/a.cpp", '#include "api/api.h"', "node may include base, billing, engine, journal, net, policy, provider"),
    ("src/api/a.cpp", '#include "cli/cli.h"', "api may include base, billing, engine, journal, net, node"),
    ("src/node/a.cpp", '#include "tests/fakes.h"', "folder first"),
    ("src/base/a.cpp", "#include <boost/json.hpp>", "base may include fmt only"),
    ("src/base/a.cpp", "#include <openssl/sha.h>", "base may include fmt only"),
    ("src/policy/a.cpp", "#include <boost/asio/io_context.hpp>", "policy may include boost/json, fmt, openssl, valijson, yaml-cpp only"),
    ("src/policy/a.cpp", "#include <sqlite3.h>", "policy may include"),
    ("src/policy/a.cpp", "#include <mutex>", "policy has no thread"),
    ("src/engine/a.cpp", "#include <boost/asio.hpp>", "engine may include boost, fmt only"),
    ("src/engine/a.cpp", "#include <spdlog/spdlog.h>", "engine may include boost, fmt only"),
    ("src/engine/a.cpp", "#include <thread>", "the engine has no thread"),
    ("src/engine/a.cpp", "#include <fstream>", "the engine has no I/O"),
    ("src/engine/a.cpp", "#include <sys/stat.h>", "the engine has no I/O"),
    ("src/engine/a.cpp", "#include <random>", "no random of its own"),
    ("src/engine/a.cpp", "auto t = std::chrono::steady_clock::now();", "clocks are read in"),
    ("src/policy/a.cpp", "auto t = std::chrono::system_clock::now();", "clocks are read in"),
    ("src/provider/a.cpp", "auto t = std::chrono::system_clock::now();", "clocks are read in"),
    ("src/node/a.cpp", "using Clock = std::chrono::steady_clock;", "clocks are read in"),
    ("src/api/a.cpp", "auto t = std::time(nullptr);", "clocks are read in"),
    ("src/node/a.cpp", "clock_gettime(CLOCK_MONOTONIC, &t);", "clocks are read in"),
    ("src/net/a.h", "#include <boost/beast/core.hpp>", "Beast is included in src/net/*.cpp only"),
    ("src/api/a.cpp", "#include <boost/beast.hpp>", "Beast is included in src/net/*.cpp only"),
    ("tests/unit/net/a.cpp", "#include <boost/beast/http.hpp>", "Beast is included in src/net/*.cpp only"),
    ("bench/load.cpp", "#include <boost/beast/http.hpp>", "Beast is included in src/net/*.cpp only"),
    ("src/node/a.cpp", "#include <gtest/gtest.h>", "src/ needs no test library"),
])
def test_names_the_offending_line_and_the_rule(tmp_path, name, line, rule):
    status, lines = check(tmp_path, GROUND | {name: f"// A file that breaks one rule.\n\n{line}\n"})
    assert status == 1
    assert len(lines) == 2, lines
    assert lines[0].startswith(f"{name}:3: ")
    assert rule in lines[0]
    assert lines[1].endswith("1 offences")


def test_a_folder_that_the_design_does_not_know_is_an_offence(tmp_path):
    status, lines = check(tmp_path, GROUND | {"src/utils/a.h": "#pragma once\n"})
    assert status == 1 and lines[0].startswith("src/utils/a.h:1: ")


@pytest.mark.parametrize(("name", "text"), [
    ("src/engine/a.cpp", '// #include "journal/journal.h"\n'),
    ("src/engine/a.cpp", '/*\n#include "journal/journal.h"\n*/\n'),
    ("src/engine/a.cpp", 'const char* a = "std::chrono::steady_clock::now()";  // steady_clock::now\n'),
    ("src/engine/a.cpp", 'const char* a = R"(\n#include "net/http.h"\n)";\n'),
    ("src/engine/a.cpp", "#include <boost/container/small_vector.hpp>\n"),
    ("src/engine/a.cpp", "Wall t = row.time(0);\n"),
    ("src/base/time.cpp", "auto t = std::chrono::steady_clock::now();\n"),
    ("src/net/a.cpp", "#include <boost/beast/core.hpp>\nauto t = std::chrono::steady_clock::now();\n"),
    ("src/provider/a.cpp", "using Steady = std::chrono::steady_clock;\nauto t = std::chrono::steady_clock::now();\n"),
    ("src/policy/a.cpp", "#include <yaml-cpp/yaml.h>\n#include <boost/json.hpp>\n#include <openssl/sha.h>\n"),
    ("tests/unit/engine/a.cpp", '#include <gtest/gtest.h>\n#include <thread>\n#include "journal/journal.h"\n'),
    ("src/cli/a.cpp", '#include "base/ids.h"\n#include "engine/engine.h"\n#include <CLI/CLI.hpp>\n'),
])
def test_leaves_alone_what_breaks_no_rule(tmp_path, name, text):
    status, lines = check(tmp_path, GROUND | {name: text})
    assert status == 0, lines

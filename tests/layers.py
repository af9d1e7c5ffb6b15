"""Checks the rules of the layers and of tidiness; run by ctest. Prints one line per breach and fails if there is one.

The layers have an order, and each includes only those before it. Neither of master and peer includes the other. Further rules:
protocol does not use kernel; train uses base and the public C interface only; each library that we depend on belongs to one layer;
and the layers that decide contain no clock, socket, thread, random source or logging, so that a whole run can be simulated.

Usage: layers.py [root of the repository]; layers.py --self-test
"""

import pathlib
import re
import sys
import tempfile

LAYERS = ["base", "op", "wire", "topology", "collective", "protocol", "kernel", "codec", "tls", "master", "peer", "api", "train"]
PURE = {"op", "wire", "topology", "collective", "protocol"}
PUBLIC_EVERYWHERE = {"pccl/address.h", "pccl/status.h", "pccl/ports.h"}
USES_THE_C_INTERFACE = {"api", "train"}

# Start of an included path -> the layer that may include it; train, which knows the C interface alone, has what it computes with itself.
OWNERS = {
    "uv.h": "master", "uv/": "master", "asio": "peer", "boost/": "peer", "spdlog/": "base", "fmt/": "base", "xxhash.h": "kernel",
    "xxh3.h": "kernel", "hwy/": "kernel", "cuda": "kernel", "immintrin.h": "kernel", "arm_neon.h": "kernel", "zstd": "codec",
    "openssl/": "tls", "sqlite3.h": "master",
}
ALSO_TRAIN = {"hwy/", "xxhash.h"}
IMPURE_HEADERS = {
    "atomic", "condition_variable", "ctime", "csignal", "fstream", "future", "iostream", "latch", "barrier", "mutex", "random",
    "semaphore", "shared_mutex", "stop_token", "thread", "time.h", "signal.h", "fcntl.h", "netdb.h", "poll.h", "pthread.h", "unistd.h",
}
IMPURE_FOLDERS = ("sys/", "netinet/", "arpa/", "linux/", "net/")
IMPURE_WORDS = re.compile(r"\b(steady_clock|system_clock|high_resolution_clock|monotonic_now|clock_gettime|gettimeofday|random_device|"
                          r"getrandom|s?rand|mt19937(?:_64)?|getenv|thread_local|(?:PCCL_LOG|printf|f?puts)\w*)\b(?=\s*[(:;{<]|\s)")

# Ways to a descriptor that other processes inherit, or to a look-up that cannot be given up, and the file that may go it.
DESCRIPTORS = [
    (re.compile(r"::socket\(|\baccept4?\(\w+[.(]|\basync_accept\b"), "base/descriptors.cc", "sockets are made by base/descriptors.h"),
    (re.compile(r"\bgetaddrinfo\(|\btcp::resolver\b"), "base/lookup.cc", "names are resolved by base/lookup.h"),
    (re.compile(r"\b[io]?fstream\b"), None, "its file is not close-on-exec; read_file() and fopen() with e are"),
]

LINE_LIMIT = 700
TEXT = {".c", ".cc", ".h", ".py", ".pyi", ".cmake", ".txt", ".md", ".in", ".map", ".toml", ".json", ".cu", ".sh"}
CODE = {".c", ".cc", ".h", ".py", ".cu"}
FOLDERS = ["bench", "bindings", "cmake", "docs", "examples", "include", "src", "tests", "tools"]

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def code_lines(text):
    """The lines without comments; strings emptied except in #include."""
    def blank(match):
        token = match.group()
        if token.startswith('"'):
            line = text[text.rfind("\n", 0, match.start()) + 1:match.start()]
            return token if line.lstrip().startswith("#") else '""'
        return "\n" * token.count("\n")
    return COMMENT_OR_STRING.sub(blank, text).split("\n")


def include_breach(layer, path):
    """Why `layer` must not include `path`, or None."""
    for start, owner in OWNERS.items():
        if path.startswith(start) and layer != owner and not (layer == "train" and start in ALSO_TRAIN):
            return f"only {owner} uses {path}"
    if layer in PURE and (path in IMPURE_HEADERS or path.startswith(IMPURE_FOLDERS)):
        return f"{path} is not for a layer that only decides"
    top = path.split("/")[0]
    if top in ("pccl", "pccl.h", "ccoip.h", "ccoip_inet.h"):
        return None if path in PUBLIC_EVERYWHERE or layer in USES_THE_C_INTERFACE else f"{path} is for {' and '.join(sorted(USES_THE_C_INTERFACE))}"
    if top not in LAYERS or "/" not in path or top == layer:
        return None
    if layer == "train" and top != "base":
        return f"train uses base and <pccl/...> only, not {path}"
    if LAYERS.index(top) > LAYERS.index(layer) or {top, layer} == {"master", "peer"}:
        return f"{layer} may not use {top}"
    if top == "kernel" and layer == "protocol":
        return "protocol decides and does not compute"
    return None


def check_layers(root):
    sources = root / "src"
    for path in sorted(p for p in sources.rglob("*") if p.suffix in (".cc", ".h", ".c", ".cu")):
        layer = path.relative_to(sources).parts[0]
        if layer not in LAYERS:
            yield path, 0, f"is in no layer: {', '.join(LAYERS)}"
            continue
        for number, line in enumerate(code_lines(path.read_text(errors="replace")), 1):
            include = INCLUDE.match(line)
            if include and (why := include_breach(layer, include.group(1))):
                yield path, number, why
            elif layer in PURE and not include and (word := IMPURE_WORDS.search(line)):
                yield path, number, f"{word.group(1)} is not for a layer that only decides"
            for way, owner, why in DESCRIPTORS:
                if way.search(line) and str(path.relative_to(sources)) != owner:
                    yield path, number, why


def check_tidiness(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in TEXT or "__pycache__" in path.parts or not path.is_file():
                continue
            lines = path.read_text(errors="replace").split("\n")
            if path.suffix in CODE and len(lines) - 1 > LINE_LIMIT:
                yield path, 0, f"has {len(lines) - 1} lines, more than {LINE_LIMIT}"
            for number, line in enumerate(lines, 1):
                if "\t" in line:
                    yield path, number, "a tab"
                if line != line.rstrip():
                    yield path, number, "blanks at the end of the line"


def breaches(root):
    for path, line, why in [*check_layers(root), *check_tidiness(root)]:
        yield f"{path.relative_to(root)}{f':{line}' if line else ''}: {why}"


def self_test():
    """Every rule finds its breach, and allowed code passes."""
    wrong = {
        "src/base/a.h": '#include "wire/codec.h"\n',
        "src/wire/b.cc": "#include <uv.h>\n",
        "src/wire/c.cc": '#include "kernel/reduce.h"\n',
        "src/protocol/d.cc": "#include <thread>\n",
        "src/protocol/e.cc": "auto t = std::chrono::steady_clock::now();\n",
        "src/protocol/f.cc": "int x = rand();\n",
        "src/protocol/g.cc": 'void f() { PCCL_LOG_WARN("lost"); }\n',
        "src/master/h.cc": '#include "peer/engine.h"\n',
        "src/peer/i.cc": '#include "master/server.h"\n',
        "src/train/j.cc": '#include "peer/engine.h"\n',
        "src/peer/k.cc": "#include <hwy/highway.h>\n",
        "src/peer/l.cc": "#include <pccl/pccl.h>\n",
        "src/other/m.cc": "\n",
        "src/base/n.cc": "int a;\t\n",
        "tests/o.py": "pass \n",
        "tools/p.cc": "\n" * (LINE_LIMIT + 1),
        "src/topology/q.cc": "std::random_device d;\n",
        "src/collective/r.cc": "#include <sys/socket.h>\n",
        "src/base/s.cc": '#include "op/element.h"\n',
        "src/peer/t.cc": "int s = ::socket(AF_INET, SOCK_STREAM, 0);\n",
        "src/peer/u.cc": "acceptor.async_accept(f);\n",
        "src/peer/v.cc": "asio::ip::tcp::resolver resolver(io);\n",
        "src/train/w.cc": "std::ifstream file(path);\n",
        "src/master/x.cc": "int s = ::accept(listener.get(), nullptr, nullptr);\n",
    }
    right = {
        "src/wire/a.cc": '#include "op/element.h"\n#include "base/ids.h"\n// a thread, #include <thread>, rand()\nint operand(int);\n',
        "src/protocol/b.cc": 'const char *words = "steady_clock is named here";\nint brand(int);\n#include "base/log.h"\nLogLevel level;\n',
        "src/master/c.cc": '#include <uv.h>\n#include <thread>\n#include "protocol/master.h"\n',
        "src/api/d.cc": '#include "master/server.h"\n#include "peer/peer.h"\n#include <pccl/pccl.h>\n',
        "src/train/e.cc": "#include <pccl/train.h>\n#include <hwy/highway.h>\n#include \"base/result.h\"\n",
        "src/base/descriptors.cc": "int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);\n",
        "src/peer/g.cc": "if (!accepting_) accept();\nvoid on_accept(Lane &lane);\n",
        "src/base/f.cc": "#include <spdlog/logger.h>\n#include <pccl/status.h>\n",
    }
    with tempfile.TemporaryDirectory(prefix="pccl-layers-") as folder:
        for index, (files, expected) in enumerate([(wrong, set(wrong)), (right, set())]):
            root = pathlib.Path(folder) / str(index)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            found = {line.split(":")[0] for line in breaches(root)}
            if found != expected:
                return [f"self-test: {name} should {'' if name in expected else 'not '}be reported" for name in sorted(found ^ expected)]
    return []


def main():
    if sys.argv[1:] == ["--self-test"]:
        problems = self_test()
    else:
        problems = list(breaches(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()))
    print("\n".join(problems) or "ok")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

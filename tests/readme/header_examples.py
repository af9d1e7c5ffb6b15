"""Compiles the examples in the head comments of include/pccl/*.h as C99: header_examples.py ROOT COMPILER."""

import pathlib
import re
import subprocess
import sys
import textwrap

# The declarations around an example: names that it uses and does not declare.
AROUND = {
    "train.h": """
        void inner_step(const pcclTensorInfo_t *parameters);
        static void example(pcclComm_t *communicator, pcclTensorInfo_t *parameters, size_t parameter_count, int steps) {""",
    "exchange.h": """
        void take_back(const void *half);
        static void example(pcclComm_t *comm, pcclPeerId_t neighbour, uint64_t tag, const void *half, size_t bytes, pcclPostOp_t post,
                            void *buffer, size_t room, pcclMessageInfo_t info) {""",
}
BLOCK = re.compile(r"^ \*\n((?: \*     .*\n(?: \*\n(?= \*     ))?)+)(?= \*\n| \*/)", re.MULTILINE)


def examples(path):
    """(line, code) of each indented block of a head comment that is code."""
    text = path.read_text()
    head = text[: text.index("*/") + 2] if text.startswith("/*") else ""
    for match in BLOCK.finditer(head):
        code = textwrap.dedent("".join(line[2:] + "\n" for line in match[1].splitlines()))
        if ";" in code:
            yield head.count("\n", 0, match.start()) + 2, code


def program(name, line, code):
    used = re.sub(r"//[^\n]*", "", code).replace("for (...)", "for (;;)")
    around = textwrap.dedent(AROUND.get(name, "\nstatic void example(void) {"))
    unused = "".join(f"    (void)sizeof({word});\n" for word in re.findall(r"(\w+)(?=[,)])", around.rsplit("example(", 1)[1]) if word != "void")
    return f'#include <pccl/{name}>\n{around}\n{unused}    {{\n#line {line} "{name}"\n{used}    }}\n}}\nvoid (*const use)() = (void (*)())example;\n'


def main():
    root, compiler = pathlib.Path(sys.argv[1]), sys.argv[2]
    found, failed = 0, False
    for path in sorted((root / "include/pccl").glob("*.h")):
        for line, code in examples(path):
            found += 1
            command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-strict-prototypes", "-fsyntax-only", "-x", "c",
                       f"-I{root / 'include'}", "-"]  # fmt: skip
            result = subprocess.run(command, input=program(path.name, line, code), text=True, capture_output=True, check=False)
            if result.returncode:
                failed = True
                print(f"include/pccl/{path.name}:{line}: the example does not compile\n{result.stderr}")
    print(f"{found} examples")
    return 1 if failed or found < 2 else 0


if __name__ == "__main__":
    sys.exit(main())

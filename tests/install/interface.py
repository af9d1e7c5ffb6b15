"""Checks that the names, values, field orders and prototypes with which programs were compiled are still those of the list.

The list has one fact per line:
    value     NAME NUMBER                an enumerator or macro
    struct    TYPE SIZE field@offset...  all fields, in order
    function  PROTOTYPE                  declared again after the header, so that the compiler compares both
Sizes are those of 64-bit systems. On other systems only values, prototypes and the order of fields are checked.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

HEAD = """#include <ccoip.h>
#include <ccoip_inet.h>
#include <pccl.h>
#include <pccl/exchange.h>
#include <stddef.h>
#include <stdio.h>
static int failures;
static void is(const char *what, unsigned long have, unsigned long want) {
    if (have == want) return;
    printf("%s is %lu, not %lu\\n", what, have, want);
    ++failures;
}
"""


def program(facts):
    declarations, checks = [], []
    for kind, rest in facts:
        if kind == "function":
            # Parentheses select the function if a macro has the same name.
            declarations.append(re.sub(r"\b(\w+)\(", r"(\1)(", rest, count=1) + ";")
        elif kind == "value":
            name, number = rest.split()
            checks.append(f'is("{name}", (unsigned long)({name}), {number}UL);')
        elif kind == "struct":
            name, size, *fields = rest.split()
            fields = [field.split("@") for field in fields]
            checks.append(f'if (sizeof(void *) == 8) is("sizeof({name})", sizeof({name}), {size}UL);')
            for field, offset in fields:
                checks.append(f'if (sizeof(void *) == 8) is("{name}.{field}", offsetof({name}, {field}), {offset}UL);')
            for (first, _), (second, _) in zip(fields, fields[1:]):
                checks.append(f'is("{name}: {first} before {second}", offsetof({name}, {first}) < offsetof({name}, {second}), 1UL);')
        else:
            sys.exit(f"the list has a line of an unknown kind: {kind} {rest}")
    return "\n".join([HEAD, *declarations, "int main(void) {", *checks, "return failures != 0;", "}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--include", required=True)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--list", required=True)
    args = parser.parse_args()

    lines = [line.split("#")[0].strip() for line in pathlib.Path(args.list).read_text().splitlines()]
    facts = [tuple(line.split(None, 1)) for line in lines if line]
    with tempfile.TemporaryDirectory(prefix="pccl-interface-") as folder:
        source, binary = pathlib.Path(folder) / "interface.c", pathlib.Path(folder) / "interface"
        source.write_text(program(facts))
        subprocess.run([args.cc, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{args.include}", source, "-o", binary], check=True)
        result = subprocess.run([binary])
    print(f"{len(facts)} facts checked")
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()

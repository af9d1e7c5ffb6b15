"""Installs the build into an empty prefix, moves the prefix, and builds and runs a C99 project with it."""

import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def run(command, **options):
    """Returns the output of a command. If the command fails, prints the output and ends the test."""
    result = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"failed ({result.returncode}): {shlex.join(map(str, command))}\n{result.stdout}")
    return result.stdout


def by_cmake(args, prefix, work, target):
    run([args.cmake, "-S", HERE / "outside", "-B", work, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_C_COMPILER={args.cc}",
         f"-DWANTED_TARGET={target}", f"-DWANTED_VERSION={args.version}"])
    run([args.cmake, "--build", work])
    return work / "outside"


def by_pkg_config(args, prefix, work, static):
    pc_dirs = {p.parent for p in prefix.rglob("pccl.pc")}
    environment = dict(os.environ, PKG_CONFIG_PATH=":".join(map(str, pc_dirs)))
    if static:  # the linker prefers the shared library if both exist
        for library in prefix.rglob("libpccl.so*"):
            library.unlink()
    ask = ["pkg-config", "--static"] if static else ["pkg-config"]
    version = run([*ask, "--modversion", "pccl"], env=environment).strip()
    if version != args.version:
        sys.exit(f"pccl.pc has version {version} instead of {args.version}")
    flags = shlex.split(run([*ask, "--cflags", "--libs", "pccl"], env=environment))
    program = work / "outside"
    run([args.cc, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", HERE / "outside" / "outside.c", "-o", program, *flags])
    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--how", choices=["cmake", "cmake-static", "pkg-config", "pkg-config-static"], required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--version", required=True)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="pccl-install-") as folder:
        prefix, work = pathlib.Path(folder) / "moved", pathlib.Path(folder) / "work"
        work.mkdir()
        run([args.cmake, "--install", args.build, "--prefix", prefix.with_name("first"), "--component", "pccl"])
        shutil.move(prefix.with_name("first"), prefix)
        if args.how.startswith("cmake"):
            program = by_cmake(args, prefix, work, "pccl::pccl_static" if args.how == "cmake-static" else "pccl::pccl")
        else:
            program = by_pkg_config(args, prefix, work, args.how == "pkg-config-static")
        libraries = {str(library.parent) for library in prefix.rglob("libpccl.so.*")}
        needs = "libpccl" in run(["ldd", program])
        if needs == args.how.endswith("static"):
            sys.exit(f"{'needs' if needs else 'does not need'} libpccl.so")
        print(run([program], env=dict(os.environ, LD_LIBRARY_PATH=":".join(libraries))), end="")


if __name__ == "__main__":
    main()

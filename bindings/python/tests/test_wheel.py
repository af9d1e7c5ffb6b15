"""Builds the wheel from the source tree, installs it into a new environment, and uses it there."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

SOURCE = os.environ.get("PCCL_SOURCE")
USE = """
import pathlib, sys, threading, pccl
assert pathlib.Path(pccl.__file__).is_relative_to(sys.prefix), pccl.__file__
node = pccl.MasterNode("127.0.0.1:0", daemon=True)
node.run()
a, b = (pccl.Communicator(f"127.0.0.1:{node.port}") for _ in range(2))
a.connect()
joined = threading.Thread(target=b.connect)
joined.start()
while a.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE) < 2:
    a.update_topology()
joined.join()
values = bytearray([1, 2, 3]), bytearray([1, 1, 1])
handle = a.all_reduce_async(values[0], values[0], op=pccl.ReduceOp.SUM)
b.all_reduce(values[1], values[1], op=pccl.ReduceOp.SUM)
assert handle.wait()[0] and bytes(values[0]) == bytes([2, 3, 4])
print(pccl.__version__)
"""


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(not SOURCE, reason="PCCL_SOURCE is not set to the source tree")
@pytest.mark.parametrize("project", [".", "bindings/python"])
def test_wheel_contains_everything_that_it_needs(tmp_path, project):
    folder = pathlib.Path(SOURCE, project)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    build = pathlib.Path(SOURCE, "build-wheel")  # here the compiler's cache has the objects of the other build folders
    shutil.rmtree(build, ignore_errors=True)
    try:
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index",
            f"--config-settings=build-dir={build}", "--wheel-dir", tmp_path, folder, env={**environment, "CMAKE_GENERATOR": "Ninja"})
    finally:
        shutil.rmtree(build, ignore_errors=True)
    [wheel] = tmp_path.glob("pccl-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    package = {pathlib.PurePath(name).name for name in names if name.startswith("pccl/")}
    here = {path.name for path in pathlib.Path(SOURCE, "bindings/python/pccl").iterdir() if path.suffix in (".py", ".pyi", ".typed")}
    assert here <= package and any(name.startswith("_pccl.") and name.endswith(".so") for name in package)
    assert not [name for name in names if not name.startswith(("pccl/", "pccl-"))], "the wheel has files outside of the package"

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    site = run(tmp_path / "venv/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('platlib'))", env=environment).strip()
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel, env=environment)
    assert "pccl_master = pccl.master:main" in zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    version = run(tmp_path / "venv/bin/python", "-c", USE, env=environment, cwd=tmp_path).strip()
    assert wheel.name.startswith(f"pccl-{version}-")

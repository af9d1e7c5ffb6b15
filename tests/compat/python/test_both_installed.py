"""Tests of version 1 (the distribution pypccl) and this package in one environment: both provide the module `pccl`."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import pccl

PACKAGE = pathlib.Path(pccl.__file__).parent
REMEDY = "pip uninstall pypccl pccl"


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages, which contains this package."""
    folder = tmp_path / "site-packages"
    shutil.copytree(PACKAGE, folder / "pccl", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def install_record(folder, *files, version="1.4.1", name="pypccl"):
    record = folder / f"{name}-{version}.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (record / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def import_from(*folders, statement="from pccl import MasterNode"):
    path = os.pathsep.join(map(str, folders))
    return subprocess.run(
        [sys.executable, "-c", f"{statement}; import pccl; print(pccl.__file__)"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": path})


def refused(done):
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: cannot import pccl"), done.stderr
    assert REMEDY in done.stderr


@pytest.mark.parametrize("statement", ["import pccl", "from pccl import *", "from pccl import torch", "import pccl.master"])
def test_this_package_installed_over_version_1_is_refused(site, statement):
    install_record(site, "pccl/__init__.py", "pccl/_pccl.py", "pypccl-1.4.1.dist-info/METADATA")
    done = import_from(site, statement=statement)
    refused(done)
    assert "pypccl 1.4.1" in done.stderr and str(site) in done.stderr


def test_version_1_installed_over_this_package_is_refused(site):
    """The __init__.py of version 1 imports names from its module `_pccl`, which the extension of this package hides."""
    install_record(site, "pccl/__init__.py", "pccl/_pccl.py")
    (site / "pccl/__init__.py").write_text("from pccl._pccl import *\n")
    (site / "pccl/_pccl.py").write_text("class MasterNode: pass\n")
    refused(import_from(site))


def test_record_without_a_list_of_files_is_refused(site):
    install_record(site)
    (site / "pypccl-1.4.1.dist-info/RECORD").unlink()
    refused(import_from(site))


def test_version_1_in_another_folder_does_not_matter(site, tmp_path):
    other = tmp_path / "other"
    install_record(other, "pccl/__init__.py")
    (other / "pccl").mkdir()
    (other / "pccl/__init__.py").write_text("raise RuntimeError('version 1')\n")
    done = import_from(site, other)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(site / "pccl/__init__.py")


@pytest.mark.parametrize(("name", "files"), [("pypccl", ["__editable__.pypccl.pth"]), ("pypccl_tools", ["pccl/__init__.py"]), ("pccl", ["pccl/__init__.py"])])
def test_distribution_without_shared_files_is_ignored(site, name, files):
    install_record(site, *files, name=name)
    done = import_from(site)
    assert done.returncode == 0, done.stderr

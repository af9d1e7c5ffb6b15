"""Runs examples/hello/train.py according to its docstring: in two processes with one master."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: the example is not run")

SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "examples" / "hello" / "train.py"
STEPS = 5


def test_two_processes_train_together_and_end(master):
    command = [sys.executable, str(SCRIPT), master, str(STEPS)]
    trainers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for trainer in trainers:
            output, errors = trainer.communicate(timeout=110)
            assert trainer.returncode == 0, errors
            lines = output.splitlines()
            assert [line.split(":")[0] for line in lines] == [f"outer step {step}" for step in range(1, STEPS + 1)]
            assert "2 peers" in lines[0], lines
    finally:
        for trainer in trainers:
            if trainer.poll() is None:
                trainer.kill()
                trainer.wait()

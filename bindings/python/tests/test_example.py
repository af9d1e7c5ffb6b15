"""Runs examples/diloco/train_char_gpt.py from the command line."""

import json
import os
import pathlib
import random
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: the example is not run")

SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "examples" / "diloco" / "train_char_gpt.py"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    words = ["peers", "come", "and", "go", "while", "the", "others", "train", "on;", "nobody", "waits.\n"]
    path = tmp_path_factory.mktemp("text") / "text"
    dice = random.Random(1)
    path.write_text(" ".join(dice.choice(words) for _ in range(80000)))
    return path


def train(text, *arguments):
    """Runs the example and returns the events of its report."""
    command = [sys.executable, SCRIPT, "--text", text, "--sync-every", "5", "--batch", "4", "--length", "16", "--width", "16", *arguments, "--report", "-"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=110, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_example_trains_draws_saves_and_resumes(master, text, tmp_path):
    checkpoint, picture = tmp_path / "outer", tmp_path / "plot.svg"
    first = train(text, "--master", master, "--steps", 20, "--checkpoint", checkpoint, "--plot", picture)
    assert [event["event"] for event in first] == ["joined"] + 4 * ["step"] + ["done"]
    assert first[0]["step"] == 0 and first[-1]["step"] == 4 and first[-1]["identical"]
    assert first[-2]["loss"] < first[1]["loss"] < 5
    assert picture.read_text().startswith("<svg")
    second = train(text, "--master", master, "--steps", 30, "--checkpoint", checkpoint, "--resume")
    assert second[0]["step"] == 4 and [event["inner"] for event in second[1:]] == [25, 30, 30]


def test_missing_text_is_named():
    done = subprocess.run([sys.executable, SCRIPT, "--text", "/nowhere"], capture_output=True, text=True, timeout=110)
    assert done.returncode == 1 and "/nowhere does not exist" in done.stderr and "fortunes" in done.stderr

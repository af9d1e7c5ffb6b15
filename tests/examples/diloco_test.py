"""Runs trainers of examples/diloco with every method, while peers are killed with SIGKILL, others join, and the master is killed and
restarted. After every round all its members must hold the same outer state. With gossip, where models differ, all must continue to mix."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "diloco"))
from fleet import Fleet, FleetError  # noqa: E402

SKIPPED = 77
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
SMALL = {"hidden": 16, "batch": 8, "inner": 10, "test-images": 100, "test-every": 0, "min-peers": 2}
DIFFERING = ("gossip", "pushsum")  # methods in which each peer has its own model
UNENDING = {"steps": 1_000_000, "step-time": "4ms"}  # the test ends the run after all events
CASES = {
    "diloco": {},
    "async": {"newcomers": "share"},
    "eager": {"newcomers": "drain"},
    "streaming": {"pattern": "even", "fragments": 3, "overlap": 2},
    "co2": {"newcomers": "resync", "clip": 0.01},
    "ddp": {},
    "compressed": {"method": "async", "quantize": "i8-block", "error-feedback": True},
    "gossip": {"degree": 2, "own-start": True},
    "pushsum": {"merge": "synchronous", "distance-every": 2},
    "weighted": {"method": "diloco", "weighted": True, "round-time": "60ms"},
}
# Settings of a case for runs whose final models are compared. With the default merge a round takes the models that have arrived by then,
# so the distance of the final models depends on the load of the machine. Synchronous rounds wait for the models of the same round.
ENDS = {"gossip": {"merge": "synchronous"}}


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def expect_parity(trainers):
    """All reports of a round must have the same state, and each trainer must have rounds in common with others."""
    seen, shared = {}, dict.fromkeys((t.name for t in trainers), 0)
    for trainer in trainers:
        for r in trainer.rounds:
            state = (r["outer_steps"], r["digest"])
            other, theirs = seen.setdefault(r["inner_steps"], (trainer.name, state))
            expect(state == theirs, f"after {r['inner_steps']} inner steps {trainer.name} has {state}, {other} has {theirs}")
            if other != trainer.name:
                shared[other] += 1
                shared[trainer.name] += 1
    for name, rounds in shared.items():
        expect(rounds >= 3, f"{name} had {rounds} rounds in common with others")


def expect_mixing(trainers):
    """All must have merged other models in their last rounds."""
    for trainer in trainers:
        recent = trainer.rounds[-3:]
        expect(any(r["world"] > 1 for r in recent), f"{trainer.name} merged no model in its last rounds: {recent}")


def more_rounds(trainer, count):
    trainer.wait_for_round((trainer.rounds[-1]["step"] if trainer.rounds else 0) + count)


def newcomer(fleet, shard):
    trainer = fleet.start(shard)
    trainer.wait_for_join()
    trainer.wait("three rounds", lambda: len(trainer.rounds) >= 3)
    return trainer


def survives(settings, build, folder):
    with Fleet(build, {**settings, **UNENDING}, folder / "churn", journal=folder / "journal") as fleet:
        first = [fleet.start(f"{i}/3") for i in (1, 2, 3)]
        for trainer in first:
            trainer.wait_for_join()
            trainer.wait("three rounds", lambda t=trainer: len(t.rounds) >= 3)
        first[2].kill()
        second = newcomer(fleet, "3/3")
        fleet.kill_master()
        fleet.start_master()
        for trainer in fleet.living():
            more_rounds(trainer, 3)
        newcomer(fleet, "1/3")
        first[0].kill()
        for trainer in fleet.living():
            more_rounds(trainer, 3)
        expect(all(t.process.poll() is None for t in fleet.living()), "a trainer ended")
        expect(not any(r["rejoined"] for t in fleet.living() for r in t.rounds), "a trainer had fallen out of the run")
        expect(second.joined["step"] > 0, "the newcomer did not receive the run's step")
        if settings["method"] in DIFFERING:
            expect_mixing(fleet.living())
        else:
            expect_parity(fleet.trainers)


def ends(settings, build, folder):
    """Trains to the end, writes a checkpoint, and continues from it in another run."""
    path = folder / "checkpoint"
    settings = {**settings, "steps": 6, "min-peers": 3}
    with Fleet(build, settings, folder / "whole") as fleet:
        for i in (1, 2, 3):
            fleet.start(f"{i}/3", **({"save": path} if i == 1 else {}))
        fleet.finish(60)
        for record in (t.done for t in fleet.trainers):
            expect(record["world"] == 3, f"not all peers were members at the end: {record}")
            if settings["method"] in DIFFERING:
                # The peers' own initial models, which gossip uses here, have a distance of 1.4.
                expect(record["identical"] is None and 0 < record["distance"] < 0.5, f"the distance between models is too large: {record}")
                expect(0 < record["mean_accuracy"] <= 1, f"the mean of all models was not tested: {record}")
            else:
                expect(record["identical"] and record["distance"] is None, f"outer states differ at the end: {record}")
    with Fleet(build, {**settings, "steps": 8, "load": path}, folder / "more") as fleet:
        for i in (1, 2, 3):
            fleet.start(f"{i}/3")
        fleet.finish(60)
        expect(fleet.trainers[0].joined["step"] == 6, "the run did not continue from the checkpoint")


def late(build, folder):
    """A peer that joins after all others have ended begins a new run. With --expect-step it fails instead."""
    with Fleet(build, {**SMALL, "method": "diloco", "steps": 2, "min-peers": 1}, folder) as fleet:
        fleet.start("1/2")
        fleet.finish(60)
        second = fleet.start("2/2", **{"expect-step": 1})
        expect(second.process.wait(60) == 1, "a trainer with --expect-step began a new run")
        expect("the run has made 0 rounds, not 1" in second.log.read_text(), second.tail())
        third = fleet.start("2/2")
        third.wait("its end", lambda: third.done)
        expect(third.joined["step"] == 0, "a run without members had made steps")


def mistakes(build):
    def said(*words):
        ran = subprocess.run([build / "bin" / "diloco", *words], capture_output=True, text=True, timeout=60, check=False)
        return ran.returncode, ran.stderr + ran.stdout

    for words, status, what in (
        (["--method", "magic"], 64, "magic not in"),
        (["--shard", "5/4"], 64, "1 <= i <= n"),
        (["--method", "co2", "--penalty", "0.5"], 1, "`penalty` is 0.5, not 1 to 1e6"),
        (["--method", "co2", "--penalty", "much"], 64, "none, gap or a number"),
        (["--method", "eager", "--outer", "heavy-ball"], 1, "pcclOuterSgd or pcclOuterNesterov"),
        (["--method", "gossip", "--graph", "star"], 64, "star not in"),
        (["--method", "gossip", "--degree", "1"], 1, "`graph_degree` is 1, not 2 to 64"),
        (["--method", "gossip", "--own-weight", "2"], 1, "`own_weight` is 2, not 0 to 1"),
        (["--method", "pushsum", "--merge", "after-all"], 1, "pcclMergeAfterAll needs pcclMethodGossip"),
        (["--method", "gossip", "--quantize", "u8"], 1, "`quantization` applies to averages"),
        (["--method", "co2", "--own-start"], 64, "is for gossip and pushsum"),
        (["--round-time", "1s"], 1, "needs `weighted`"),
        (["--load", "/nowhere/x"], 1, "/nowhere/x"),
        (["--master", "127.0.0.1:1", "--join-timeout", "1ms"], 1, "pcclTrainerJoin"),
    ):
        code, text = said(*words)
        expect(code == status and what in text, f"{words}: status {code}, not {status} with '{what}':\n{text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("case", choices=[*CASES, "late", "mistakes"])
    arguments = parser.parse_args()
    if not (DATA / "train-images-idx3-ubyte.gz").exists():
        print(f"skipped: no Fashion-MNIST in {DATA}")
        return SKIPPED
    try:
        if arguments.case == "mistakes":
            mistakes(arguments.build)
            return 0
        with tempfile.TemporaryDirectory(prefix="pccl-diloco-") as folder:
            if arguments.case == "late":
                late(arguments.build, pathlib.Path(folder))
                return 0
            settings = {"method": arguments.case, **SMALL, **CASES[arguments.case]}
            survives(settings, arguments.build, pathlib.Path(folder))
            ends({**settings, **ENDS.get(arguments.case, {})}, arguments.build, pathlib.Path(folder))
    except (AssertionError, FleetError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

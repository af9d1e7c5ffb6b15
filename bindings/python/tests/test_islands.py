"""Tests of islands: several processes that train one sharded model together."""

import re

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of islands are skipped")

from world import finish, script  # noqa: E402

import pccl.torch as methods  # noqa: E402

# Arguments: master, method, seed of the island, its rendezvous file, rank, replicas, shards, file with the last step's number.
SCRIPT = """
    import hashlib, os, sys, time
    import torch, torch.distributed as dist, pccl.torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    master, kind, seed, meeting, rank, replicas, shards, last = sys.argv[1:]
    rank, replicas, shards = int(rank), int(replicas), int(shards)

    def goes_on(steps):
        return not os.path.exists(last) or steps < int(open(last).read())

    def whole(model):  # gathers the parameters from all shards
        return hashlib.sha256(b"".join(p.full_tensor().detach().numpy().tobytes() for p in model.parameters())).hexdigest()[:16]

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=replicas * shards)
    shape, names = ((shards,), ("shard",)) if replicas == 1 else ((replicas, shards), ("replicate", "shard"))
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    torch.manual_seed(int(seed))
    # Its shards are uneven, and some are empty.
    model = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Linear(9, 1))
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    data = torch.Generator().manual_seed(100 * int(seed) + rank)
    try:
        with pccl.torch.Island(master, mesh=mesh) as island:
            with getattr(pccl.torch, kind)(model, island=island, sync_every=5, outer_lr=0.3) as trainer:
                print("joined", whole(model), flush=True)
                while goes_on(trainer.status.inner_steps):
                    optimizer.zero_grad()
                    model(torch.randn(8, 6, generator=data)).square().mean().backward()
                    optimizer.step()
                    status = trainer.step()
                    if status.outer_step:
                        print("outer", status.outer_steps, whole(model), status.world_size, status.inner_steps, flush=True)
                    time.sleep(0.002)
                trainer.finish()
                print("end", whole(model), flush=True)
    except Exception as error:
        print("failed", type(error).__name__, error, flush=True)
        os._exit(3)  # a normal exit can wait for the connections of torch.distributed to the lost process
    dist.destroy_process_group()
"""


class IslandProcesses:
    """The processes of one island. The first one prints the outer steps."""

    def __init__(self, folder, master, kind, seed, replicas=1, shards=2):
        self.processes = [
            script(SCRIPT, master, kind, seed, folder / f"island{seed}", rank, replicas, shards, folder / "last")
            for rank in range(replicas * shards)
        ]
        self.lines = []

    def until(self, wanted):
        for line in self.processes[0].stdout:
            self.lines.append(line.split())
            if wanted(self.lines[-1]):
                return self.lines[-1]
        raise AssertionError("the first process ended: " + self.processes[0].stderr.read())

    def until_world_is(self, islands):
        return self.until(lambda words: words[0] == "outer" and int(words[3]) == islands)

    def finish(self):
        """Waits until all processes have ended, and returns the lines that they printed."""
        outputs = [finish(process)[0] for process in self.processes]
        return self.lines + [line.split() for out in outputs for line in out.splitlines()]


def end_after(folder, step):
    (folder / "next").write_text(str(step))
    (folder / "next").rename(folder / "last")


def assert_alike(lines):
    outer = {}
    for words in lines:
        if words[0] == "outer":
            assert outer.setdefault(words[1], words[2]) == words[2], f"models differ after outer step {words[1]}"
    ends = {words[1] for words in lines if words[0] == "end"}
    assert len(ends) == 1 and len(outer) > 5


@pytest.mark.parametrize("kind", ["DiLoCo", "AsyncDiLoCo"])
def test_models_stay_equal_when_islands_join_and_are_lost(master, tmp_path, kind):
    first, second = IslandProcesses(tmp_path, master, kind, 1), IslandProcesses(tmp_path, master, kind, 2)
    first.until_world_is(2)
    third = IslandProcesses(tmp_path, master, kind, 3)
    first.until_world_is(3)
    second.processes[1].kill()
    now = first.until_world_is(2)
    words = second.until(lambda words: words[0] == "failed")
    assert re.search("IslandError|Connection closed by peer|Connection reset", " ".join(words))
    assert [process.wait(60) for process in second.processes] == [3, -9]
    end_after(tmp_path, int(now[4]) + 100)
    assert_alike(first.finish() + third.finish())


def test_first_replica_is_in_the_run_and_others_copy_it(master, tmp_path):
    islands = [IslandProcesses(tmp_path, master, "DiLoCo", seed, replicas=2, shards=1) for seed in (1, 2)]
    now = islands[0].until_world_is(2)
    end_after(tmp_path, int(now[4]) + 60)
    assert_alike([line for island in islands for line in island.finish()])


def test_incomplete_island_gets_an_error_in_time(master, tmp_path):
    source = """
        import sys, torch, torch.distributed as dist, pccl.torch
        master, meeting, rank = sys.argv[1:]
        dist.init_process_group("gloo", init_method="file://" + meeting, rank=int(rank), world_size=2)
        island = pccl.torch.Island(master, timeout=2)
        if rank == "0":
            trainer = pccl.torch.DiLoCo(torch.nn.Linear(3, 3), island=island)
            try:
                trainer.join()
            except pccl.torch.IslandError as error:
                print(error, flush=True)
            dist.barrier()
        else:
            dist.barrier()
    """
    processes = [script(source, master, tmp_path / "meeting", rank) for rank in range(2)]
    out, _ = finish(processes[0])
    finish(processes[1])
    assert "not all 2 processes of this island have come within 2 s" in out


def test_trainer_has_a_communicator_or_an_island(master):
    with pytest.raises(TypeError, match="either a communicator or an island"):
        methods.DiLoCo(torch.nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="init_process_group first"):
        methods.Island(master)

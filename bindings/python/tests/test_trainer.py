"""Tests of the training methods for PyTorch."""

import signal
import threading
import time

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of training methods are skipped")

from training import seeded  # noqa: E402
from world import all_at_once, finish, script, world  # noqa: E402

import pccl  # noqa: E402
import pccl.torch as methods  # noqa: E402
from pccl import Communicator, DataType, PCCLError, QuantizationAlgorithm, QuantizationOptions, Result  # noqa: E402
from pccl.torch import OuterOptimizer  # noqa: E402

EVERY = [methods.DiLoCo, methods.AsyncDiLoCo, methods.EagerDiLoCo, methods.StreamingDiLoCo, methods.CO2]


def model_of(seed, dtype=torch.float32):
    with seeded(seed):
        return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).to(dtype)


def inner_step(model, optimizer, peer, step):
    generator = torch.Generator().manual_seed(1000 * peer + step)
    dtype = next(model.parameters()).dtype
    x = torch.randn(4, 6, generator=generator).to(dtype)
    y = torch.randn(4, 3, generator=generator).to(dtype)
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()


def train_together(master, kind, peers=2, steps=30, seed_of=lambda peer: 0, dtype=torch.float32, make=None, **settings):
    """Trains `peers` models with one method. Returns the models and the last status of each."""
    models = [(make or model_of)(seed_of(peer), dtype) for peer in range(peers)]
    trainers = [
        kind(model, communicator=Communicator(master), sync_every=5, min_peers=peers, **settings) for model in models
    ]

    def live(peer):
        model, trainer = models[peer], trainers[peer]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with trainer:
            for step in range(steps):
                inner_step(model, optimizer, peer, step)
                trainer.step()
            status = trainer.finish()
        trainer.communicator.close()
        return status

    statuses = all_at_once(*[lambda peer=peer: live(peer) for peer in range(peers)])
    return models, statuses


def values(model):
    return torch.cat([p.detach().float().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("nesterov", [False, True])
def test_diloco_equals_its_definition_bit_for_bit(master, nesterov):
    settings = {"outer_lr": 0.7, "outer_momentum": 0.9 if nesterov else 0.0}
    optimizer = OuterOptimizer.NESTEROV if nesterov else OuterOptimizer.SGD
    models, _ = train_together(master, methods.DiLoCo, outer_optimizer=optimizer, **settings)

    copies = [model_of(0) for _ in range(2)]
    inner = [torch.optim.SGD(copy.parameters(), lr=0.1, momentum=0.9) for copy in copies]
    theta = [p.detach().clone() for p in copies[0].parameters()]
    velocity = [torch.zeros_like(p) for p in theta]
    for round_ in range(6):
        for peer in range(2):
            for step in range(5 * round_, 5 * round_ + 5):
                inner_step(copies[peer], inner[peer], peer, step)
        for t, v, a, b in zip(theta, velocity, copies[0].parameters(), copies[1].parameters()):
            gradient = ((t - a.detach()) + (t - b.detach())) / 2
            if nesterov:
                v.mul_(0.9).add_(gradient)
                t.sub_((gradient + v * 0.9) * 0.7)
            else:
                t.sub_(gradient * 0.7)
            with torch.no_grad():
                a.copy_(t)
                b.copy_(t)
    for model in models:
        assert all(torch.equal(p, t) for p, t in zip(model.parameters(), theta))


def test_diloco_at_rate_one_is_federated_averaging(master):
    models, _ = train_together(
        master, methods.DiLoCo, steps=5, outer_optimizer=OuterOptimizer.SGD, outer_lr=1.0, outer_momentum=0.0
    )
    copies = [model_of(0) for _ in range(2)]
    for peer, copy in enumerate(copies):
        optimizer = torch.optim.SGD(copy.parameters(), lr=0.1, momentum=0.9)
        for step in range(5):
            inner_step(copy, optimizer, peer, step)
    mean = (values(copies[0]) + values(copies[1])) / 2
    torch.testing.assert_close(values(models[0]), mean, rtol=1e-6, atol=1e-7)


def test_one_peer_without_momentum_is_lookahead(master):
    models, _ = train_together(
        master, methods.DiLoCo, peers=1, outer_optimizer=OuterOptimizer.SGD, outer_lr=0.5, outer_momentum=0.0
    )
    fast = model_of(0)
    optimizer = torch.optim.SGD(fast.parameters(), lr=0.1, momentum=0.9)
    slow = values(fast)
    for step in range(30):
        inner_step(fast, optimizer, 0, step)
        if step % 5 == 4:
            slow = slow + 0.5 * (values(fast) - slow)
            torch.nn.utils.vector_to_parameters(slow.clone(), fast.parameters())
    torch.testing.assert_close(values(models[0]), slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_method_ends_with_the_same_bits_at_all_peers(master, kind):
    models, statuses = train_together(master, kind, peers=3, seed_of=lambda peer: peer, outer_lr=0.3)
    assert all(torch.equal(values(model), values(models[0])) for model in models)
    assert len({status.digest for status in statuses}) == 1
    assert statuses[0].outer_steps >= 5 and statuses[0].inner_steps == 30 and statuses[0].world_size <= 3
    assert not any(status.diverged for status in statuses)
    assert statuses[0].tx_bytes > 0


@pytest.mark.parametrize("kind", [methods.Gossip, methods.PushSum], ids=lambda kind: kind.__name__)
def test_gossip_sends_models_to_neighbours(master, kind):
    models, statuses = train_together(
        master, kind, peers=3, steps=60, seed_of=lambda peer: peer, graph=methods.Graph.RING, merge=methods.Merge.SYNCHRONOUS, exchange_wait_s=2
    )
    assert all(torch.isfinite(values(model)).all() for model in models)
    assert not torch.equal(values(models[0]), values(models[1]))
    assert all(status.outer_steps >= 5 and status.inner_steps >= 60 for status in statuses)
    model_bytes = 4 * values(models[0]).numel()
    assert all(status.tx_bytes >= 5 * model_bytes and status.rx_bytes >= 5 * model_bytes for status in statuses)


def test_settings_reach_the_library(master):
    settings = {
        "quantization": QuantizationOptions(DataType.INT8, QuantizationAlgorithm.BLOCK_SCALE), "error_feedback": True, "sharded": False,
    }
    models, statuses = train_together(master, methods.DiLoCo, **settings)
    plain, plain_statuses = train_together(master, methods.DiLoCo)
    assert torch.equal(values(models[0]), values(models[1]))
    assert not torch.equal(values(models[0]), values(plain[0]))
    torch.testing.assert_close(values(models[0]), values(plain[0]), rtol=0.1, atol=0.05)
    assert train_together(master, methods.DiLoCo, on_peer_loss="repair")[1][0].outer_steps == 6
    assert train_together(master, methods.CO2, sharded=True, outer_lr=0.3)[1][0].outer_steps == 6
    with pytest.raises(TypeError, match="unexpected keyword argument .sync_evry"):
        methods.DiLoCo(model_of(0), communicator=Communicator(master), sync_evry=7)
    with pytest.raises(ValueError, match="on_peer_loss"):
        methods.DiLoCo(model_of(0), communicator=Communicator(master), on_peer_loss="forgive")
    with pytest.raises(PCCLError, match="`sync_every` is 0"):
        methods.DiLoCo(model_of(0), communicator=Communicator(master), sync_every=0)


def test_untrainable_parameters_are_refused(master):
    with pytest.raises(ValueError, match="nothing to train"):
        methods.DiLoCo([], communicator=Communicator(master))
    frozen = model_of(0).requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        methods.DiLoCo(frozen, communicator=Communicator(master))
    with pytest.raises(PCCLError, match="not of pcclFloat") as caught:
        methods.DiLoCo(model_of(0, torch.float64), communicator=Communicator(master))
    assert caught.value.result == Result.INVALID_ARGUMENT
    trainer = methods.DiLoCo(model_of(0), communicator=Communicator(master))
    with pytest.raises(PCCLError, match="pcclTrainerJoin"):
        trainer.step()


def test_bfloat16_and_non_contiguous_tensors_are_trained(master):
    models, _ = train_together(master, methods.DiLoCo, dtype=torch.bfloat16)
    assert torch.equal(values(models[0]), values(models[1]))

    def transposed(seed, dtype):
        model = model_of(seed, dtype)
        model[0].weight = torch.nn.Parameter(torch.empty(6, 8, dtype=dtype).t().copy_(model[0].weight.detach()))
        assert not model[0].weight.is_contiguous()
        return model

    odd, _ = train_together(master, methods.DiLoCo, make=transposed)
    even, _ = train_together(master, methods.DiLoCo)
    assert torch.equal(values(odd[0]), values(odd[1]))
    torch.testing.assert_close(values(odd[0]), values(even[0]), rtol=1e-4, atol=1e-5)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 6, bias=False)
        self.second = torch.nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.norm = torch.nn.BatchNorm1d(6)
        self.last = torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.norm(self.second(self.first(x))))


def test_tied_weights_count_once_and_buffers_reach_newcomers(master):
    first = Tied()
    trainer = methods.DiLoCo(first, communicator=Communicator(master), sync_every=2)
    assert "5 tensors" in repr(trainer)
    stop = threading.Event()

    def live():
        optimizer = torch.optim.SGD(first.parameters(), lr=0.05)
        with trainer:
            step = 0
            while not stop.is_set():
                inner_step(first, optimizer, 0, step)
                trainer.step()
                step += 1
                time.sleep(0.001)

    thread = threading.Thread(target=live)
    thread.start()
    time.sleep(0.2)
    second = Tied()
    newcomer = methods.DiLoCo(second, communicator=Communicator(master), sync_every=2)
    newcomer.join()
    assert second.norm.num_batches_tracked > 0
    assert second.norm.running_mean.abs().sum() > 0
    assert second.second.weight is second.first.weight
    newcomer.close()
    newcomer.communicator.close()
    stop.set()
    thread.join()
    trainer.communicator.close()


def test_attached_optimizer_makes_the_steps(master):
    model = model_of(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with Communicator(master) as communicator, methods.DiLoCo(model, communicator=communicator, sync_every=4) as trainer:
        hook = trainer.attach(optimizer)
        for step in range(9):
            inner_step(model, optimizer, 0, step)
        assert trainer.status.inner_steps == 9 and trainer.status.outer_steps == 2
        hook.remove()
        inner_step(model, optimizer, 0, 9)
        assert trainer.status.inner_steps == 9


def test_training_continues_from_checkpoint_and_state_dict(master, tmp_path):
    whole, _ = train_together(master, methods.DiLoCo, peers=1, steps=20)

    def part(first, last, model, load=None):
        with Communicator(master) as communicator:
            trainer = methods.DiLoCo(model, communicator=communicator, sync_every=5)
            if load is not None:
                load(trainer)
            trainer.join()
            optimizer = part.optimizer if load is not None else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            part.optimizer = optimizer
            for step in range(first, last):
                inner_step(model, optimizer, 0, step)
                trainer.step()
            trainer.save(tmp_path / "state")
            state = trainer.state_dict()
            trainer.close()
            return state

    for way in ("file", "dict"):
        model = model_of(0)
        state = part(0, 10, model)
        torch.nn.utils.vector_to_parameters(torch.zeros_like(values(model)), model.parameters())
        part(10, 20, model, (lambda t: t.load(tmp_path / "state")) if way == "file" else (lambda t, s=state: t.load_state_dict(s)))
        assert torch.equal(values(model), values(whole[0]))
    (tmp_path / "state").write_bytes(b"nonsense")
    with pytest.raises(PCCLError, match="not a checkpoint"):
        methods.DiLoCo(model_of(0), communicator=Communicator(master)).load(tmp_path / "state")


def test_outer_parameters_are_copies(master):
    model = model_of(0)
    trainer = methods.DiLoCo(model, communicator=Communicator(master))
    outer = trainer.outer_parameters()
    assert list(outer) == [name for name, _ in model.named_parameters()]
    assert torch.equal(outer["0.weight"], model[0].weight)
    outer["0.weight"].zero_()
    assert model[0].weight.abs().sum() > 0
    trainer.close()
    assert repr(trainer) == "DiLoCo(closed)"
    with pytest.raises(PCCLError, match="closed"):
        trainer.status  # noqa: B018


def test_gradients_are_averaged_in_buckets(master):
    with world(master, 2) as members:
        models = [model_of(0), model_of(1)]
        for i, model in enumerate(models):
            for p in model.parameters():
                p.grad = torch.full_like(p, float(i + 1))
        models[1][2].bias.grad = None  # a missing gradient counts as zero
        all_at_once(*[
            lambda m=m, model=model: methods.all_reduce_gradients(model.parameters(), m, bucket_bytes=64) for m, model in zip(members, models)
        ])
        for model in models:
            assert all(torch.all(p.grad == 1.5) for name, p in model.named_parameters() if name != "2.bias")
            assert torch.all(model[2].bias.grad == 0.5)


def test_unflatten_reverses_flatten():
    tensors = [torch.randn(3, 4), torch.randn(5, dtype=torch.float64), torch.randn(2, 3).t()]
    row = methods.flatten(tensors)
    assert row.shape == (23,)
    copies = [torch.zeros_like(t) for t in tensors]
    methods.unflatten(row, copies)
    assert all(torch.allclose(a, b.to(a.dtype)) for a, b in zip(tensors, copies))
    with pytest.raises(ValueError):
        methods.unflatten(row[1:], copies)
    with pytest.raises(ValueError):
        methods.flatten(tensors, row[1:])


SCRIPT = """
    import os, sys, time, torch, pccl, pccl.torch
    master, kind, seed, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

    def goes_on(steps):  # true until the step in the file; always true while there is no file
        return not os.path.exists(last) or steps < int(open(last).read())

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = torch.nn.Linear(20, 5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    communicator = pccl.Communicator(master)
    with getattr(pccl.torch, kind)(model, communicator=communicator, sync_every=5, outer_lr=0.3) as trainer:
        print("joined", flush=True)
        while goes_on(trainer.status.inner_steps):
            optimizer.zero_grad()
            model(torch.randn(8, 20)).square().mean().backward()
            optimizer.step()
            status = trainer.step()
            time.sleep(0.002)
            if status.outer_step:
                print("outer", status.outer_steps, status.digest, status.world_size, status.inner_steps, flush=True)
        trainer.finish()
        print("end", sum(p.detach().double().sum().item() for p in model.parameters()).hex(), flush=True)
    communicator.close()
"""


@pytest.mark.parametrize("kind", ["DiLoCo", "AsyncDiLoCo", "StreamingDiLoCo"])
def test_models_stay_equal_when_processes_are_killed_and_join(master, kind, tmp_path):
    def start(seed):
        return script(SCRIPT, master, kind, seed, tmp_path / "last")

    def await_line(process, wanted):
        for line in process.stdout:
            if wanted(line.split()):
                return line.split()
        raise AssertionError("the peer ended: " + process.stderr.read())

    peers = [start(1), start(2), start(3)]
    await_line(peers[0], lambda words: words[0] == "outer" and words[3] == "3")
    peers[1].kill()
    await_line(peers[0], lambda words: words[0] == "outer" and words[3] == "2")
    peers[1].communicate()
    peers[1] = start(4)
    now = await_line(peers[0], lambda words: words[0] == "outer" and words[3] == "3")
    (tmp_path / "next").write_text(str(int(now[4]) + 500))  # more steps than one peer can be ahead of another
    (tmp_path / "next").rename(tmp_path / "last")
    outputs = [finish(peer)[0] for peer in peers]
    ends = {line.split()[1] for out in outputs for line in out.splitlines() if line.startswith("end")}
    assert len(ends) == 1
    digests = {}
    for out in outputs:
        for line in out.splitlines():
            if line.startswith("outer"):
                _, step, digest, _, _ = line.split()
                assert digests.setdefault(step, digest) == digest


def test_ctrl_c_ends_a_step_that_waits(master):
    process = script(
        """
        import sys, torch, pccl, pccl.torch
        model = torch.nn.Linear(4, 4)
        trainer = pccl.torch.DiLoCo(model, communicator=pccl.Communicator(sys.argv[1]), sync_every=1, min_peers=2)
        print("waits", flush=True)
        try:
            trainer.join()  # no other peer joins
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        master,
    )
    assert process.stdout.readline() == "waits\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert "interrupted" in finish(process)[0]


def spoil(model, value=float("nan")):
    with torch.no_grad():
        next(model.parameters()).view(-1)[2] = value


def train_with_one_bad_peer(master, kind, bad_steps, steps=30, peers=2, **settings):
    """Trains with a peer 1 whose model is not finite after the inner steps `bad_steps`.

    Returns the models, and for each peer all statuses and the error that ended it, or None.
    """
    models = [model_of(0) for _ in range(peers)]
    trainers = [kind(model, communicator=Communicator(master), sync_every=5, min_peers=peers, **settings) for model in models]

    def live(peer):
        seen = []
        with trainers[peer] as trainer:
            optimizer = torch.optim.SGD(models[peer].parameters(), lr=0.1, momentum=0.9)
            for step in range(steps):
                inner_step(models[peer], optimizer, peer, step)
                if peer == 1 and step in bad_steps:
                    spoil(models[peer])
                try:
                    seen.append(trainer.step())
                except PCCLError as error:
                    trainer.communicator.close()
                    return seen, error
                if seen[-1].state_received or seen[-1].left_out:
                    optimizer.state.clear()
            seen.append(trainer.finish())
        trainer.communicator.close()
        return seen, None

    return models, all_at_once(*[lambda peer=peer: live(peer) for peer in range(peers)])


@pytest.mark.parametrize("kind", EVERY)
def test_non_finite_contribution_is_left_out_and_named(master, kind):
    # A round ends at step 14, and no fragment is merged before the next one begins.
    models, lives = train_with_one_bad_peer(master, kind, {14})
    assert all(error is None for _, error in lives)
    assert all(torch.isfinite(values(model)).all() for model in models)
    assert torch.equal(values(models[0]), values(models[1]))
    for seen, _ in lives:
        assert any(status.non_finite for status in seen)
        assert not any(status.diverged for status in seen)
        last = seen[-1]
        assert last.non_finite_rounds >= 1
        assert "0.weight" in {status.non_finite_tensor for status in seen}
        assert last.non_finite_peer == lives[0][0][-1].non_finite_peer != 0
    assert any(status.left_out for status in lives[1][0])
    assert not any(status.left_out for status in lives[0][0])


@pytest.mark.parametrize("kind", [methods.Gossip, methods.PushSum])
def test_non_finite_model_is_replaced_by_neighbours(master, kind):
    models, lives = train_with_one_bad_peer(master, kind, {12}, merge=methods.Merge.SYNCHRONOUS)
    assert all(error is None for _, error in lives)
    assert all(torch.isfinite(values(model)).all() for model in models)
    for seen, _ in lives:
        assert seen[-1].non_finite_rounds == 1
        assert seen[-1].non_finite_tensor == "0.weight"
        assert seen[-1].non_finite_peer != 0
    assert any(status.left_out for status in lives[1][0])


def test_non_finite_contribution_fails_all_peers_on_request(master):
    models, lives = train_with_one_bad_peer(master, methods.DiLoCo, {14}, non_finite="fail")
    for seen, error in lives:
        assert error is not None and error.result == Result.INVALID_ARGUMENT
        assert "'0.weight' (element 2)" in str(error)
        assert len(seen) == 14
    with pytest.raises(ValueError, match="non_finite"):
        methods.Local(model_of(0), non_finite="ignore")


def test_peer_without_finite_rounds_receives_the_state(master):
    models, lives = train_with_one_bad_peer(master, methods.DiLoCo, set(range(4, 20)))
    assert all(error is None for _, error in lives)
    assert [sum(status.state_received for status in seen) for seen, _ in lives] == [0, 1]
    assert torch.equal(values(models[0]), values(models[1]))
    assert torch.isfinite(values(models[0])).all()


def test_peer_that_flushes_denormals_stays_bit_identical(master):
    def make(seed, dtype):
        model = torch.nn.Linear(64, 4, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.linspace(1e-38, 3e-38, 256).view(4, 64))
        return model

    models = [make(0, None) for _ in range(2)]
    trainers = [methods.DiLoCo(model, communicator=Communicator(master), sync_every=5, min_peers=2) for model in models]

    def live(peer):
        if peer == 1 and not torch.set_flush_denormal(True):
            pytest.skip("this processor cannot flush denormals")
        diverged = 0
        try:
            with trainers[peer] as trainer:
                for _ in range(50):
                    with torch.no_grad():
                        models[peer].weight.mul_(0.7)
                    diverged += trainer.step().diverged
                trainer.finish()
                return diverged
        finally:
            torch.set_flush_denormal(False)
            trainers[peer].communicator.close()

    assert all_at_once(*[lambda peer=peer: live(peer) for peer in range(2)]) == [0, 0]
    assert torch.equal(models[0].weight, models[1].weight)

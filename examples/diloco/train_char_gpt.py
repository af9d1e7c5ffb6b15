#!/usr/bin/env python3
"""Trains a small GPT over characters with DiLoCo or a related method, together with any number of peers, which can join and leave at any time.

A peer is one process, or with --fsdp an island of several that share one copy of the model (start it with torchrun):

    pccl-master --listen 0.0.0.0:48148
    python3 train_char_gpt.py --master host:48148 --shard 1/4
    torchrun --nproc-per-node 2 train_char_gpt.py --master host:48148 --shard 2/4 --fsdp      # all peers of a run must be islands then

All peers of a run need the same method, settings and model, and each trains on its own part of the text. Peers can be killed and restarted.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

import plot
import pccl
import pccl.torch
from char_gpt import FORTUNES, CharGpt, TextError, batch_of, deal, loss_of, read_text, sample, validate

METHODS = {
    "diloco": pccl.torch.DiLoCo, "async": pccl.torch.AsyncDiLoCo, "eager": pccl.torch.EagerDiLoCo, "streaming": pccl.torch.StreamingDiLoCo,
    "co2": pccl.torch.CO2, "local": pccl.torch.Local,
}  # fmt: skip


class Silent:
    """No progress is shown."""

    def update(self, words, inner_steps):
        pass

    def close(self):
        pass


class Lines(Silent):
    """Prints a line per outer step, if there is no terminal or the package rich is missing."""

    def update(self, words, inner_steps):
        print(words, flush=True)


class Bar(Silent):
    """A progress bar on a terminal."""

    def __init__(self, steps, done):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self.task = self.bar.add_task("joined", total=steps, completed=done)
        self.bar.start()

    def update(self, words, inner_steps):
        self.bar.update(self.task, description=words, completed=inner_steps)

    def close(self):
        self.bar.stop()


def progress_of(options, rank, done):
    if options.report or rank != 0:
        return Silent()
    if sys.stdout.isatty():
        with contextlib.suppress(ImportError):
            return Bar(options.steps, done)
    return Lines()


class Report:
    """Events as JSON lines for programs, and the data for the plot."""

    def __init__(self, options, rank):
        self.file = sys.stdout if options.report == "-" and rank == 0 else None
        self.started = time.monotonic()
        self.rows = []

    def say(self, event, **fields):
        if event == "step":
            self.rows.append({"time_s": time.monotonic() - self.started, **fields})
        if self.file:
            print(json.dumps({"event": event, **fields}), file=self.file, flush=True)

    def draw(self, path):
        times = [row["time_s"] for row in self.rows]
        panels = [plot.loss_panel([row["loss"] for row in self.rows]), plot.loss_panel([row["validation"] for row in self.rows], "validation loss", plot.ACCURACY)]
        path.write_text(plot.render("A character GPT, as one peer saw it", times, panels, [row["world"] for row in self.rows], []))


class Peer:
    """One process, with its part of the model and of the text, and its membership in the run."""

    def __init__(self, options):
        self.options = options
        self.rank, self.size = 0, 1
        mesh = None
        if options.fsdp:
            if options.rendezvous is None and "RANK" not in os.environ:
                raise SystemExit("--fsdp: the number of processes is not known. Start this program with torchrun, or set --rendezvous, --rank and --world-size")
            dist.init_process_group("gloo", init_method=options.rendezvous, rank=options.rank, world_size=options.world_size)
            self.rank, self.size = dist.get_rank(), dist.get_world_size()
            mesh = mesh_of(self.size, options.replicas)
        text = read_text(options.text)
        self.training, self.validation = deal(text, *options.shard)
        torch.manual_seed(options.seed)
        self.model = CharGpt(options.layers, options.heads, options.width, options.length)
        if options.fsdp:
            shard(self.model, mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.lr, betas=(0.9, 0.95), weight_decay=0.1)
        self.report = Report(options, self.rank)
        self.life = contextlib.ExitStack()
        self.trainer = self.life.enter_context(contextlib.closing(self.make_trainer(mesh)))

    def make_trainer(self, mesh):
        options = self.options
        settings = {"sync_every": options.sync_every, "outer_lr": options.outer_lr, "outer_momentum": options.outer_momentum, "min_peers": options.min_peers}
        if options.method == "local":
            return pccl.torch.Local(self.model)
        if options.fsdp:
            place = {"island": self.life.enter_context(pccl.torch.Island(options.master, mesh=mesh))}
        else:
            place = {"communicator": self.life.enter_context(pccl.Communicator(options.master))}
        if options.quantize:
            place["quantization"] = pccl.QuantizationOptions(getattr(pccl.DataType, options.quantize.upper()), pccl.QuantizationAlgorithm.BLOCK_SCALE)
        return METHODS[options.method](self.model, **settings, **place)

    def learning_rate(self, step, mine):
        """The learning rate: a cosine over the run's steps, with a warmup for newcomers, whose optimizer state is empty."""
        options = self.options
        far = min(step / options.steps, 1.0)
        return options.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * far))) * min(1.0, (mine + 1) / options.warmup)

    def train(self):
        options, trainer = self.options, self.trainer
        if options.resume:
            self.load()
        trainer.join()
        status = trainer.status
        self.report.say("joined", step=status.outer_steps)
        progress = progress_of(options, self.rank, status.inner_steps)
        generator = torch.Generator().manual_seed(1_000_003 * options.seed + 1009 * options.shard[0] + 31 * self.rank + status.inner_steps)
        losses, mine, began = [], 0, time.monotonic()
        try:
            while status.inner_steps < options.steps:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.learning_rate(status.inner_steps, mine)
                x, y = batch_of(self.training, options.batch, options.length, generator)
                self.optimizer.zero_grad()
                loss = loss_of(self.model, x, y)
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
                blocked, sent = status.blocked_s, status.tx_bytes
                status = trainer.step()
                mine += 1
                if status.outer_step or (options.method == "local" and mine % options.sync_every == 0):
                    now = time.monotonic()
                    self.outer_step(status, progress, losses, now - began, status.blocked_s - blocked, status.tx_bytes - sent)
                    losses, began = [], time.monotonic()
            status = trainer.finish()
        finally:
            progress.close()
        self.conclude(status)

    def outer_step(self, status, progress, losses, seconds, waited, sent):
        options = self.options
        # All processes of an island validate together, and all make the same decision.
        validation = validate(self.model, self.validation, options.length, 64)
        loss = sum(losses) / len(losses)
        number = status.outer_steps or status.inner_steps // options.sync_every
        progress.update(
            f"outer step {number}: loss {loss:.3f}, validation {validation:.3f}, {max(status.world_size, 1)} peers, "
            f"{len(losses) * self.tokens() / seconds:,.0f} characters/s", status.inner_steps,
        )  # fmt: skip
        self.report.say(
            "step", step=number, inner=status.inner_steps, world=max(status.world_size, 1), loss=loss, validation=validation, mb=sent / 1e6,
            comm_s=waited, compute_s=seconds - waited, digest=status.digest,
        )  # fmt: skip
        if options.checkpoint and number % options.checkpoint_every == 0:
            self.save()

    def tokens(self):
        """The number of characters in a step of this peer."""
        return self.options.batch * self.options.length * self.size

    def conclude(self, status):
        options = self.options
        loss = validate(self.model, self.validation, options.length, max(64, len(self.validation) // options.length))
        values = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in self.model.parameters()]
        digest = hashlib.sha256(b"".join(value.detach().numpy().tobytes() for value in values)).hexdigest()[:16]
        if options.checkpoint:
            self.save()
        if self.rank == 0 and not options.report:
            print(f"validation loss {loss:.4f} nats per character after {status.inner_steps} steps; parameters {digest}")
        if options.sample and not options.fsdp:
            print(sample(self.model, options.length, options.sample, options.seed))
        if options.plot and self.rank == 0:
            self.report.draw(options.plot)
        self.report.say(
            "done", step=status.outer_steps, inner=status.inner_steps, world=status.contributors, validation=loss, hash=digest, identical=not status.diverged
        )

    # ------------------------------------------------------------------------------------------------------- checkpoints --

    def save(self):
        """Saves the trainer's outer state, and the inner optimizer's state of the same step next to it."""
        options = self.options
        self.trainer.save(options.checkpoint)
        folder, new = Path(f"{options.checkpoint}.inner"), Path(f"{options.checkpoint}.inner.new")
        dcp.save(get_optimizer_state_dict(self.model, self.optimizer), checkpoint_id=new, no_dist=not options.fsdp)
        if self.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
        if options.fsdp:
            dist.barrier()

    def load(self):
        options = self.options
        self.trainer.load(options.checkpoint)
        state = get_optimizer_state_dict(self.model, self.optimizer)
        dcp.load(state, checkpoint_id=f"{options.checkpoint}.inner", no_dist=not options.fsdp)
        set_optimizer_state_dict(self.model, self.optimizer, optim_state_dict=state)

    def run(self):
        with self.life:
            self.train()
        if self.options.fsdp:
            dist.destroy_process_group()


def mesh_of(size, replicas):
    from torch.distributed.device_mesh import init_device_mesh

    if size % replicas != 0:
        raise SystemExit(f"--replicas {replicas} does not divide the {size} processes of the island")
    if replicas == 1:
        return init_device_mesh("cpu", (size,), mesh_dim_names=("shard",))
    return init_device_mesh("cpu", (replicas, size // replicas), mesh_dim_names=("replicate", "shard"))


def shard(model, mesh):
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def part(words):
    """Parses "2/4" as (1, 4)."""
    try:
        number, count = (int(word) for word in words.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{words!r} is not NUMBER/COUNT") from None
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{words!r}: the number is 1 to the count")
    return number - 1, count


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--master", default="127.0.0.1:48148", help="address of the run's master (default: %(default)s)")
    add("--text", type=Path, default=FORTUNES, help="a text file, or a folder of text files (default: %(default)s)")
    add("--shard", type=part, default=(0, 1), metavar="I/N", help="the part of the text to train on (default: 1/1, all of it)")
    add("--method", choices=METHODS, default="diloco", help="training method; local: no communication (default: %(default)s)")
    add("--steps", type=int, default=3000, help="inner steps of the run (default: %(default)s)")
    add("--sync-every", type=int, default=50, help="inner steps per outer step (default: %(default)s)")
    add("--outer-lr", type=float, help="learning rate of the outer optimizer (default: the method's)")
    add("--outer-momentum", type=float, help="momentum of the outer optimizer (default: the method's)")
    add("--min-peers", type=int, default=1, help="number of peers to wait for (default: %(default)s)")
    add("--quantize", choices=["int8", "int4", "uint4", "uint2"], help="quantization of averages on the wire")
    add("--batch", type=int, default=16, help="windows per step and process (default: %(default)s)")
    add("--length", type=int, default=64, help="characters in a window (default: %(default)s)")
    add("--layers", type=int, default=2, help="(default: %(default)s)")
    add("--heads", type=int, default=4, help="(default: %(default)s)")
    add("--width", type=int, default=64, help="(default: %(default)s)")
    add("--lr", type=float, default=3e-3, help="highest learning rate of the inner AdamW, which falls along a cosine (default: %(default)s)")
    add("--warmup", type=int, default=30, help="steps in which a peer's learning rate rises (default: %(default)s)")
    add("--seed", type=int, default=1, help="(default: %(default)s)")
    add("--checkpoint", type=Path, help="write the state to this file and the folder FILE.inner; an island writes a file per part")
    add("--checkpoint-every", type=int, default=10, help="outer steps between two checkpoints (default: %(default)s)")
    add("--resume", action="store_true", help="begin with the state of --checkpoint; the state of a run with members has precedence")
    add("--plot", type=Path, help="draw losses and the number of peers into this SVG file at the end")
    add("--sample", type=int, default=0, help="number of characters to generate and print at the end (default: 0)")
    add("--report", choices=["-"], help="JSON lines on standard output instead of progress")
    add("--threads", type=int, default=1, help="PyTorch threads per process (default: %(default)s)")
    add("--fsdp", action="store_true", help="this is a process of an island, whose processes share one copy of the model (FSDP2)")
    add("--replicas", type=int, default=1, help="with --fsdp: copies of the model in the island (HSDP) (default: %(default)s)")
    add("--rendezvous", help="with --fsdp, without torchrun: the rendezvous address of the island's processes, for example file:///tmp/island")
    add("--rank", type=int, default=-1, help="with --rendezvous: rank of this process")
    add("--world-size", type=int, default=-1, help="with --rendezvous: number of processes of the island")
    options = parser.parse_args()
    if options.resume and not options.checkpoint:
        parser.error("--resume needs --checkpoint")
    return options


def main():
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        Peer(options).run()
    except KeyboardInterrupt:
        print("stopped; the other peers continue", file=sys.stderr)
        return 130
    except (TextError, pccl.PCCLError, pccl.torch.IslandError) as error:
        return give_up(options, error)
    except RuntimeError as error:  # torch.distributed raises it when a process of the island was lost
        if not options.fsdp:
            raise
        return give_up(options, error)
    return 0


def give_up(options, error):
    print(f"train_char_gpt: {error}", file=sys.stderr, flush=True)
    if options.fsdp:
        os._exit(1)  # the destructors of torch.distributed may wait for the lost process
    return 1


if __name__ == "__main__":
    sys.exit(main())

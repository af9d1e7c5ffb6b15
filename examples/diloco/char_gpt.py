"""A small GPT over characters, and the text that it learns: what train_char_gpt.py trains."""

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

# The same at all peers, whatever text they have: printable ASCII and the newline. Other characters are left out.
ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))
PIECE = 8192  # characters; every 20th piece is for validation, the others are dealt to the shards
FORTUNES = Path("/usr/share/games/fortunes")  # of the Debian package fortunes


class TextError(Exception):
    """The text cannot be used; the words say why and what to do."""


def read_text(path):
    """All of a file, or of the text files in a folder, as a tensor of character numbers."""
    path = Path(path)
    if not path.exists():
        raise TextError(f"there is no {path}: install the Debian package fortunes, or give another text with --text")
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file() and not f.is_symlink() and f.suffix != ".dat")
    number = {ord(character): i for i, character in enumerate(ALPHABET)}
    known = [number[byte] for file in files for byte in file.read_bytes() if byte in number]
    if len(known) < 40 * PIECE:
        raise TextError(f"{path} has {len(known)} characters, and {40 * PIECE} are needed: give a longer text with --text")
    return torch.tensor(known, dtype=torch.uint8)


def deal(text, shard, shards):
    """(training text of a shard, validation text), the latter the same for all."""
    pieces = text.split(PIECE)
    validation = [piece for i, piece in enumerate(pieces) if i % 20 == 10]
    training = [piece for i, piece in enumerate(pieces) if i % 20 != 10]
    return torch.cat(training[shard::shards]), torch.cat(validation)


def batch_of(text, count, length, generator):
    """`count` windows from anywhere: what is read, and what is to be foretold."""
    starts = torch.randint(len(text) - length - 1, (count, 1), generator=generator)
    windows = text[starts + torch.arange(length + 1)].long()
    return windows[:, :-1], windows[:, 1:]


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        query, key, value = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in self.attend(self.before(x)).split(width, dim=2)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.narrow(functional.gelu(self.widen(self.between(x))))


class CharGpt(nn.Module):
    def __init__(self, layers, heads, width, length):
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), width)
        self.places = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.last = nn.LayerNorm(width)
        self.guess = nn.Linear(width, len(ALPHABET))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                deep = name.endswith(("project.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if deep else 0.02)

    def forward(self, x):
        x = self.characters(x) + self.places(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            x = block(x)
        return self.guess(self.last(x))


def loss_of(model, x, y):
    """Nats per character."""
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


@torch.no_grad()
def validate(model, text, length, windows):
    """Loss over `windows` windows that are spread evenly over the text: the same ones every time."""
    starts = torch.linspace(0, len(text) - length - 2, windows).long().unsqueeze(1)
    total = 0.0
    for part in starts.split(64):
        block = text[part + torch.arange(length + 1)].long()
        total += loss_of(model, block[:, :-1], block[:, 1:]).item() * len(part)
    return total / windows


@torch.no_grad()
def sample(model, length, count, seed):
    """`count` characters of what it has learned to write."""
    generator = torch.Generator().manual_seed(seed)
    line = [0]
    for _ in range(count):
        guess = model(torch.tensor([line[-length:]]))[0, -1].softmax(0)
        line.append(int(torch.multinomial(guess, 1, generator=generator)))
    return "".join(ALPHABET[i] for i in line[1:])

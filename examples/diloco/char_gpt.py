"""A small GPT over characters and its training text, for train_char_gpt.py."""

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

# The alphabet is equal at all peers and for every text: printable ASCII and the newline. Other characters are left out.
ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))
PIECE = 8192  # characters; every 20th piece is for validation, the others are distributed over the shards
FORTUNES = Path("/usr/share/games/fortunes")  # from the Debian package fortunes


class TextError(Exception):
    """The text cannot be used. The message contains the reason and the remedy."""


def read_text(path):
    """The content of a file, or of all text files in a folder, as a tensor of character numbers."""
    path = Path(path)
    if not path.exists():
        raise TextError(f"{path} does not exist. Install the Debian package fortunes, or choose another text with --text")
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file() and not f.is_symlink() and f.suffix != ".dat")
    number = {ord(character): i for i, character in enumerate(ALPHABET)}
    known = [number[byte] for file in files for byte in file.read_bytes() if byte in number]
    if len(known) < 40 * PIECE:
        raise TextError(f"{path} has {len(known)} characters, and {40 * PIECE} are needed. Choose a longer text with --text")
    return torch.tensor(known, dtype=torch.uint8)


def deal(text, shard, shards):
    """(training text of a shard, validation text). The validation text is the same for all shards."""
    pieces = text.split(PIECE)
    validation = [piece for i, piece in enumerate(pieces) if i % 20 == 10]
    training = [piece for i, piece in enumerate(pieces) if i % 20 != 10]
    return torch.cat(training[shard::shards]), torch.cat(validation)


def batch_of(text, count, length, generator):
    """`count` windows from random positions: the inputs, and the characters to predict."""
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
    """The loss in nats per character."""
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


@torch.no_grad()
def validate(model, text, length, windows):
    """The loss over `windows` windows at fixed positions, which are spread evenly over the text."""
    starts = torch.linspace(0, len(text) - length - 2, windows).long().unsqueeze(1)
    total = 0.0
    for part in starts.split(64):
        block = text[part + torch.arange(length + 1)].long()
        total += loss_of(model, block[:, :-1], block[:, 1:]).item() * len(part)
    return total / windows


@torch.no_grad()
def sample(model, length, count, seed):
    """`count` characters of generated text."""
    generator = torch.Generator().manual_seed(seed)
    line = [0]
    for _ in range(count):
        guess = model(torch.tensor([line[-length:]]))[0, -1].softmax(0)
        line.append(int(torch.multinomial(guess, 1, generator=generator)))
    return "".join(ALPHABET[i] for i in line[1:])

"""Packs the inputs of a fuzzer into one file, and unpacks them.

A pack is 8 bytes of magic, then each input as u32 length (little-endian) and bytes. replay.cc reads packs as they are.

Usage: corpus.py pack FOLDER FILE; corpus.py unpack FILE FOLDER
"""

import hashlib
import pathlib
import struct
import sys

MAGIC = b"PCCLfuz1"


def pack(folder, file):
    inputs = sorted((path.read_bytes() for path in pathlib.Path(folder).iterdir()), key=lambda data: (len(data), data))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(MAGIC + b"".join(struct.pack("<I", len(data)) + data for data in inputs))
    print(f"{file}: {len(inputs)} inputs, {file.stat().st_size} bytes")


def unpack(file, folder):
    folder.mkdir(parents=True, exist_ok=True)
    data = file.read_bytes()
    if data[:len(MAGIC)] != MAGIC:
        sys.exit(f"{file} is not a pack of inputs")
    at = len(MAGIC)
    while at < len(data):
        size, = struct.unpack_from("<I", data, at)
        one = data[at + 4:at + 4 + size]
        (folder / hashlib.sha1(one).hexdigest()).write_bytes(one)
        at += 4 + size


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("pack", "unpack"):
        sys.exit(__doc__)
    first, second = map(pathlib.Path, sys.argv[2:])
    pack(first, second) if sys.argv[1] == "pack" else unpack(first, second)


if __name__ == "__main__":
    main()

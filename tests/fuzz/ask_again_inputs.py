"""Writes the inputs of link_fuzz that reach each answer to the frame ask_again, one file each.

An input is a list of decisions, most of them one byte (input.h). The comments name the decision that each byte makes in link_fuzz.cc, so
that the inputs can be written again when the fuzzer asks for other decisions. corpus/link.pack contains them:

  corpus.py unpack corpus/link.pack FOLDER; ask_again_inputs.py FOLDER; corpus.py pack FOLDER corpus/link.pack

Usage: ask_again_inputs.py FOLDER
"""

import pathlib
import sys

EPOCH = [0,  # every two members have a link
         0]  # the ring keeps all three members: this peer, its successor 2, its predecessor 3
# Each remote lets all its bytes through. The two decisions have the same value, since C++ does not fix the order of arguments: 2 means
# remote 0 and "all bytes", 1 means remote 1 and "all bytes".
TO_2 = [4, 2, 2]
TO_3 = [4, 1, 1]
GREETED = EPOCH + TO_2 + TO_3

REDUCE, GATHER, DIRECT, POST = range(4)  # kinds that can be requested again, as in header_to_request()
OPEN_KIND = 2                            # op_open: a kind that cannot
SENT_BLOCK, OTHER_BLOCK = 2, 0           # of three; rank 0 of the ring begins with block 2


def start_op(algorithm):
    return [1,          # act: start_op
            2,          # 5000 floats, all 1
            0,          # tag 0
            0,          # operator sum
            algorithm,  # 1 ring, 2 direct, 3 one-hop
            0]          # not in place


END_OP = [0,  # act: local
          1,  # the first operation ends
          0]  # not committed


def ask(kind, block=SENT_BLOCK, *, other_bytes=False, short=False, cannot=False, ended=False):
    """A frame ask_again of member 2 with the header of a chunk, and its delivery."""
    asked = ([7, kind] if cannot else [0, kind]) + [
        0,  # epoch: the current one
        0,  # tag 0
        0]  # seq 0
    if ended:
        asked += [0, 0]  # no operation is left: a spec of its own, operator sum and algorithm auto
    else:
        asked += [1,  # of the operation in flight
                  1]  # with its spec
    asked += [0, block, 0]  # hop, block, chunk
    if ended:
        asked += [2]  # in a ring of three
    asked += [0]  # the payload has the length of the chunk
    asked += [3 if other_bytes else 0,  # the checksum is that of other bytes, of the bytes that were sent
              15 if short else 0]       # the header lacks a byte, is whole
    return [10, 0, 20, *asked,  # act: send_frame; remote 0; kind 20: ask_again
            0, 0,               # neither compressed nor damaged
            *TO_2]


def post_and_ask(granted):
    post = [0, 4,     # act: local; post
            0, 0,     # to member 2, tag 0
            0, 0, 64,  # 16 KiB more than travels with the offer, 32 KiB in all
            0]        # no deadline
    grant = [10, 0, 16,  # act: send_frame; remote 0; kind 16: post_grant
             1, 1,       # message 1
             0, 0, 0,    # tag, aux, no payload
             0, 0,       # neither compressed nor damaged
             *TO_2]
    asked = [10, 0, 20, 0, POST,
             1, 1,  # message 1
             0, 0,  # tag, chunk 0
             3, 0, 128,  # 32 KiB: the message is one chunk
             0, 0,  # the checksum of what a remote would send, which the message does not contain; a whole header
             0, 0, *TO_2]
    return post + (grant if granted else []) + asked


RING, DIRECT_EXCHANGE, ONE_HOP = 1, 2, 3
INPUTS = {
    "equal_copy_is_sent_again": start_op(RING) + ask(REDUCE),
    "modified_buffer_is_an_own_fault": start_op(RING) + ask(REDUCE, other_bytes=True),
    "modified_buffer_is_reported_once": start_op(RING) + ask(REDUCE, other_bytes=True) * 2,
    "chunk_that_was_not_sent": start_op(RING) + ask(REDUCE, OTHER_BLOCK),
    "final_chunk_that_was_not_sent": start_op(RING) + ask(GATHER),
    "direct_contribution_is_sent_again": start_op(DIRECT_EXCHANGE) + ask(DIRECT, 0),
    "one_hop_contribution_that_was_not_sent": start_op(ONE_HOP) + ask(REDUCE, 1),
    "kind_that_cannot_be_asked_for": start_op(RING) + ask(OPEN_KIND, cannot=True),
    "header_that_lacks_a_byte": start_op(RING) + ask(REDUCE, short=True),
    "operation_that_has_ended": start_op(RING) + END_OP + ask(REDUCE, ended=True),
    "path_that_damages_too_many_frames": start_op(RING) + ask(REDUCE) * 66,
    "modified_message_is_withdrawn": post_and_ask(granted=True),
    "message_that_was_not_sent": post_and_ask(granted=False),
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, decisions in INPUTS.items():
        (folder / name).write_bytes(bytes(GREETED + decisions))


if __name__ == "__main__":
    main()

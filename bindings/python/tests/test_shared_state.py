"""Tests of shared state between peers in this process."""

import numpy as np
import pytest
from world import admit, all_at_once, world

import pccl
from pccl import SharedState, SharedStateSyncStrategy, TensorInfo


def state_of(**tensors):
    return SharedState([TensorInfo.from_numpy(tensor, name) for name, tensor in tensors.items()])


def sync_all(members, states, strategies=None):
    strategies = strategies or [SharedStateSyncStrategy.ENFORCE_POPULAR] * len(members)
    return all_at_once(*[lambda m=m, s=s, how=how: m.sync_shared_state(s, how) for m, s, how in zip(members, states, strategies)])


def test_most_common_content_wins_and_a_newcomer_receives_it(master):
    with world(master, 3) as members:
        arrays = [np.full(1000, value, np.float32) for value in (1, 2, 1)]
        states = [state_of(w=a) for a in arrays]
        infos = sync_all(members, states)
        assert [a[999] for a in arrays] == [1, 1, 1]
        assert [info.rx_bytes for info in infos] == [0, 4000, 0]
        assert sum(info.tx_bytes for info in infos) == 4000
        for state in states:
            state.push_revision()
            assert state.revision == 1
        for a in arrays:
            a += 1
        assert all(info == pccl.SharedStateSyncInfo(0, 0) for info in sync_all(members, states))

        with pccl.Communicator(master) as newcomer:
            admit(members, newcomer)
            late = np.zeros(1000, np.float32)
            states.append(state_of(w=late))
            for state in states[:3]:
                state.push_revision()
            sync_all([*members, newcomer], states)
            assert states[3].revision == 2 and late[0] == 2


def test_send_only_peer_wins_over_receive_only_peer(master):
    with world(master, 2) as members:
        arrays = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
        sync_all(members, [state_of(w=a) for a in arrays], [SharedStateSyncStrategy.RECEIVE_ONLY, SharedStateSyncStrategy.SEND_ONLY])
        assert arrays[0].tolist() == [3, 4]
        with pytest.raises(pccl.PCCLError) as caught:
            sync_all(members, [state_of(w=a) for a in arrays], [SharedStateSyncStrategy.RECEIVE_ONLY] * 2)
        assert caught.value.result == pccl.Result.NO_SHARED_STATE_AVAILABLE


def test_unequal_content_is_accepted_if_allowed(master):
    with world(master, 2) as members:
        arrays = [np.array([1.0]), np.array([2.0])]
        infos = sync_all(members, [SharedState([TensorInfo.from_numpy(a, "seed", allow_content_inequality=True)]) for a in arrays])
        assert [a[0] for a in arrays] == [1, 2] and infos[0].tx_bytes == 0


def test_peer_with_other_tensors_is_removed_with_a_reason(master):
    with world(master, 3) as members:
        states = [state_of(w=np.zeros(4)), state_of(w=np.zeros(4)), state_of(w=np.zeros(5))]
        errors = []

        def run(member, state):
            try:
                member.sync_shared_state(state)
            except pccl.PCCLError as error:
                errors.append((member, error))

        all_at_once(*[lambda m=m, s=s: run(m, s) for m, s in zip(members, states)])
        [(member, error)] = errors
        assert member is members[2] and error.result == pccl.Result.INVALID_USAGE
        assert "w" in error.message
        assert members[0].are_peers_pending() is False
        admit(members[:2], member)


def test_moved_tensor_is_found_at_its_new_address(master):
    """TensorInfo keeps the tensor and reads its address at each synchronization."""
    info = TensorInfo(bytearray(4), "bytes")
    info.tensor = bytearray(b"abcd")
    with world(master, 2) as members:
        other = SharedState([TensorInfo(bytearray(b"wxyz"), "bytes")])
        strategies = [SharedStateSyncStrategy.SEND_ONLY, SharedStateSyncStrategy.RECEIVE_ONLY]
        sync_all(members, [SharedState([info]), other], strategies)
        assert bytes(other._infos[0].tensor) == b"abcd"


def test_tensor_info_refuses_unsuitable_tensors():
    locked = np.zeros(3)
    locked.flags.writeable = False
    for tensor in (np.zeros((3, 3)).T, locked, "text"):
        with pytest.raises((TypeError, ValueError), match="tensor 'w'"):
            TensorInfo.from_numpy(tensor, "w")

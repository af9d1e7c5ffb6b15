// The messages between peers and master. Each is a plain struct whose visit() lists its fields in wire order; its type code is
// its index in ToMaster or ToPeer. docs/internals/protocol.md describes each with its meaning.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include <pccl/status.h>

#include "base/address.h"
#include "base/ids.h"
#include "op/quantization.h"
#include "wire/codec.h"
#include "wire/graph.h"
#include "wire/limits.h"
#include "wire/repair.h"
#include "wire/tags.h"

namespace pccl::wire {

inline constexpr std::uint32_t kMagic = 0x4c434350;  // "PCCL"
inline constexpr std::uint16_t kVersion = 7;

/// The calls that need every member of the run or the group, one at a time per peer.
enum class Call : std::uint8_t { none = 0, connect, update_topology, optimize_topology, sync_shared_state, all_reduce };
const char *name_of(Call call);  ///< the name of its function in the C API

/// The share of a program's calling threads that do nothing but wait for operations.
enum class Blocked : std::uint8_t { none = 0, some, all };

enum class Strategy : std::uint8_t { enforce_popular = 0, receive_only, send_only };

template <> struct EnumLimit<pcclResult_t> { static constexpr unsigned value = pcclStatusEnd_; };
template <> struct EnumLimit<Call> { static constexpr unsigned value = 6; };
template <> struct EnumLimit<Blocked> { static constexpr unsigned value = 3; };
template <> struct EnumLimit<Strategy> { static constexpr unsigned value = 3; };
template <> struct EnumLimit<op::Type> { static constexpr unsigned value = op::kPackedTypes; };

// ------------------------------------------------------------------------------------------------------------ peer to master --

/// The first message of a peer.
struct Hello {
    std::uint32_t magic = kMagic;
    std::uint16_t version = kVersion;
    GroupId group;
    SocketAddress advertised;        ///< unspecified ip: the address that the master sees
    std::uint32_t lanes = 0;         ///< connections wanted per link; 0: no preference
    std::uint64_t island = 0;        ///< peers with the same number join and leave together; 0: none
    std::uint32_t island_peers = 0;  ///< number of peers of the island
};
template <class V> void visit(V &v, Hello &m) { v(m.magic, m.version, m.group, m.advertised, m.lanes, m.island, m.island_peers); }

/// Proves that the sender is alive, in both directions, and reports commits. To the master: the number of Commit messages of
/// `epoch` received here. To a peer: the number that every member of its group has received; a peer keeps only later ones for a
/// master that restarts.
struct Heartbeat {
    ViewNumber epoch;  ///< 0: the sender is in no group yet
    std::uint64_t commits = 0;
};
template <class V> void visit(V &v, Heartbeat &m) { v(m.epoch, m.commits); }

/// The link to `other` is up, could not be made, or broke.
struct LinkReport {
    PeerId other;
    std::uint32_t attempt = 0;  ///< number of the OpenLink that this answers
    bool up = false;
    std::uint32_t round_trip_us = 0;  ///< measured by the first connection's handshake; 0: not known
    std::string why;
};
template <class V> void visit(V &v, LinkReport &m) { v(m.other, m.attempt, m.up, m.round_trip_us, bounded(m.why, kMaxText)); }

/// The vote to admit newcomers. `call` numbers this peer's calls, so that a late answer is not taken for that of the next call.
struct VoteUpdate {
    std::uint32_t call = 0;
};
template <class V> void visit(V &v, VoteUpdate &m) { v(m.call); }

/// The k-th question of a generation: is a newcomer ready?
struct AskPending {
    std::uint64_t generation = 0;
    std::uint64_t k = 0;
};
template <class V> void visit(V &v, AskPending &m) { v(m.generation, m.k); }

/// The vote to measure and reorder.
struct VoteOptimize {
    std::uint32_t call = 0;
};
template <class V> void visit(V &v, VoteOptimize &m) { v(m.call); }

/// The bandwidth that a probe from this peer to `to` measured; 0 if it failed.
struct ProbeReport {
    std::uint64_t round = 0;
    PeerId to;
    double mbit_per_s = 0;
};
template <class V> void visit(V &v, ProbeReport &m) { v(m.round, m.to, m.mbit_per_s); }

/// This peer holds the whole result of these operations.
struct Done {
    std::vector<OpId> ops;
};
template <class V> void visit(V &v, Done &m) { v(bounded(m.ops, kMaxOpsInMessage)); }

/// The operation cannot be done as its callers request. It must fail at every member.
struct OpFault {
    OpId op;
    pcclResult_t code = pcclInvalidUsage;
    std::string why;
    bool own = false;  ///< only the sender's program made a mistake: the other members' calls fail with pcclRankConnectionLost
};
template <class V> void visit(V &v, OpFault &m) { v(m.op, m.code, bounded(m.why, kMaxText), m.own); }

/// The number of a member's next call with one tag in the epoch that ends.
struct TagCount {
    Tag tag;
    std::uint32_t next_seq = 0;
};
template <class V> void visit(V &v, TagCount &m) { v(m.tag, m.next_seq); }

/// The answer to Freeze: no operation of the old epoch runs here any more. Lists the tags with calls that were not committed.
struct Frozen {
    std::uint64_t freeze = 0;
    std::vector<TagCount> opened;
    std::vector<CarriedOp> carried = {};  ///< calls that can continue; their tags are not in `opened`
};
template <class V> void visit(V &v, Frozen &m) {
    v(m.freeze, bounded(m.opened, kMaxOpsInMessage), bounded(m.carried, kMaxOpsInMessage));
}

struct TensorOffer {
    std::string name;
    op::Type type = op::Type::u8;
    std::uint64_t count = 0;
    bool allow_content_inequality = false;
    std::array<std::uint8_t, 16> hash{};

    /// Same name, type, count and flag; the content may differ.
    bool same_shape(const TensorOffer &o) const {
        return name == o.name && type == o.type && count == o.count && allow_content_inequality == o.allow_content_inequality;
    }
};
template <class V> void visit(V &v, TensorOffer &m) {
    v(bounded(m.name, kMaxTensorName), below(m.type, op::kTypes), m.count, m.allow_content_inequality, m.hash);
}

/// The vote to synchronize shared state, with the content that this peer offers.
struct OfferState {
    std::uint32_t call = 0;
    std::uint64_t revision = 0;
    Strategy strategy = Strategy::enforce_popular;
    bool tainted = false;  ///< sent again to a restarted master after the content was partly overwritten
    std::vector<TensorOffer> tensors;
};
template <class V> void visit(V &v, OfferState &m) {
    v(m.call, m.revision, m.strategy, m.tainted, bounded(m.tensors, kMaxTensors));
}

/// The sender has pulled everything in its SyncPlan (`ok`), or cannot.
struct SyncDone {
    std::uint64_t sync = 0;
    bool ok = false;
    std::string why;
};
template <class V> void visit(V &v, SyncDone &m) { v(m.sync, m.ok, bounded(m.why, kMaxText)); }

/// The caller has aborted all its calls.
struct Abort {};
template <class V> void visit(V &, Abort &) {}

/// All operations that have been open here for a while. Replaces the last report.
struct Waiting {
    Blocked blocked = Blocked::none;  ///< the threads that make calls
    std::vector<OpId> ops;
};
template <class V> void visit(V &v, Waiting &m) { v(m.blocked, bounded(m.ops, kMaxOpsInMessage)); }

/// The sender leaves the run.
struct Leave {};
template <class V> void visit(V &, Leave &) {}

/// Every member holds the result of these operations: they succeeded.
struct Commit {
    std::vector<OpId> ops;
};
template <class V> void visit(V &v, Commit &m) { v(bounded(m.ops, kMaxOpsInMessage)); }

/// The operation fails at every member. A member that has not called it yet fails its call when it makes it. With `skip` it never
/// makes this call: its next call with the tag gets the number after it.
struct OpFailed {
    OpId op;
    pcclResult_t code = pcclInvalidUsage;
    bool skip = false;
    std::string why;
    PeerId culprit = {};  ///< the only member whose call fails with `code`; the others' fail with pcclRankConnectionLost. 0: all
                          ///< fail with `code`
};
template <class V> void visit(V &v, OpFailed &m) { v(m.op, m.code, m.skip, bounded(m.why, kMaxText), m.culprit); }

/// How a call of all members ended, as a member that received it reports it.
struct CallOutcome {
    std::uint64_t decision = 0;
    ViewNumber epoch;  ///< of the group, if it was a call of a group
    Call kind = Call::none;
    pcclResult_t code = pcclSuccess;
    std::uint64_t sync = 0, revision = 0;  ///< if a synchronization succeeded
    std::string why;
};
template <class V> void visit(V &v, CallOutcome &m) {
    v(m.decision, m.epoch, m.kind, m.code, m.sync, m.revision, bounded(m.why, kMaxText));
}

struct KnownLink {
    PeerId other;
    std::uint32_t attempt = 0;
    ViewNumber epoch;  ///< the epoch in which the attempt began
    bool up = false;
    std::uint32_t round_trip_us = 0;
};
template <class V> void visit(V &v, KnownLink &m) { v(m.other, m.attempt, m.epoch, m.up, m.round_trip_us); }

/// The first message to a master that has restarted: the identity of this peer. The master answers Welcome with the same id, or
/// Removed. A newcomer that the journal does not know gets a Welcome with a new id.
struct Resume {
    Hello hello;  ///< as sent to the last master
    Secret run{};
    PeerId peer;
    Secret secret{};
    bool member = false;
    ViewNumber view;
};
template <class V> void visit(V &v, Resume &m) { v(m.hello, m.run, m.peer, m.secret, m.member, m.view); }

/// The answer to the Welcome of a master that has restarted: every decision that this member has received.
struct RecoveryReport {
    ViewNumber view, epoch;
    std::uint64_t generation = 0;
    std::uint64_t answered = 0;              ///< questions answered in this generation
    std::uint64_t yes_from = kNever;         ///< the first of these that was answered "yes"
    CallOutcome run_outcome, group_outcome;  ///< the last ones received
    Call open = Call::none;                  ///< the call of all members that the caller waits in
    std::uint32_t open_number = 0;
    bool aborted = false;        ///< the caller aborted its calls in this epoch
    std::vector<Frozen> frozen;  ///< one or none: the answer to a Freeze whose View has not arrived
    std::vector<KnownLink> links;
    std::uint64_t commits = 0;          ///< Commit messages received in this epoch
    std::vector<Commit> recent;         ///< the last of these, oldest first
    std::vector<OpFailed> failures;     ///< received in this epoch
    std::vector<OpId> done;             ///< operations whose result it holds and that are not committed
    std::vector<ForgetTags> forgotten;  ///< one or none: the last one of this epoch

    static constexpr std::uint64_t kNever = UINT64_MAX;
};
template <class V> void visit(V &v, RecoveryReport &m) {
    v(m.view, m.epoch, m.generation, m.answered, m.yes_from, m.run_outcome, m.group_outcome, m.open, m.open_number, m.aborted,
      bounded(m.frozen, 1), bounded(m.links, kMaxPeers), m.commits, bounded(m.recent, kMaxRecentCommits),
      bounded(m.failures, kMaxOpenOps), bounded(m.done, kMaxOpsInMessage), bounded(m.forgotten, 1));
}

/// The progress of an operation that has been open for a while.
struct OpProgress {
    OpId op;
    bool awaited = false;       ///< a thread of the caller only waits for it
    std::uint32_t open_ms = 0;  ///< time since it was called
    std::uint32_t idle_ms = 0;  ///< time since its bytes last arrived or were sent
    std::uint64_t sent = 0, received = 0;
    std::vector<PeerId> waits_for;  ///< members whose bytes are missing
};
template <class V> void visit(V &v, OpProgress &m) {
    v(m.op, m.awaited, m.open_ms, m.idle_ms, m.sent, m.received, bounded(m.waits_for, kMaxReported));
}

/// The link to `other` as its sender measures it: counters are sums over its connections since it was made, times and rates those
/// of the worst connection.
struct LinkProgress {
    PeerId other;
    std::uint64_t sent = 0, received = 0, outstanding = 0;  ///< outstanding: sent and not acknowledged
    std::uint32_t stalled_ms = 0;                           ///< time since any of `outstanding` was acknowledged
    std::uint32_t unanswered_ms = 0;                        ///< time since the other end last answered at all; 0: it answers
    std::uint32_t round_trip_us = 0;
    std::uint64_t retransmitted = 0;
    std::uint32_t looks = 0, backlogged = 0;  ///< samples, and samples in which it had more to send than it could
    std::uint64_t busy_us = 0, receiver_limited_us = 0, buffer_limited_us = 0;
    std::uint64_t bytes_per_s = 0;
};
template <class V> void visit(V &v, LinkProgress &m) {
    v(m.other, m.sent, m.received, m.outstanding, m.stalled_ms, m.unanswered_ms, m.round_trip_us, m.retransmitted, m.looks,
      m.backlogged, m.busy_us, m.receiver_limited_us, m.buffer_limited_us, m.bytes_per_s);
}

/// Sent once a second while an operation has been open for a second or more. The master uses it to find the member that delays
/// others.
struct ProgressReport {
    std::vector<OpProgress> ops;
    std::vector<LinkProgress> links;
};
template <class V> void visit(V &v, ProgressReport &m) { v(bounded(m.ops, kMaxReported), bounded(m.links, kMaxReported)); }

/// A request for the group's graph of neighbours.
struct SetGraph {
    std::uint32_t call = 0;  ///< number of this peer's request, from 1
    GraphSpec graph;
};
template <class V> void visit(V &v, SetGraph &m) { v(m.call, m.graph); }

/// The program changed content that this peer offered while other members pulled it: the synchronization fails.
struct StateFault {
    std::uint64_t sync = 0;
    std::string why;
};
template <class V> void visit(V &v, StateFault &m) { v(m.sync, bounded(m.why, kMaxText)); }

using ToMaster = std::variant<Hello, Heartbeat, LinkReport, VoteUpdate, AskPending, VoteOptimize, ProbeReport, Done, OpFault,
                              Frozen, OfferState, SyncDone, Abort, Waiting, Leave, Resume, RecoveryReport, ProgressReport,
                              SetGraph, TagsInUse, StateFault>;

// ------------------------------------------------------------------------------------------------------------ master to peer --

/// The newcomer gets its id. It is not a member before its first View.
struct Welcome {
    std::uint16_t version = kVersion;
    Secret run{};
    PeerId you;
    Secret secret{};  ///< of this peer: proves its identity to a restarted master
    std::uint32_t heartbeat_interval_ms = 1000;
    std::uint32_t heartbeat_timeout_ms = 10000;
    bool resumable = false;  ///< the master keeps a journal: if it ends, it can come back
};
template <class V> void visit(V &v, Welcome &m) {
    v(m.version, m.run, m.you, m.secret, m.heartbeat_interval_ms, m.heartbeat_timeout_ms, m.resumable);
}

/// Not admitted, or no longer a member. The connection closes after it.
struct Removed {
    pcclResult_t code = pcclMasterConnectionFailed;
    std::string why;
};
template <class V> void visit(V &v, Removed &m) { v(m.code, bounded(m.why, kMaxText)); }

/// Make a link to `other`: dial it, or expect it to dial. Replaces an older link to it.
struct OpenLink {
    PeerId other;
    std::uint32_t attempt = 0;
    bool dial = false;
    SocketAddress address;    ///< where to dial
    std::uint32_t lanes = 0;  ///< connections of the link; 0: the dialler chooses
    Secret token{};           ///< proves to each end that the master meant the other
};
template <class V> void visit(V &v, OpenLink &m) { v(m.other, m.attempt, m.dial, m.address, m.lanes, m.token); }

/// `other` has left the run for good.
struct CloseLink {
    PeerId other;
};
template <class V> void visit(V &v, CloseLink &m) { v(m.other); }

/// A view of this group ends: stop its operations, start none, answer Frozen.
struct Freeze {
    std::uint64_t freeze = 0;
    std::string why;
};
template <class V> void visit(V &v, Freeze &m) { v(m.freeze, bounded(m.why, kMaxText)); }

struct GroupSize {
    GroupId group;
    std::uint32_t size = 0;
};
template <class V> void visit(V &v, GroupSize &m) { v(m.group, m.size); }

/// Facts about the paths between the members of a group, equal at all of them. 0: not known.
struct PathFacts {
    std::uint32_t round_trip_us = 0;  ///< the longest between any two members
    std::uint32_t mbit_per_s = 0;     ///< of the slowest link of the ring, if all were measured
    friend bool operator==(const PathFacts &, const PathFacts &) = default;
};
template <class V> void visit(V &v, PathFacts &m) { v(m.round_trip_us, m.mbit_per_s); }

/// A membership: the sizes of all groups of the run, and the members of the receiver's group.
struct View {
    ViewNumber number;
    ViewNumber epoch;                  ///< the view that began this group's current ring; part of the names of operations
    std::vector<PeerId> ring;          ///< the group's members in ring order; block 0 belongs to the first
    std::vector<GroupSize> groups;     ///< sizes of all groups of the run
    bool full_mesh = false;            ///< every two members of the group have a link
    PathFacts path;                    ///< as measured when the ring was made
    std::uint64_t generation = 0;      ///< generation of AskPending
    std::vector<TagCount> begun;       ///< calls of the last epoch that failed at some member: they fail at every member
    std::vector<RepairedOp> repaired;  ///< calls of the last epoch that continue
    std::string why;                   ///< the reason for the change
};
template <class V> void visit(V &v, View &m) {
    v(m.number, m.epoch, bounded(m.ring, kMaxPeers), bounded(m.groups, kMaxPeers), m.full_mesh, m.path, m.generation,
      bounded(m.begun, kMaxOpsInMessage), bounded(m.repaired, kMaxOpsInMessage), bounded(m.why, kMaxText));
}

struct PendingAnswer {
    std::uint64_t generation = 0;
    std::uint64_t k = 0;
    bool pending = false;
};
template <class V> void visit(V &v, PendingAnswer &m) { v(m.generation, m.k, m.pending); }

/// Send to `to` at full speed for `duration_ms` and report.
struct Probe {
    std::uint64_t round = 0;
    PeerId to;
    std::uint32_t duration_ms = 0;
};
template <class V> void visit(V &v, Probe &m) { v(m.round, m.to, m.duration_ms); }

/// The receiver's call ended. After update_topology a new `generation` begins, and its questions are numbered from 0.
struct CallDone {
    Call kind = Call::none;
    std::uint32_t call = 0;  ///< its number in the vote; 0 for connect
    pcclResult_t code = pcclSuccess;
    std::uint64_t generation = 0;
    std::string why;
    /// Number of decided calls of the whole run, or of the group if it was a call of the group. Members with the same number have
    /// received the same outcomes. 0: decided for the receiver only.
    std::uint64_t decision = 0;
};
template <class V> void visit(V &v, CallDone &m) {
    v(m.kind, m.call, m.code, m.generation, bounded(m.why, kMaxText), m.decision);
}

struct PullTensor {
    std::uint32_t index = 0;  ///< its index in the offer
    std::array<std::uint8_t, 16> hash{};
    std::vector<PeerId> sources;
};
template <class V> void visit(V &v, PullTensor &m) { v(m.index, m.hash, bounded(m.sources, kMaxPeers)); }

/// The outcome of the election: the tensors that the receiver of this message must pull (none at a source), and from which peers.
struct SyncPlan {
    std::uint64_t sync = 0;
    std::uint32_t call = 0;
    bool in_place = false;  ///< pull directly over the old content: no peer can need it
    std::vector<PullTensor> pull;
};
template <class V> void visit(V &v, SyncPlan &m) { v(m.sync, m.call, m.in_place, bounded(m.pull, kMaxTensors)); }

/// Every member holds the content of `revision`.
struct SyncCommit {
    std::uint32_t call = 0;
    std::uint64_t sync = 0;  ///< the election that it ends; content pulled for an earlier one is invalid
    std::uint64_t revision = 0;
    std::uint64_t decision = 0;  ///< as in CallDone
};
template <class V> void visit(V &v, SyncCommit &m) { v(m.call, m.sync, m.revision, m.decision); }

/// The restarted master knows this peer again and has sent it every decision that it had missed. The peer sends again whatever it
/// waits for.
struct Resumed {
    std::uint64_t generation = 0;
    std::uint64_t decision = 0;  ///< of the last call of the whole run
};
template <class V> void visit(V &v, Resumed &m) { v(m.generation, m.decision); }

/// A finding of the master as text, for the log.
struct Notice {
    std::string why;
};
template <class V> void visit(V &v, Notice &m) { v(bounded(m.why, kMaxText)); }

/// The new neighbours of the receiver. With a code: the reason why the requested graph was refused.
struct Neighbours {
    std::uint32_t call = 0;  ///< the receiver's request that this answers; 0: none
    pcclResult_t code = pcclSuccess;
    std::string why;
    GraphSpec graph;
    std::uint64_t epoch = 0;         ///< increases with every change of the group's graph
    std::vector<PeerId> neighbours;  ///< exponential graph: in the order of its phases; other graphs: ascending
};
template <class V> void visit(V &v, Neighbours &m) {
    v(m.call, m.code, bounded(m.why, kMaxText), m.graph, m.epoch, bounded(m.neighbours, kMaxPeers));
}

using ToPeer = std::variant<Welcome, Removed, Heartbeat, OpenLink, CloseLink, Freeze, View, PendingAnswer, Commit, OpFailed,
                            Probe, CallDone, SyncPlan, SyncCommit, Resumed, Notice, Neighbours, AskTags, ForgetTags>;

// ------------------------------------------------------------------------------------------------------------------- framing --

/// A control frame: u32 length of the rest, u8 type code, body.
Bytes encode(const ToMaster &message);
Bytes encode(const ToPeer &message);

/// Decodes a frame after its length. False: not a valid message (unknown type, invalid field, bytes left over).
bool decode(std::span<const std::byte> frame, ToMaster &out);
bool decode(std::span<const std::byte> frame, ToPeer &out);

/// The name of a message's type, for logs and transcripts.
const char *name_of(const ToMaster &message);
const char *name_of(const ToPeer &message);

/// Splits a byte stream into control frames. Holds at most `limit` bytes, and allocates only for bytes that have arrived.
class FrameBuffer {
public:
    /// `limit`: bytes of a frame after its length word.
    explicit FrameBuffer(std::size_t limit) : limit_(limit) {}
    void set_limit(std::size_t limit) { limit_ = limit; }

    void append(std::span<const std::byte> bytes);

    enum class Next { frame, need_more, bad };
    /// `frame`: the next whole frame, valid until the next call. `bad`: a length of zero or beyond the limit; close the
    /// connection.
    Next next(std::span<const std::byte> &frame);

private:
    Bytes buffer_;
    std::size_t begin_ = 0;
    std::size_t limit_;
};

}  // namespace pccl::wire

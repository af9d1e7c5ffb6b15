// The messages between peers and master. Each is a plain struct whose visit() lists its fields in wire order; its type code is
// its place in ToMaster or ToPeer. docs/internals/protocol.md describes each with its meaning.
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
const char *name_of(Call call);  ///< as the C API spells it

/// Whether the threads of a peer's program that make its calls do nothing but wait for all-reduces.
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
    SocketAddress advertised;  ///< unspecified ip: as the master sees it
    std::uint32_t lanes = 0;   ///< connections wanted per link; 0: no wish
    std::uint64_t island = 0;  ///< those with the same join and leave together; 0: on its own
    std::uint32_t island_peers = 0;  ///< how many they are
};
template <class V> void visit(V &v, Hello &m) {
    v(m.magic);
    v(m.version);
    v(m.group);
    v(m.advertised);
    v(m.lanes);
    v(m.island);
    v(m.island_peers);
}

/// "I live." Both ways, with how far commits are known: to the master, how many Commit messages of `epoch` came here; to a peer, how
/// many of them have come to every member of its group, so that none of those need be kept for a master that restarts.
struct Heartbeat {
    ViewNumber epoch;  ///< 0: of no group yet
    std::uint64_t commits = 0;
};
template <class V> void visit(V &v, Heartbeat &m) {
    v(m.epoch);
    v(m.commits);
}

/// The link to `other` is up, could not be made, or broke.
struct LinkReport {
    PeerId other;
    std::uint32_t attempt = 0;  ///< of the OpenLink it answers
    bool up = false;
    std::uint32_t round_trip_us = 0;  ///< as the first connection's handshake saw it; 0: not known
    std::string why;
};
template <class V> void visit(V &v, LinkReport &m) {
    v(m.other);
    v(m.attempt);
    v(m.up);
    v(m.round_trip_us);
    v(bounded(m.why, kMaxText));
}

/// The vote to admit newcomers. `call` counts this peer's calls, so that a late answer is not taken for the next call's.
struct VoteUpdate {
    std::uint32_t call = 0;
};
template <class V> void visit(V &v, VoteUpdate &m) { v(m.call); }

/// The k-th question of a generation: is a newcomer ready?
struct AskPending {
    std::uint64_t generation = 0;
    std::uint64_t k = 0;
};
template <class V> void visit(V &v, AskPending &m) {
    v(m.generation);
    v(m.k);
}

/// The vote to measure and reorder.
struct VoteOptimize {
    std::uint32_t call = 0;
};
template <class V> void visit(V &v, VoteOptimize &m) { v(m.call); }

/// What a probe from this peer to `to` measured; 0 if it failed.
struct ProbeReport {
    std::uint64_t round = 0;
    PeerId to;
    double mbit_per_s = 0;
};
template <class V> void visit(V &v, ProbeReport &m) {
    v(m.round);
    v(m.to);
    v(m.mbit_per_s);
}

/// This peer holds its whole result of these operations.
struct Done {
    std::vector<OpId> ops;
};
template <class V> void visit(V &v, Done &m) { v(bounded(m.ops, kMaxOpsInMessage)); }

/// The operation cannot be done as its callers ask; it is to fail everywhere.
struct OpFault {
    OpId op;
    pcclResult_t code = pcclInvalidUsage;
    std::string why;
    bool own = false;  ///< a mistake of the sender's program alone: the other members' calls fail with pcclRankConnectionLost
};
template <class V> void visit(V &v, OpFault &m) {
    v(m.op);
    v(m.code);
    v(bounded(m.why, kMaxText));
    v(m.own);
}

/// How far a member's calls with one tag have come in the epoch that ends.
struct TagCount {
    Tag tag;
    std::uint32_t next_seq = 0;
};
template <class V> void visit(V &v, TagCount &m) {
    v(m.tag);
    v(m.next_seq);
}

/// The answer to Freeze: nothing of the old epoch runs here any more; these tags had calls that were not committed.
struct Frozen {
    std::uint64_t freeze = 0;
    std::vector<TagCount> opened;
    std::vector<CarriedOp> carried = {};  ///< calls that are to go on; their tags are not in `opened`
};
template <class V> void visit(V &v, Frozen &m) {
    v(m.freeze);
    v(bounded(m.opened, kMaxOpsInMessage));
    v(bounded(m.carried, kMaxOpsInMessage));
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
    v(bounded(m.name, kMaxTensorName));
    v(below(m.type, op::kTypes));
    v(m.count);
    v(m.allow_content_inequality);
    v(m.hash);
}

/// The vote to synchronize shared state, with what this peer holds.
struct OfferState {
    std::uint32_t call = 0;
    std::uint64_t revision = 0;
    Strategy strategy = Strategy::enforce_popular;
    bool tainted = false;  ///< said again to a restarted master, and partly overwritten since the hashes were taken
    std::vector<TensorOffer> tensors;
};
template <class V> void visit(V &v, OfferState &m) {
    v(m.call);
    v(m.revision);
    v(m.strategy);
    v(m.tainted);
    v(bounded(m.tensors, kMaxTensors));
}

/// This receiver of a SyncPlan holds everything (`ok`), or cannot get it.
struct SyncDone {
    std::uint64_t sync = 0;
    bool ok = false;
    std::string why;
};
template <class V> void visit(V &v, SyncDone &m) {
    v(m.sync);
    v(m.ok);
    v(bounded(m.why, kMaxText));
}

/// The caller gave up everything it waited for.
struct Abort {};
template <class V> void visit(V &, Abort &) {}

/// The operations that have been open here for a while: all of them, replacing the last report.
struct Waiting {
    Blocked blocked = Blocked::none;  ///< of the threads that make calls
    std::vector<OpId> ops;
};
template <class V> void visit(V &v, Waiting &m) {
    v(m.blocked);
    v(bounded(m.ops, kMaxOpsInMessage));
}

/// A clean good-bye.
struct Leave {};
template <class V> void visit(V &, Leave &) {}

/// All members are done with these operations: they succeeded.
struct Commit {
    std::vector<OpId> ops;
};
template <class V> void visit(V &v, Commit &m) { v(bounded(m.ops, kMaxOpsInMessage)); }

/// The operation fails at every member. One that has not called it yet fails its call when it makes it, or, with `skip`, never
/// makes this call: its next one with the tag is the one after.
struct OpFailed {
    OpId op;
    pcclResult_t code = pcclInvalidUsage;
    bool skip = false;
    std::string why;
    PeerId culprit = {};  ///< the only member whose call fails with `code`; the others' fail with pcclRankConnectionLost. 0: all fail with `code`
};
template <class V> void visit(V &v, OpFailed &m) {
    v(m.op);
    v(m.code);
    v(m.skip);
    v(bounded(m.why, kMaxText));
    v(m.culprit);
}

/// How a call of all members ended, as one who heard it tells it.
struct Answer {
    std::uint64_t decision = 0;
    ViewNumber epoch;  ///< of the group, where the call was the group's
    Call kind = Call::none;
    pcclResult_t code = pcclSuccess;
    std::uint64_t sync = 0, revision = 0;  ///< of a synchronization that succeeded
    std::string why;
};
template <class V> void visit(V &v, Answer &m) {
    v(m.decision);
    v(m.epoch);
    v(m.kind);
    v(m.code);
    v(m.sync);
    v(m.revision);
    v(bounded(m.why, kMaxText));
}

struct KnownLink {
    PeerId other;
    std::uint32_t attempt = 0;
    ViewNumber epoch;  ///< in which the attempt began
    bool up = false;
    std::uint32_t round_trip_us = 0;
};
template <class V> void visit(V &v, KnownLink &m) {
    v(m.other);
    v(m.attempt);
    v(m.epoch);
    v(m.up);
    v(m.round_trip_us);
}

/// The first message to a master that has restarted: who this peer was. The master answers Welcome, with the same name, or Removed; a
/// newcomer that the journal does not know is welcomed with a new name.
struct Resume {
    Hello hello;  ///< as it was
    Secret run{};
    PeerId peer;
    Secret secret{};
    bool member = false;
    ViewNumber view;
};
template <class V> void visit(V &v, Resume &m) {
    v(m.hello);
    v(m.run);
    v(m.peer);
    v(m.secret);
    v(m.member);
    v(m.view);
}

/// The answer to the Welcome of a master that has restarted: all that this member knows of what was agreed.
struct Account {
    ViewNumber view, epoch;
    std::uint64_t generation = 0;
    std::uint64_t answered = 0;           ///< questions of this generation
    std::uint64_t yes_from = kNever;      ///< the first of them that was answered "yes"
    Answer run_answer, group_answer;      ///< the last ones heard
    Call open = Call::none;               ///< the call of all members that the caller is in
    std::uint32_t open_number = 0;
    bool aborted = false;                 ///< the caller gave up its calls in this epoch
    std::vector<Frozen> frozen;           ///< one or none: the answer to a Freeze whose View has not come
    std::vector<KnownLink> links;
    std::uint64_t commits = 0;            ///< Commit messages heard in this epoch
    std::vector<Commit> recent;           ///< the last of them, oldest first
    std::vector<OpFailed> failures;       ///< heard in this epoch
    std::vector<OpId> done;               ///< results held and not committed
    std::vector<ForgetTags> forgotten;    ///< one or none: the last of this epoch

    static constexpr std::uint64_t kNever = UINT64_MAX;
};
template <class V> void visit(V &v, Account &m) {
    v(m.view);
    v(m.epoch);
    v(m.generation);
    v(m.answered);
    v(m.yes_from);
    v(m.run_answer);
    v(m.group_answer);
    v(m.open);
    v(m.open_number);
    v(m.aborted);
    v(bounded(m.frozen, 1));
    v(bounded(m.links, kMaxPeers));
    v(m.commits);
    v(bounded(m.recent, kMaxRecentCommits));
    v(bounded(m.failures, kMaxOpenOps));
    v(bounded(m.done, kMaxOpsInMessage));
    v(bounded(m.forgotten, 1));
}

/// How far an operation is that has been open for a while.
struct OpProgress {
    OpId op;
    bool awaited = false;                 ///< a thread of the caller does nothing but wait for it
    std::uint32_t open_ms = 0;            ///< since it was called
    std::uint32_t idle_ms = 0;            ///< since bytes of it last came or went
    std::uint64_t sent = 0, received = 0;
    std::vector<PeerId> waits_for;        ///< whose bytes are missing
};
template <class V> void visit(V &v, OpProgress &m) {
    v(m.op);
    v(m.awaited);
    v(m.open_ms);
    v(m.idle_ms);
    v(m.sent);
    v(m.received);
    v(bounded(m.waits_for, kMaxReported));
}

/// The link to `other` as its sender sees it; sums over its connections since it was made, the worst of them for what is a time or a path.
struct LinkProgress {
    PeerId other;
    std::uint64_t sent = 0, received = 0, outstanding = 0;  ///< outstanding: not acknowledged
    std::uint32_t stalled_ms = 0;     ///< nothing of that was acknowledged for so long
    std::uint32_t unanswered_ms = 0;  ///< and the other end does not answer at all; 0: it does
    std::uint32_t round_trip_us = 0;
    std::uint64_t retransmitted = 0;
    std::uint32_t looks = 0, backlogged = 0;  ///< how often it was looked at, and had more to send than it could
    std::uint64_t busy_us = 0, receiver_limited_us = 0, buffer_limited_us = 0;
    std::uint64_t bytes_per_s = 0;
};
template <class V> void visit(V &v, LinkProgress &m) {
    v(m.other);
    v(m.sent);
    v(m.received);
    v(m.outstanding);
    v(m.stalled_ms);
    v(m.unanswered_ms);
    v(m.round_trip_us);
    v(m.retransmitted);
    v(m.looks);
    v(m.backlogged);
    v(m.busy_us);
    v(m.receiver_limited_us);
    v(m.buffer_limited_us);
    v(m.bytes_per_s);
}

/// Once a second while an operation has been open for a second and more: what the master needs to tell who holds it up.
struct Progress {
    std::vector<OpProgress> ops;
    std::vector<LinkProgress> links;
};
template <class V> void visit(V &v, Progress &m) {
    v(bounded(m.ops, kMaxReported));
    v(bounded(m.links, kMaxReported));
}

/// The group's graph of neighbours is to be this one.
struct SetGraph {
    std::uint32_t call = 0;  ///< counts this peer's, from 1
    GraphSpec graph;
};
template <class V> void visit(V &v, SetGraph &m) {
    v(m.call);
    v(m.graph);
}

/// The program changed content that this peer offered while others read it: the synchronization fails.
struct StateFault {
    std::uint64_t sync = 0;
    std::string why;
};
template <class V> void visit(V &v, StateFault &m) {
    v(m.sync);
    v(bounded(m.why, kMaxText));
}

using ToMaster = std::variant<Hello, Heartbeat, LinkReport, VoteUpdate, AskPending, VoteOptimize, ProbeReport, Done, OpFault,
                              Frozen, OfferState, SyncDone, Abort, Waiting, Leave, Resume, Account, Progress, SetGraph, TagsInUse,
                              StateFault>;

// ------------------------------------------------------------------------------------------------------------ master to peer --

/// The newcomer has a name. It is not a member before its first View.
struct Welcome {
    std::uint16_t version = kVersion;
    Secret run{};
    PeerId you;
    Secret secret{};  ///< the peer's own: proves to a restarted master that it is the one who was here
    std::uint32_t heartbeat_interval_ms = 1000;
    std::uint32_t heartbeat_timeout_ms = 10000;
    bool resumable = false;  ///< the master keeps a journal: if it goes, it can come back
};
template <class V> void visit(V &v, Welcome &m) {
    v(m.version);
    v(m.run);
    v(m.you);
    v(m.secret);
    v(m.heartbeat_interval_ms);
    v(m.heartbeat_timeout_ms);
    v(m.resumable);
}

/// Not admitted, or no longer a member. The connection closes after it.
struct Removed {
    pcclResult_t code = pcclMasterConnectionFailed;
    std::string why;
};
template <class V> void visit(V &v, Removed &m) {
    v(m.code);
    v(bounded(m.why, kMaxText));
}

/// Make a link to `other`: dial it, or expect its call. Replaces an older link to it.
struct OpenLink {
    PeerId other;
    std::uint32_t attempt = 0;
    bool dial = false;
    SocketAddress address;    ///< where to dial
    std::uint32_t lanes = 0;  ///< connections of the link; 0: the dialler chooses
    Secret token{};           ///< proves to each that the other is meant
};
template <class V> void visit(V &v, OpenLink &m) {
    v(m.other);
    v(m.attempt);
    v(m.dial);
    v(m.address);
    v(m.lanes);
    v(m.token);
}

/// `other` is gone for good.
struct CloseLink {
    PeerId other;
};
template <class V> void visit(V &v, CloseLink &m) { v(m.other); }

/// A view ends for this group: stop its operations, start none, answer Frozen.
struct Freeze {
    std::uint64_t freeze = 0;
    std::string why;
};
template <class V> void visit(V &v, Freeze &m) {
    v(m.freeze);
    v(bounded(m.why, kMaxText));
}

struct GroupSize {
    GroupId group;
    std::uint32_t size = 0;
};
template <class V> void visit(V &v, GroupSize &m) {
    v(m.group);
    v(m.size);
}

/// A membership: of the run in numbers, of the receiver's group in full.
/// What the members of a group share about the paths between them. 0: not known.
struct PathFacts {
    std::uint32_t round_trip_us = 0;  ///< the longest between two members
    std::uint32_t mbit_per_s = 0;     ///< of the slowest link of the ring, where bandwidth was measured
    friend bool operator==(const PathFacts &, const PathFacts &) = default;
};
template <class V> void visit(V &v, PathFacts &m) {
    v(m.round_trip_us);
    v(m.mbit_per_s);
}

struct View {
    ViewNumber number;
    ViewNumber epoch;               ///< the view since which this group's ring stands; operations are named by it
    std::vector<PeerId> ring;       ///< the group's members in ring order; the first is where numbering of blocks starts
    std::vector<GroupSize> groups;  ///< sizes of all groups of the run
    bool full_mesh = false;         ///< every two members of the group have a link
    PathFacts path;                 ///< when the ring was made
    std::uint64_t generation = 0;   ///< of AskPending
    std::vector<TagCount> begun;    ///< calls of the epoch that ended which failed at some member: they fail at all
    std::vector<RepairedOp> repaired;  ///< calls of the epoch that ended which go on
    std::string why;                ///< what changed
};
template <class V> void visit(V &v, View &m) {
    v(m.number);
    v(m.epoch);
    v(bounded(m.ring, kMaxPeers));
    v(bounded(m.groups, kMaxPeers));
    v(m.full_mesh);
    v(m.path);
    v(m.generation);
    v(bounded(m.begun, kMaxOpsInMessage));
    v(bounded(m.repaired, kMaxOpsInMessage));
    v(bounded(m.why, kMaxText));
}

struct PendingAnswer {
    std::uint64_t generation = 0;
    std::uint64_t k = 0;
    bool pending = false;
};
template <class V> void visit(V &v, PendingAnswer &m) {
    v(m.generation);
    v(m.k);
    v(m.pending);
}

/// Send to `to` at full speed for a while and report.
struct Probe {
    std::uint64_t round = 0;
    PeerId to;
    std::uint32_t duration_ms = 0;
};
template <class V> void visit(V &v, Probe &m) {
    v(m.round);
    v(m.to);
    v(m.duration_ms);
}

/// The receiver's call ended. After update_topology the questions of a new `generation` count from 0.
struct CallDone {
    Call kind = Call::none;
    std::uint32_t call = 0;  ///< as in the vote; 0 for connect
    pcclResult_t code = pcclSuccess;
    std::uint64_t generation = 0;
    std::string why;
    /// Counts the calls of the whole run that were decided, or those of the group where the call is its own. Members of one count have
    /// heard the same answers. 0: decided for the receiver alone.
    std::uint64_t decision = 0;
};
template <class V> void visit(V &v, CallDone &m) {
    v(m.kind);
    v(m.call);
    v(m.code);
    v(m.generation);
    v(bounded(m.why, kMaxText));
    v(m.decision);
}

struct PullTensor {
    std::uint32_t index = 0;  ///< in the offer
    std::array<std::uint8_t, 16> hash{};
    std::vector<PeerId> sources;
};
template <class V> void visit(V &v, PullTensor &m) {
    v(m.index);
    v(m.hash);
    v(bounded(m.sources, kMaxPeers));
}

/// The election's outcome: what the receiver of this message is to pull (nothing, at a source), and from whom.
struct SyncPlan {
    std::uint64_t sync = 0;
    std::uint32_t call = 0;
    bool in_place = false;  ///< pull straight over the old content, which is worth nothing
    std::vector<PullTensor> pull;
};
template <class V> void visit(V &v, SyncPlan &m) {
    v(m.sync);
    v(m.call);
    v(m.in_place);
    v(bounded(m.pull, kMaxTensors));
}

/// Every member holds the content of `revision`.
struct SyncCommit {
    std::uint32_t call = 0;
    std::uint64_t sync = 0;  ///< the election it ends; what was pulled for an earlier one is void
    std::uint64_t revision = 0;
    std::uint64_t decision = 0;  ///< as in CallDone
};
template <class V> void visit(V &v, SyncCommit &m) {
    v(m.call);
    v(m.sync);
    v(m.revision);
    v(m.decision);
}

/// The restarted master knows this peer again, and has told it all that it had missed: what it still waits for is to be said again.
struct Resumed {
    std::uint64_t generation = 0;
    std::uint64_t decision = 0;  ///< the last of the whole run's
};
template <class V> void visit(V &v, Resumed &m) {
    v(m.generation);
    v(m.decision);
}

/// What the master finds wrong, in words, for the log.
struct Notice {
    std::string why;
};
template <class V> void visit(V &v, Notice &m) { v(bounded(m.why, kMaxText)); }

/// Whom the receiver has for neighbours from now on; or, with a code, why the graph that it asked for is not to be had.
struct Neighbours {
    std::uint32_t call = 0;  ///< the receiver's, that this answers; 0: none
    pcclResult_t code = pcclSuccess;
    std::string why;
    GraphSpec graph;
    std::uint64_t epoch = 0;  ///< grows whenever the group's graph changes
    std::vector<PeerId> neighbours;  ///< of an exponential graph in the order of its phases, else ascending
};
template <class V> void visit(V &v, Neighbours &m) {
    v(m.call);
    v(m.code);
    v(bounded(m.why, kMaxText));
    v(m.graph);
    v(m.epoch);
    v(bounded(m.neighbours, kMaxPeers));
}

using ToPeer = std::variant<Welcome, Removed, Heartbeat, OpenLink, CloseLink, Freeze, View, PendingAnswer, Commit, OpFailed,
                            Probe, CallDone, SyncPlan, SyncCommit, Resumed, Notice, Neighbours, AskTags, ForgetTags>;

// ------------------------------------------------------------------------------------------------------------------- framing --

/// A control frame: u32 length of what follows, u8 type code, body.
Bytes encode(const ToMaster &message);
Bytes encode(const ToPeer &message);

/// Decodes what follows the length. False: not a message of ours (unknown type, bad field, bytes left over).
bool decode(std::span<const std::byte> frame, ToMaster &out);
bool decode(std::span<const std::byte> frame, ToPeer &out);

/// The name of a message's type, for logs and transcripts.
const char *name_of(const ToMaster &message);
const char *name_of(const ToPeer &message);

/// Cuts a byte stream into control frames. Holds at most one frame's limit, and only bytes that have really arrived.
class FrameBuffer {
public:
    /// `limit`: bytes of a frame after its length word.
    explicit FrameBuffer(std::size_t limit) : limit_(limit) {}
    void set_limit(std::size_t limit) { limit_ = limit; }

    void append(std::span<const std::byte> bytes);

    enum class Next { frame, need_more, bad };
    /// `frame`: the next whole frame, valid until the next call. `bad`: a length of zero or beyond the limit; give the connection
    /// up.
    Next next(std::span<const std::byte> &frame);

private:
    Bytes buffer_;
    std::size_t begin_ = 0;
    std::size_t limit_;
};

}  // namespace pccl::wire

// A peer's side of the protocol as a pure state machine: which call waits for what, and what each one's outcome is.
//
// Guarantee: calls complete exactly once; the outcomes of the n-th call with a tag are the same at every member (unless a caller
// aborts its own); view numbers only grow; an operation that ended is named to the data plane by EndOp before its call completes,
// so that no buffer is touched after its call has returned. It holds no socket, thread or clock.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/log.h"
#include "base/time.h"
#include "wire/frame.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// A caller's request, named by the shell. Never used again.
using CallId = Id<struct CallTag, std::uint64_t>;

struct PeerOptions {
    GroupId group;
    SocketAddress advertised;  ///< port of the listener; unspecified ip: as the master sees it
    std::uint32_t lanes = 0;
    std::uint64_t island = 0;  ///< of wire::Hello
    std::uint32_t island_peers = 0;
    /// An operation open for longer is reported to the master, so that it can tell who waits for whom.
    Duration report_after = std::chrono::milliseconds(100);
    /// A master that keeps a journal is waited for when it goes. After this the membership is over.
    Duration master_limit = std::chrono::minutes(10);
    /// One open for longer is examined, and so once every so long.
    Duration examine_after = std::chrono::seconds(1);
};

/// The sizes of the run as a call saw them.
struct World {
    std::uint32_t global = 0;
    std::uint32_t group = 0;
    std::uint32_t groups = 0;
    std::uint32_t largest_group = 0;
    friend bool operator==(const World &, const World &) = default;
};

// What callers ask.
struct Connect {
    CallId call;
};
struct UpdateTopology {
    CallId call;
};
struct ArePending {
    CallId call;
};
struct OptimizeTopology {
    CallId call;
};
struct Reduce {
    CallId call;
    Tag tag;
    op::LossPolicy fault = op::LossPolicy::retry;
};
struct Synchronize {
    CallId call;
    wire::OfferState offer;
};
struct SetGraph {
    CallId call;
    wire::GraphSpec graph;
};
struct AbortCalls {};
struct LeaveRun {};

// What the shell reports.
struct MasterUp {};
struct MasterDown {
    std::string why;
};
struct FromMaster {
    wire::ToPeer message;
};
/// Bytes came that are no whole message yet: the master lives.
struct MasterHeard {};
struct LinkEvent {
    PeerId other;
    std::uint32_t attempt = 0;
    bool up = false;
    std::string why;
    std::uint32_t round_trip_us = 0;
};
struct OpFinished {
    OpId op;
};  ///< the whole result is held
struct OpBroken {
    OpId op;
    pcclResult_t code;
    std::string why;
    bool own = false;  ///< a mistake of this peer's program alone
};  ///< its callers disagree, or it cannot be done
/// The answer to CarryOps.
struct OpsCarried {
    std::vector<wire::CarriedOp> ops;
};
struct ProbeFinished {
    std::uint64_t round = 0;
    PeerId to;
    double mbit_per_s = 0;
};
struct SyncPulled {
    std::uint64_t sync = 0;
    bool ok = false;
    std::string why;
};
/// The program changed content that was offered for this synchronization.
struct OfferSpoiled {
    std::uint64_t sync = 0;
    std::string why;
};
/// The answer to Examine.
struct Examined {
    wire::Progress progress;
};
struct PeerTick {
    wire::Blocked blocked = wire::Blocked::none;  ///< whether the caller's threads wait for operations
};

using PeerInput =
    std::variant<Connect, UpdateTopology, ArePending, OptimizeTopology, Reduce, Synchronize, AbortCalls, LeaveRun, MasterUp,
                 MasterDown, FromMaster, LinkEvent, OpFinished, OpBroken, OpsCarried, ProbeFinished, SyncPulled, Examined, PeerTick,
                 MasterHeard, SetGraph, OfferSpoiled>;

// Effects, to be carried out in order.
struct DialMaster {};
struct HangUp {};  ///< close the control connection once what was sent has left
struct Tell {
    wire::ToMaster message;
};
/// The call ended.
struct Complete {
    CallId call;
    pcclResult_t code = pcclSuccess;
    std::string why;
    World world;                 ///< as of now
    bool pending = false;        ///< the answer to ArePending
    std::uint64_t revision = 0;  ///< of Synchronize
};
struct MakeLink {
    wire::OpenLink link;
};
struct DropLink {
    PeerId other;
};
/// The membership is over.
struct DropAllLinks {
    pcclResult_t code = pcclSuccess;
    std::string why;
};
/// Frames of this epoch are current from now on; older ones are stale, newer ones wait.
struct StartEpoch {
    ViewNumber epoch;
    std::vector<PeerId> ring;
    std::size_t rank = 0;
    bool full_mesh = false;
    wire::PathFacts path;
    std::vector<wire::RepairedOp> repaired;  ///< what the first operations with these tags go on from
};
/// Of a call that CarryOps named before, its continuation.
struct StartOp {
    CallId call;
    OpId op;
};
/// Do not touch its buffers any more.
struct EndOp {
    OpId op;
    CallId call;
    bool committed = false;
};
/// Do not touch the buffers of these any more, but know what is final in them, and say so: OpsCarried. StartOp follows, or the calls end.
struct CarryOps {
    std::vector<OpId> ops;
};
/// Every operation with another tag than these that is numbered below `floor` has ended; and those with these tags that were numbered below
/// the floor before have, too. Calls that were held begin after it.
struct DropTags {
    std::vector<Tag> keep;
    std::uint32_t floor = 0;  ///< as before, if no tag is dropped
};
struct StartProbe {
    wire::Probe probe;
};
struct StartPull {
    wire::SyncPlan plan;
};  ///< serve what was offered, and pull what the plan lists; replaces an earlier plan
struct EndSync {
    bool committed = false;
    std::uint64_t sync = 0;  ///< committed: the plan that stands, if there was one for this peer
};
/// Say how far these operations are, and what is known of the links (Examined).
struct Examine {
    std::vector<OpId> ops;
};
struct Say {
    LogLevel level;
    std::string text;
};

using PeerEffect = std::variant<DialMaster, HangUp, Tell, Complete, MakeLink, DropLink, DropAllLinks, StartEpoch, StartOp, EndOp,
                                CarryOps, DropTags, StartProbe, StartPull, EndSync, Examine, Say>;
using PeerEffects = std::vector<PeerEffect>;

/// What Welcome says, within reason: hostile or mistaken values must not make a peer spin or fall silent.
Duration heartbeat_timeout(const wire::Welcome &welcome);

class Peer {
public:
    explicit Peer(const PeerOptions &options) : options_(options) {}

    void step(Time now, const PeerInput &input, PeerEffects &effects);
    std::optional<Time> next_timeout() const;

    /// Where the listener ended up. Before Connect.
    void set_advertised(const SocketAddress &address) { options_.advertised = address; }

    PeerId id() const { return id_; }
    ViewNumber view() const { return view_.number; }
    const wire::View &current_view() const { return view_; }
    World world() const;
    /// Tags that something is remembered of.
    std::size_t tags_known() const { return tags_.size(); }

private:
    enum class State { idle, dialing, greeting, newcomer, member };
    /// Of a newcomer or member with its master, which may end and come back.
    enum class Contact {
        there,
        gone,       ///< to be dialled at redial_at_
        dialing,
        introduced,  ///< Resume was sent: Welcome is awaited
        accounted,   ///< Account was sent: told what it has missed, until Resumed comes
    };

    struct OpState {
        CallId call;
        Time since;
        bool reported = false;  ///< in a Waiting message
        bool finished = false;  ///< Done was sent: only the master is waited for
        std::optional<wire::OpFault> fault;  ///< told to the master
        bool repairs = false;                ///< goes on when members are lost
    };
    struct Failure {
        pcclResult_t code;
        std::string why;
    };
    struct TagState {
        std::uint32_t next_seq = 0;
        bool committed = true;  ///< the last call with this tag was
        /// Operations of this epoch, by number, that failed before they were called here.
        std::map<std::uint32_t, Failure> dead;
        /// The next calls, whatever epoch they are made in, fail like this, so many each: at other members they have.
        std::vector<std::pair<std::uint32_t, Failure>> owed;
        bool over = true;  ///< the last call with this tag has ended by the master's word: Commit or OpFailed
    };
    struct Exclusive {
        wire::Call kind;
        CallId call;
        std::uint32_t number;
        wire::OfferState offer;  ///< of a synchronization
    };
    struct Question {
        CallId call;
        std::uint64_t generation, k;
    };
    struct GraphCall {
        CallId call;
        wire::SetGraph asked;
    };
    struct LostCall {
        CallId call;
        std::string why;
    };
    /// A call that goes on in the next epoch, unless the view says otherwise.
    struct CarriedCall {
        CallId call;
        std::uint32_t seq;
        std::optional<op::FinalRanges> final = {};  ///< once the data plane has told
    };
    struct HeldCall {
        CallId call;
        Tag tag;
        op::LossPolicy fault;
    };

    void on(const Connect &in);
    void on(const UpdateTopology &in);
    void on(const ArePending &in);
    void on(const OptimizeTopology &in);
    void on(const Reduce &in);
    void on(const Synchronize &in);
    void on(const SetGraph &in);
    void on(const AbortCalls &in);
    void on(const LeaveRun &in);
    void on(const MasterUp &in);
    void on(const MasterDown &in);
    void on(const FromMaster &in);
    void on(const LinkEvent &in);
    void on(const OpFinished &in);
    void on(const OpBroken &in);
    void on(const OpsCarried &in);
    void on(const ProbeFinished &in);
    void on(const SyncPulled &in);
    void on(const OfferSpoiled &in);
    void on(const Examined &in);
    void on(const PeerTick &in);
    void on(const MasterHeard &) { master_heard_ = now_; }

    void hear(const wire::Welcome &m);
    void hear(const wire::Removed &m);
    void hear(const wire::Heartbeat &m);
    void hear(const wire::OpenLink &m);
    void hear(const wire::CloseLink &m);
    void hear(const wire::Freeze &m);
    void hear(const wire::View &m);
    void hear(const wire::PendingAnswer &m);
    void hear(const wire::Commit &m);
    void hear(const wire::OpFailed &m);
    void hear(const wire::Probe &m);
    void hear(const wire::CallDone &m);
    void hear(const wire::SyncPlan &m);
    void hear(const wire::SyncCommit &m);
    void hear(const wire::Resumed &m);

    // peer_resume.cc: when the master goes, and comes back
    void master_gone(const std::string &why);
    void introduce();
    void recognized(const wire::Welcome &m);
    void begin_again(const wire::Welcome &m);
    wire::Account account() const;
    void wait_for_master();
    void say_again();
    void note_link(const LinkEvent &in);
    void remember(const wire::Commit &m);
    void new_generation(std::uint64_t generation);
    wire::Hello hello() const;
    void take_name(const wire::Welcome &m);
    bool away() const { return contact_ != Contact::there; }
    bool connected() const { return contact_ != Contact::gone && contact_ != Contact::dialing; }
    void hear(const wire::Notice &m);
    void hear(const wire::Neighbours &m);

    // peer_tags.cc: tags that nobody uses any more
    void hear(const wire::AskTags &m);
    void hear(const wire::ForgetTags &m);
    TagState &tag_state(Tag tag);
    void end_tag_round();

    bool start_exclusive(wire::Call kind, CallId call);
    void open_op(const HeldCall &call);
    void start_op(const OpId &op, CallId call, op::LossPolicy fault);
    void start_epoch(const wire::View &view);
    void answer_freeze();
    static void owe(TagState &state, std::uint32_t next_seq, const std::string &why);
    void report_waiting();
    void examine();
    bool examinable(const OpState &op) const { return !op.finished && now_ - op.since >= options_.examine_after; }
    wire::Waiting waiting() const;
    void end_op(const OpId &op, const OpState &state, bool committed);
    void end_everything(pcclResult_t code, const std::string &why);
    std::vector<CallId> let_go_of_calls();
    void forget_epoch();
    void complete(CallId call, pcclResult_t code, const std::string &why);
    void refuse_unconnected(CallId call);
    /// Not while the master is away: what matters then is said again when it is back.
    void tell(wire::ToMaster message);
    void say(wire::ToMaster message);
    bool in_flight(Tag tag) const;

    PeerOptions options_;
    State state_ = State::idle;
    Time now_;
    PeerEffects *effects_ = nullptr;  ///< of the step in progress

    PeerId id_;
    Secret run_{}, secret_{};
    bool resumable_ = false;  ///< the master keeps a journal
    Contact contact_ = Contact::there;
    Time gone_since_, redial_at_;
    Duration redial_after_{};
    Duration heartbeat_interval_ = std::chrono::seconds(1);
    Duration master_timeout_ = std::chrono::seconds(30);
    Time next_heartbeat_;
    Time next_examination_;
    Time master_heard_;

    wire::View view_;
    std::optional<std::uint64_t> freeze_;  ///< of the view: operations wait for the next
    std::uint64_t generation_ = 0;
    std::uint64_t asked_ = 0;
    std::uint64_t answered_ = 0;                       ///< of this generation
    std::uint64_t yes_from_ = wire::Account::kNever;  ///< the same
    std::uint32_t next_call_number_ = 1;

    std::optional<Failure> ended_;  ///< how the last membership ended
    std::optional<Exclusive> exclusive_;
    std::deque<Question> questions_;
    std::deque<GraphCall> graph_calls_;
    std::uint32_t next_graph_call_ = 1;
    std::map<Tag, TagState> tags_;
    std::map<OpId, OpState> ops_;
    wire::Blocked blocked_ = wire::Blocked::none;  ///< as the last tick said
    bool waiting_stale_ = false;               ///< the last Waiting message is no longer true
    std::vector<LostCall> lost_;               ///< by the freeze; they complete with the next view
    std::map<Tag, CarriedCall> carried_;       ///< over the freeze
    std::deque<HeldCall> held_;                ///< made during the freeze, or a round of tags
    std::uint32_t floor_ = 0;                     ///< number of the first operation with a tag that is not in `tags_`
    std::optional<std::uint64_t> tag_round_;      ///< its end is awaited: no operation begins
    std::optional<wire::ForgetTags> forgotten_;  ///< the last of this epoch

    // What a restarted master will have to be told.
    wire::Answer run_answer_, group_answer_;  ///< the last ones heard
    std::map<PeerId, wire::KnownLink> links_;
    std::vector<wire::LinkReport> lost_links_;  ///< while it was away
    std::uint64_t commits_ = 0;                 ///< Commit messages of this epoch
    std::deque<wire::Commit> recent_;           ///< the last of them
    std::size_t recent_ops_ = 0;                ///< in those
    std::vector<wire::OpFailed> failures_;      ///< of this epoch
    std::optional<wire::Frozen> frozen_;        ///< as told
    bool aborted_ = false;                      ///< in this epoch
};

}  // namespace pccl::protocol

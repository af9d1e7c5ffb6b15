// A peer's side of the protocol as a pure state machine: what each call waits for, and its outcome.
//
// Guarantee: every call completes exactly once. The n-th call with a tag has the same outcome at every member, unless a caller
// aborts its own calls. View numbers only grow. The data plane receives EndOp for an operation before its call completes, so no
// buffer is touched after its call has returned. It holds no socket, thread or clock.
//
// A broken invariant (base/assert.h) ends the membership: every call fails with pcclInternalError.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "protocol/effects.h"
#include "wire/frame.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// One call of the program. The shell chooses the number and never reuses it.
using CallId = Id<struct CallTag, std::uint64_t>;

struct PeerOptions {
    GroupId group;
    SocketAddress advertised;  ///< with the listener's port; unspecified ip: the address from which the master sees this peer
    std::uint32_t lanes = 0;
    std::uint64_t island = 0;  ///< as in wire::Hello
    std::uint32_t island_peers = 0;
    /// An operation open for longer than this is reported to the master, which finds out which members wait for each other.
    Duration report_after = std::chrono::milliseconds(100);
    /// The membership ends when a lost master that keeps a journal has not come back for this time.
    Duration master_limit = std::chrono::minutes(10);
    /// An operation open for longer than this is included in a ProgressReport, and again at this interval.
    Duration progress_after = std::chrono::seconds(1);
};

/// The sizes of the run at one moment.
struct World {
    std::uint32_t global = 0;
    std::uint32_t group = 0;
    std::uint32_t groups = 0;
    std::uint32_t largest_group = 0;
    friend bool operator==(const World &, const World &) = default;
};

// Inputs: calls of the program.
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
struct PostReduce {
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

// Inputs: events that the shell reports.
struct MasterUp {};
struct MasterDown {
    std::string why;
};
struct FromMaster {
    wire::ToPeer message;
};
/// Bytes of an incomplete message arrived: the master is alive.
struct MasterBytesReceived {};
struct LinkEvent {
    PeerId other;
    std::uint32_t attempt = 0;
    bool up = false;
    std::string why;
    std::uint32_t round_trip_us = 0;
};
/// This peer holds the whole result of the operation.
struct OpFinished {
    OpId op;
};
/// The callers of the operation disagree, or it cannot be carried out.
struct OpBroken {
    OpId op;
    pcclResult_t code;
    std::string why;
    bool own = false;  ///< only this peer's program made a mistake
};
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
/// The program changed content that it offered for this synchronization.
struct OfferSpoiled {
    std::uint64_t sync = 0;
    std::string why;
};
/// The answer to ReportProgress.
struct ProgressReported {
    wire::ProgressReport progress;
};
struct PeerTick {
    wire::Blocked blocked = wire::Blocked::none;  ///< whether the caller's threads only wait for operations
};

using PeerInput =
    std::variant<Connect, UpdateTopology, ArePending, OptimizeTopology, PostReduce, Synchronize, AbortCalls, LeaveRun, MasterUp,
                 MasterDown, FromMaster, LinkEvent, OpFinished, OpBroken, OpsCarried, ProbeFinished, SyncPulled, ProgressReported,
                 PeerTick, MasterBytesReceived, SetGraph, OfferSpoiled>;

// Effects. The shell carries them out in order.
struct DialMaster {};
/// Close the control connection when all bytes have been sent.
struct HangUp {};
struct SendToMaster {
    wire::ToMaster message;
};
/// The call ended.
struct Complete {
    CallId call;
    pcclResult_t code = pcclSuccess;
    std::string why;
    World world;                 ///< its sizes now
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
/// Frames of this epoch are current from now on. Older frames are dropped, and newer ones must wait for their StartEpoch.
struct StartEpoch {
    ViewNumber epoch;
    std::vector<PeerId> ring;
    std::size_t rank = 0;
    bool full_mesh = false;
    wire::PathFacts path;
    std::vector<wire::RepairedOp> repaired;  ///< results that the first operations with these tags start from
};
/// Start an operation. If CarryOps named its call, the operation continues what that call began.
struct StartOp {
    CallId call;
    OpId op;
};
/// Do not touch the buffers of the operation any more.
struct EndOp {
    OpId op;
    CallId call;
    bool committed = false;
};
/// Do not touch the buffers of these operations any more. Keep the list of their final elements, and report it with OpsCarried.
/// Each of their calls then either gets a StartOp or completes.
struct CarryOps {
    std::vector<OpId> ops;
};
/// Every operation with a number below `floor` whose tag is not in `keep` has ended. With a tag in `keep`, those below the
/// previous floor have ended. Calls that were held start after this effect.
struct DropTags {
    std::vector<Tag> keep;
    std::uint32_t floor = 0;  ///< unchanged if no tag is dropped
};
struct StartProbe {
    wire::Probe probe;
};
/// Send offered content to others, and pull the tensors that the plan lists. Replaces an earlier plan.
struct StartPull {
    wire::SyncPlan plan;
};
struct EndSync {
    bool committed = false;
    std::uint64_t sync = 0;  ///< committed: the plan that takes effect, if this peer had one
};
/// Report the progress of these operations and of the links: ProgressReported.
struct ReportProgress {
    std::vector<OpId> ops;
};
using PeerEffect = std::variant<DialMaster, HangUp, SendToMaster, Complete, MakeLink, DropLink, DropAllLinks, StartEpoch, StartOp,
                                EndOp, CarryOps, DropTags, StartProbe, StartPull, EndSync, ReportProgress, Log>;
using PeerEffects = std::vector<PeerEffect>;

/// The timeout in a Welcome, within limits: invalid values must not make a peer spin or wait forever.
Duration heartbeat_timeout(const wire::Welcome &welcome);

class Peer {
public:
    explicit Peer(const PeerOptions &options) : options_(options) {}

    void step(Time now, const PeerInput &input, PeerEffects &effects);
    std::optional<Time> next_timeout() const;

    /// Sets the address of the listener. Call it before Connect.
    void set_advertised(const SocketAddress &address) { options_.advertised = address; }

    PeerId id() const { return id_; }
    ViewNumber view() const { return view_.number; }
    const wire::View &current_view() const { return view_; }
    World world() const;
    /// Number of tags in memory.
    std::size_t tags_known() const { return tags_.size(); }

private:
    enum class State { idle, dialing, greeting, newcomer, member };
    /// The control connection of a newcomer or member. The master can end and come back.
    enum class MasterLink {
        up,
        down,  ///< next dial at redial_at_
        dialing,
        resuming,    ///< Resume was sent; Welcome is next
        recovering,  ///< RecoveryReport was sent; missed decisions arrive until Resumed
    };

    struct OpState {
        CallId call;
        Time since;
        bool reported = false;               ///< in a Waiting message
        bool finished = false;               ///< Done was sent; only Commit is missing
        std::optional<wire::OpFault> fault;  ///< sent to the master
        bool repairs = false;                ///< continues when members are lost
    };
    struct Failure {
        pcclResult_t code;
        std::string why;
    };
    struct TagState {
        std::uint32_t next_seq = 0;
        bool committed = true;  ///< the last call with this tag was committed
        /// Operations of this epoch that failed before they were called here, by number; every number >= next_seq.
        std::map<std::uint32_t, Failure> failed_seqs;
        /// Failures of the next calls in whatever epoch they are made, each with the number of calls it applies to (> 0). The
        /// calls failed at other members already.
        std::vector<std::pair<std::uint32_t, Failure>> pending_failures;
        bool over = true;  ///< the master ended the last call with this tag: Commit or OpFailed
    };
    struct Exclusive {
        wire::Call kind;
        CallId call;
        std::uint32_t number;
        wire::OfferState offer;  ///< if `kind` is sync_shared_state
    };
    struct Question {
        CallId call;
        std::uint64_t generation, k;
    };
    struct GraphCall {
        CallId call;
        wire::SetGraph message;
    };
    struct LostCall {
        CallId call;
        std::string why;
    };
    /// A call that continues in the next epoch if the view names it.
    struct CarriedCall {
        CallId call;
        std::uint32_t seq;
        std::optional<op::FinalRanges> final = {};  ///< set by OpsCarried
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
    void on(const PostReduce &in);
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
    void on(const ProgressReported &in);
    void on(const PeerTick &in);
    void on(const MasterBytesReceived &) { master_heard_ = now_; }

    void on(const wire::Welcome &m);
    void on(const wire::Removed &m);
    void on(const wire::Heartbeat &m);
    void on(const wire::OpenLink &m);
    void on(const wire::CloseLink &m);
    void on(const wire::Freeze &m);
    void on(const wire::View &m);
    void on(const wire::PendingAnswer &m);
    void on(const wire::Commit &m);
    void on(const wire::OpFailed &m);
    void on(const wire::Probe &m);
    void on(const wire::CallDone &m);
    void on(const wire::SyncPlan &m);
    void on(const wire::SyncCommit &m);
    void on(const wire::Resumed &m);

    // peer_resume.cc: a master that is lost and comes back
    void on_master_lost(const std::string &why);
    void send_resume();
    void on_welcome_back(const wire::Welcome &m);
    void rejoin(const wire::Welcome &m);
    wire::RecoveryReport recovery_report() const;
    void wait_for_master();
    void resend();
    void on_link_event(const LinkEvent &in);
    void keep_commit(const wire::Commit &m);
    void new_generation(std::uint64_t generation);
    wire::Hello hello() const;
    void take_identity(const wire::Welcome &m);
    bool away() const { return master_link_ != MasterLink::up; }
    bool connected() const { return master_link_ != MasterLink::down && master_link_ != MasterLink::dialing; }
    void on(const wire::Notice &m);
    void on(const wire::Neighbours &m);

    // peer_tags.cc: tags that no operation uses
    void on(const wire::AskTags &m);
    void on(const wire::ForgetTags &m);
    TagState &tag_state(Tag tag);
    void end_tag_round();

    bool start_exclusive(wire::Call kind, CallId call);
    void open_op(const HeldCall &call);
    void start_op(const OpId &op, CallId call, op::LossPolicy fault);
    void start_epoch(const wire::View &view);
    void answer_freeze();
    static void add_pending_failures(TagState &state, std::uint32_t next_seq, const std::string &why);
    void report_waiting();
    void request_progress();
    bool reports_progress(const OpState &op) const { return !op.finished && now_ - op.since >= options_.progress_after; }
    wire::Waiting waiting() const;
    void end_op(const OpId &op, const OpState &state, bool committed);
    void end_everything(pcclResult_t code, const std::string &why);
    std::vector<CallId> take_calls();
    void forget_epoch();
    void complete(CallId call, pcclResult_t code, const std::string &why);
    void refuse_unconnected(CallId call);
    /// Drops the message while the master is away: resend() sends the current state when it is back.
    void send(wire::ToMaster message);
    /// Sends although the restarted master has not recognized this peer yet.
    void send_now(wire::ToMaster message);
    void check_invariants() const;
    void fail(const std::string &why);
    friend struct PeerTestAccess;
    bool in_flight(Tag tag) const;

    PeerOptions options_;
    State state_ = State::idle;
    Time now_;
    PeerEffects *effects_ = nullptr;  ///< of the step in progress

    PeerId id_;
    Secret run_{}, secret_{};
    bool resumable_ = false;  ///< the master keeps a journal
    MasterLink master_link_ = MasterLink::up;
    Time down_since_, redial_at_;
    Duration redial_after_{};
    Duration heartbeat_interval_ = std::chrono::seconds(1);
    Duration master_timeout_ = std::chrono::seconds(30);
    Time next_heartbeat_;
    Time next_progress_;
    Time master_heard_;

    wire::View view_;
    std::optional<std::uint64_t> freeze_;  ///< the freeze in effect: new operations wait for the next view
    std::uint64_t generation_ = 0;
    std::uint64_t asked_ = 0;
    std::uint64_t answered_ = 0;                             ///< questions answered in this generation; <= asked_
    std::uint64_t yes_from_ = wire::RecoveryReport::kNever;  ///< the first question answered "yes"; < answered_, or kNever
    std::uint32_t next_call_number_ = 1;

    std::optional<Failure> ended_;  ///< how the last membership ended
    std::optional<Exclusive> exclusive_;
    std::deque<Question> questions_;
    std::deque<GraphCall> graph_calls_;
    std::uint32_t next_graph_call_ = 1;
    std::map<Tag, TagState> tags_;
    std::map<OpId, OpState> ops_;
    wire::Blocked blocked_ = wire::Blocked::none;  ///< as in the last tick
    bool waiting_stale_ = false;                   ///< the last Waiting message is out of date
    std::vector<LostCall> lost_;                   ///< calls ended by the freeze; they complete with the next view
    std::map<Tag, CarriedCall> carried_;           ///< calls that may continue in the next epoch; only during a freeze
    std::deque<HeldCall> held_;                    ///< calls made during a freeze or a tag round; they start after it
    std::uint32_t floor_ = 0;                      ///< number of the first operation with a tag that is not in `tags_`
    std::optional<std::uint64_t> tag_round_;       ///< a round in progress: no operation starts before its ForgetTags
    std::optional<wire::ForgetTags> forgotten_;    ///< the last one of this epoch

    // State that a RecoveryReport contains.
    wire::CallOutcome run_outcome_, group_outcome_;  ///< the last ones received
    std::map<PeerId, wire::KnownLink> links_;
    std::vector<wire::LinkReport> lost_links_;  ///< reports made while the master was away
    std::uint64_t commits_ = 0;                 ///< Commit messages of this epoch
    std::deque<wire::Commit> recent_;           ///< the last of these; at most `commits_` of them
    std::size_t recent_ops_ = 0;                ///< operations in recent_
    std::vector<wire::OpFailed> failures_;      ///< of this epoch
    std::optional<wire::Frozen> frozen_;        ///< the answer to freeze_, as sent
    bool aborted_ = false;                      ///< the caller aborted its calls in this epoch
};

}  // namespace pccl::protocol

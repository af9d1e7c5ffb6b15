// The master's side of the protocol as a pure state machine: membership, ring order, and agreement on every call's outcome.
//
// Guarantee: the members of a group receive the same sequence of views, commits and failures, because one machine decides them in
// one order and every control connection keeps that order. The master never touches tensor data. It holds no socket, thread or
// clock: a shell (or a simulator) gives it inputs with their time and carries out the effects.
//
// The master consists of components with interfaces of their own: LinkBook, Islands, Probing, CallBoard, Questions, Recovery,
// TagRound, Diagnosis and the functions elect() and end_calls(). This class owns the peers and the groups and applies what the
// components decide. check_invariants() states what must hold after every step.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "base/log_quota.h"
#include "base/time.h"
#include "protocol/call_board.h"
#include "protocol/carry.h"
#include "protocol/diagnosis.h"
#include "protocol/effects.h"
#include "protocol/election.h"
#include "protocol/islands.h"
#include "protocol/link_book.h"
#include "protocol/probing.h"
#include "protocol/questions.h"
#include "protocol/record.h"
#include "protocol/recovery.h"
#include "protocol/tag_round.h"
#include "topology/neighbours.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// One control connection. The shell chooses the number and never reuses it.
using ConnId = Id<struct ConnTag, std::uint64_t>;

struct MasterOptions {
    Duration heartbeat_interval = std::chrono::seconds(1);
    Duration heartbeat_timeout = std::chrono::seconds(10);
    Duration misuse_grace = std::chrono::seconds(10);
    Duration straggler_after = std::chrono::seconds(10);  ///< a member that keeps half of the others waiting for longer is logged
    Duration remove_stragglers_after{};                   ///< such a member is removed after this; 0: never
    Duration hello_timeout = wire::kHelloTimeout;
    Duration probe_duration = std::chrono::milliseconds(250);
    Duration probe_timeout = std::chrono::seconds(10);
    /// The shell carries out Persist, so a new process can take the place of this one.
    bool journal = false;
    /// A member that has not come back to a restarted master after this is lost.
    Duration recovery_window = std::chrono::seconds(10);
    /// When the members of a group know about this many tags, they forget those that no operation uses.
    std::uint64_t idle_tags = 4096;
};

// Inputs.
struct Connected {
    ConnId conn;
    SocketAddress from;
};
struct Received {
    ConnId conn;
    wire::ToMaster message;
};
/// End of file, a reset, or an invalid message. The shell has closed the connection.
struct Disconnected {
    ConnId conn;
    std::string why;
};
/// Bytes of an incomplete message arrived, so its sender is alive even if the message takes long.
struct BytesReceived {
    ConnId conn;
};
/// Time passed. The shell gives this input at next_timeout() or later.
struct MasterTick {};
using MasterInput = std::variant<Connected, Received, Disconnected, MasterTick, BytesReceived>;

// Effects. The shell carries them out in order.
struct SendToPeer {
    ConnId conn;
    wire::ToPeer message;
};
/// Close the connection when all bytes have been sent.
struct CloseConnection {
    ConnId conn;
    std::string why;
};
/// The record must be safe on disk before any later effect is carried out: a restarted master must know everything that members
/// were sent.
struct Persist {
    std::shared_ptr<const Record> record;
};
using MasterEffect = std::variant<SendToPeer, CloseConnection, Log, Persist>;
using MasterEffects = std::vector<MasterEffect>;

class Master {
public:
    /// `random` returns unguessable secrets (repeatable ones in a simulation). `record`: of the last master of this run. The new
    /// master waits for its members before it decides anything.
    Master(const MasterOptions &options, std::function<Secret()> random, const std::optional<Record> &record = {});

    void step(Time now, const MasterInput &input, MasterEffects &effects);
    /// The latest time for the next MasterTick.
    Time next_timeout() const;

    /// For status displays and tests.
    struct MemberInfo {
        PeerId id;
        GroupId group;
        bool member = false;  ///< false: a newcomer that waits to be admitted
        SocketAddress address;
    };
    std::vector<MemberInfo> members() const;
    ViewNumber view() const { return view_; }

private:
    struct Peer {
        PeerId id;
        ConnId conn;  ///< 0: none; a member that has not come back to the restarted master
        GroupId group;
        Secret secret{};
        SocketAddress address;
        std::uint32_t lanes = 0;
        bool member = false;
        bool fits = false;         ///< newcomers: some ring includes it
        bool ready = false;        ///< newcomers: it can be admitted now, with its island
        std::uint64_t island = 0;  ///< as in wire::Hello
        std::uint32_t island_peers = 0;
        Time last_heard;                     ///< when bytes last arrived from it
        wire::OfferState offer;              ///< valid while its call is sync_shared_state
        std::size_t open_done = 0;           ///< entries of Group::done that contain it
        std::uint64_t commits_received = 0;  ///< Commit messages of this epoch; <= Group::commits
    };
    struct FreezeState {
        std::uint64_t id = 0;
        Time since;
        std::set<PeerId> awaiting;  ///< members that have not answered
        std::map<Tag, std::uint32_t> begun;
        std::string why;
        std::set<LinkBook::Pair> retried;  ///< links that were down and got another attempt, because no ring existed without them
        std::map<PeerId, std::vector<wire::CarriedOp>> carried;
        bool aborted = false;           ///< no call is carried over: a member aborted, or the calls do not fit into a View
        std::set<Tag> tags;             ///< of all calls in `begun` and `carried`; a View can name them all
        std::size_t carried_parts = 0;  ///< operations and ranges in `carried`
    };
    struct SyncState {
        bool pulling = false;
        std::uint64_t id = 0;
        std::set<PeerId> awaiting;                          ///< receivers that have a plan and have not reported
        std::map<PeerId, Receiver> unplanned;               ///< receivers without a link to a holder yet
        std::map<PeerId, std::set<std::uint32_t>> planned;  ///< tensors that the other receivers pull
        std::uint64_t revision = 0;
        std::set<PeerId> tainted;
        SyncHistory history;
        std::set<PeerId> last_members;
    };
    struct Group {
        ViewNumber epoch;
        std::vector<PeerId> ring;
        bool full_mesh = false;
        wire::PathFacts path;
        std::vector<wire::TagCount> begun;       ///< as in the view that began the epoch
        std::vector<wire::RepairedOp> repaired;  ///< as in that view
        std::string why;                         ///< as in that view
        std::uint64_t commits = 0;               ///< Commit messages of this epoch
        wire::CallOutcome outcome;               ///< of the last synchronization
        std::optional<FreezeState> freeze;
        std::map<OpId, std::set<PeerId>> done;  ///< members that hold the result, of operations that are not committed
        std::set<OpId> failed;                  ///< failed operations of this epoch
        TagCounts tags;                         ///< of this epoch
        SyncState sync;
        topology::Graph graph;
        std::uint64_t graph_epoch = 0;
    };
    /// A connection that has not sent Hello or Resume.
    struct NewConnection {
        SocketAddress from;
        Time deadline;
    };

    // master.cc: connections and membership
    void on_connected(const Connected &input);
    void on_disconnected(const Disconnected &input);
    void on_message(const Received &input);
    void on_peer_message(Peer &peer, const wire::ToMaster &message);
    void break_protocol(PeerId id, const char *what);
    void on_hello(ConnId conn, const wire::Hello &hello);
    bool compatible(ConnId conn, const wire::Hello &hello);
    SocketAddress reachable_at(ConnId conn, const wire::Hello &hello) const;
    void welcome(const Peer &peer);
    void on(Peer &peer, const wire::Heartbeat &heartbeat);
    void on(Peer &peer, const wire::Leave &leave);
    void send_heartbeats();
    void on_tick();
    void remove_silent();
    void admit(Peer &peer);
    void admit_first();
    std::vector<PeerId> first_of_run() const;
    void remove(PeerId id, pcclResult_t code, const std::string &why);
    Peer forget(PeerId id, pcclResult_t code, const std::string &why);
    void refuse(ConnId conn, pcclResult_t code, const std::string &why);
    void refuse_late_hellos();
    void drop_stale_deadlines();
    void settle();
    void check_invariants() const;

    // master_recovery.cc: recovery after the last master has ended
    void restore(const Record &record);
    static GraphRecord graph_record(const Group &group);
    Record record() const;
    void on_resume(ConnId conn, const wire::Resume &resume);
    void during_recovery(Peer &peer, const wire::ToMaster &message);
    void disconnect_again(Peer &peer);
    bool recovered() const;
    void finish_recovery();
    RecoveryReports reports_of(GroupId group, const RecoveryReports &reports) const;
    void apply_run_knowledge(const RecoveryReports &reports);
    GroupKnowledge apply_group_knowledge(Group &group, const RecoveryReports &reports);
    void resume_freeze(GroupId id, Group &group, const RecoveryReports &reports);
    void catch_up(const Peer &peer, const wire::RecoveryReport &report, const GroupKnowledge &known);
    void resume_links(GroupId id, const RecoveryReports &reports);
    void commit_held_by_all_present(GroupId id, Group &group, const RecoveryReports &reports);
    void remove_missing(const Recovery &recovery, const RecoveryReports &reports);

    // master_links.cc: links between peers, and newcomers that fit into a ring
    void open_link(const LinkBook::Attempt &attempt);
    void on(Peer &peer, const wire::LinkReport &report);
    void refresh_ready();
    void fit_newcomers(const std::set<PeerId> &absent);
    void refuse_unreachable();
    void refuse_incomplete_islands();
    bool make_ready(std::vector<PeerId> &joined, const std::vector<PeerId> &newcomers);
    void set_ring(Group &group, const std::vector<PeerId> &ring);

    // master_views.cc: the end of a view and the start of the next
    void begin_freeze(GroupId group, const std::string &why);
    void freeze_for_abort(GroupId group, const std::string &why);
    void member_lost(GroupId group, PeerId id, const std::string &why);
    void on(Peer &peer, const wire::Frozen &frozen);
    static void keep_carried(FreezeState &freeze, PeerId id, const std::vector<wire::CarriedOp> &carried);
    bool try_install(GroupId id, Group &group);
    bool retry_given_up(const std::vector<PeerId> &ids, FreezeState &freeze);
    static EpochOutcome end_calls_of(const FreezeState &freeze, const std::vector<PeerId> &ring);
    void publish_view(const std::set<GroupId> &changed, const std::map<GroupId, EpochOutcome> &ended, const std::string &why);
    bool any_frozen() const;
    std::vector<wire::GroupSize> group_sizes() const;
    wire::View view_of(const Group &group) const;

    // master_ops.cc: agreement on operations
    void on(Peer &peer, const wire::Done &done);
    void on(Peer &peer, const wire::Waiting &waiting);
    void on(Peer &peer, const wire::OpFault &fault);
    void commit_complete(Group &group, const std::vector<PeerId> &members);
    void fail_op(GroupId id, Group &group, const wire::OpFailed &failed);

    // master_tags.cc: tags that no operation uses
    static void count_tags(Group &group, const wire::Commit &commit);
    void ask_tags(GroupId id, Group &group);
    void on(Peer &peer, const wire::TagsInUse &answer);
    static void restore_tags(Group &group, const std::optional<wire::ForgetTags> &last);

    // master_calls.cc: calls of all members
    void on(Peer &peer, const wire::VoteUpdate &vote) { on_vote(peer, wire::Call::update_topology, vote.call); }
    void on(Peer &peer, const wire::VoteOptimize &vote) { on_vote(peer, wire::Call::optimize_topology, vote.call); }
    void on(Peer &peer, const wire::OfferState &offer);
    void on(Peer &peer, const wire::AskPending &ask);
    void on(Peer &peer, const wire::Abort &abort);
    void on_vote(Peer &peer, wire::Call call, std::uint32_t number);
    void new_generation();
    bool try_update();
    /// `decision`: 0 if it is for this peer only.
    void call_done(Peer &peer, pcclResult_t code, const std::string &why, std::uint64_t decision);
    void decide_run(wire::Call call, pcclResult_t code, const std::string &why);
    void decide_sync(Group &group, pcclResult_t code, const std::string &why);
    void check_conflicts();
    bool all_members_in(wire::Call call) const;

    // master_diagnosis.cc: the member that delays others
    void on(Peer &peer, const wire::ProgressReport &report);
    void add_call(Snapshot &snapshot, wire::Call call, const std::vector<PeerId> &members) const;
    void add_operations(Snapshot &snapshot, const Group &group, const std::vector<PeerId> &members) const;
    Snapshot snapshot() const;
    void diagnose();

    // master_graph.cc: neighbours for gossip
    void on(Peer &peer, const wire::SetGraph &asked);
    void update_graph(GroupId id);
    wire::Neighbours neighbours_of(const Peer &peer, std::uint32_t call) const;

    // master_probe.cc: measured paths and a new ring
    bool try_optimize();
    void start_probing();
    void next_probe_round();
    void on(Peer &peer, const wire::ProbeReport &report);
    void finish_probing();

    // master_sync.cc: shared state
    bool try_sync(GroupId id, Group &group);
    void plan_wave(GroupId id, Group &group);
    void plan_pulls(SyncState &sync, LinkBook::Trust trust);
    void on(Peer &peer, const wire::SyncDone &done);
    void commit_sync(GroupId id, Group &group);
    void on(Peer &peer, const wire::StateFault &fault);
    void fail_sync(GroupId id, Group &group, pcclResult_t code, const std::string &why, PeerId culprit = {});

    Peer *member(PeerId id);
    std::vector<PeerId> members_of(GroupId group) const;
    std::size_t member_count() const;
    void send(const Peer &peer, wire::ToPeer message);
    void log(LogLevel level, std::string text);

    MasterOptions options_;
    std::function<Secret()> random_;
    Secret run_;
    Time now_;
    Time next_heartbeat_;
    MasterEffects *effects_ = nullptr;  ///< of the step in progress

    std::map<ConnId, NewConnection> new_connections_;
    std::set<std::pair<Time, ConnId>>
        hello_deadlines_;               ///< the first is current; later ones can be of connections that are no longer new
    LogQuota refusals_;                 ///< limits how many refusals are logged
    std::map<ConnId, PeerId> by_conn_;  ///< by_conn_[c] == p only if peers_[p].conn == c
    std::map<PeerId, Peer> peers_;
    LinkBook links_;       ///< only of pairs in peers_
    Islands islands_;      ///< of all in peers_ that have an island
    CallBoard calls_;      ///< of all in peers_
    Questions questions_;  ///< of this generation
    Probing probing_;
    std::map<GroupId, Group> groups_;  ///< every group has a member; `epoch` <= view_
    ViewNumber view_{0};
    struct Published {
        std::vector<wire::GroupSize> sizes;
        std::uint64_t generation = 0;
    } published_;                       ///< sent to all groups with view_
    std::uint64_t next_peer_ = 1;       ///< larger than every id in peers_; <= reserved_peers_
    std::uint64_t reserved_peers_ = 1;  ///< ids below this can have been given, as far as the journal knows
    std::uint64_t next_freeze_ = 1;     ///< larger than every FreezeState::id
    std::uint64_t next_sync_ = 1;       ///< larger than every SyncState::id
    std::uint64_t generation_ = 1;
    Diagnosis diagnosis_;
    Alarms alarms_;
    Time next_silence_;  ///< no peer can exceed the heartbeat timeout before this time

    wire::CallOutcome run_outcome_;  ///< of the last call of the whole run
    std::uint64_t starts_ = 0;
    bool changed_ = false;                                        ///< the journal is out of date
    std::optional<Recovery> recovery_;                            ///< until the members of the last process are back
    std::vector<std::pair<ConnId, wire::Hello>> waiting_hellos_;  ///< newcomers that arrived during recovery
};

using pccl::to_string;

}  // namespace pccl::protocol

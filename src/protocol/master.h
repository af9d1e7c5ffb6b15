// The master's side of the protocol as a pure state machine: membership, ring order, and agreement on every call's outcome.
//
// Guarantee: members of a group hear the same sequence of views, commits and failures, because one machine decides them in one
// order and every control connection keeps that order. It never touches tensor data, and it holds no socket, thread or clock: a
// shell (or a simulator) feeds it inputs with their time and carries out the effects.
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
#include "base/log.h"
#include "base/log_quota.h"
#include "base/time.h"
#include "protocol/carry.h"
#include "protocol/diagnosis.h"
#include "protocol/election.h"
#include "protocol/record.h"
#include "protocol/tag_round.h"
#include "topology/neighbours.h"
#include "topology/ring.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// One control connection, named by the shell. Never used again.
using ConnId = Id<struct ConnTag, std::uint64_t>;

struct MasterOptions {
    Duration heartbeat_interval = std::chrono::seconds(1);
    Duration heartbeat_timeout = std::chrono::seconds(10);
    Duration misuse_grace = std::chrono::seconds(10);
    Duration straggler_after = std::chrono::seconds(10);  ///< who keeps half of the others waiting for longer is spoken of
    Duration remove_stragglers_after{};                   ///< and removed; 0: never
    Duration hello_timeout = wire::kHelloTimeout;
    Duration probe_duration = std::chrono::milliseconds(250);
    Duration probe_timeout = std::chrono::seconds(10);
    /// A record is kept (Persist is carried out), so a new process can take this one's place.
    bool journal = false;
    /// Members that have not come back to a restarted master after this are lost.
    Duration recovery_window = std::chrono::seconds(10);
    /// Once about as many tags are known to the members of a group, those that no operation uses are forgotten.
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
/// End of file, reset, or bytes that are no message: the shell has closed it already.
struct Disconnected {
    ConnId conn;
    std::string why;
};
/// Bytes came that are no whole message yet: its sender lives, however long the message takes to arrive.
struct Heard {
    ConnId conn;
};
/// Time passed: due after next_timeout().
struct Tick {};
using MasterInput = std::variant<Connected, Received, Disconnected, Tick, Heard>;

// Effects, to be carried out in order.
struct Send {
    ConnId conn;
    wire::ToPeer message;
};
/// Close once what was sent before has left.
struct Close {
    ConnId conn;
    std::string why;
};
struct Note {
    LogLevel level;
    std::string text;
};
/// Must be safe on disk before any effect after it is carried out: what members are told, a restarted master has to know.
struct Persist {
    std::shared_ptr<const Record> record;
};
using MasterEffect = std::variant<Send, Close, Note, Persist>;
using MasterEffects = std::vector<MasterEffect>;

class Master {
public:
    /// `random` gives unguessable secrets (repeatable ones in a simulation). `record`: of the master whose place this one takes; its
    /// members are waited for before anything is decided.
    Master(const MasterOptions &options, std::function<Secret()> random, const std::optional<Record> &record = {});

    void step(Time now, const MasterInput &input, MasterEffects &effects);
    /// When a Tick is due, at the latest.
    Time next_timeout() const;

    /// For status displays and checks.
    struct MemberInfo {
        PeerId id;
        GroupId group;
        bool member = false;  ///< false: a newcomer that waits
        SocketAddress address;
    };
    std::vector<MemberInfo> members() const;
    ViewNumber view() const { return view_; }

private:
    struct Peer {
        PeerId id;
        ConnId conn;  ///< 0: none, of a member that has not come back to the restarted master
        GroupId group;
        Secret secret{};
        SocketAddress address;
        std::uint32_t lanes = 0;
        bool member = false;
        bool fits = false;   ///< a newcomer that some ring includes
        bool ready = false;  ///< and that could be admitted now, its island with it
        std::uint64_t island = 0;  ///< of wire::Hello
        std::uint32_t island_peers = 0;
        Time last_heard;
        wire::Call call = wire::Call::connect;  ///< the call of all peers that it waits in
        std::uint32_t call_number = 0;
        Time call_since;
        wire::OfferState offer;  ///< while call is sync_shared_state
        std::set<OpId> waiting;  ///< operations it reported as open for a while
        wire::Blocked blocked = wire::Blocked::none;  ///< whether its caller's threads do nothing but wait for them
        Time waiting_since;             ///< since this report stands
        std::size_t open_done = 0;  ///< entries of Group::done that name it
        std::uint64_t commits_heard = 0;  ///< Commit messages of this epoch
    };
    /// What is known of the link between two peers, the smaller id first.
    struct Pair {
        enum class State { dialing, up, down } state = State::dialing;
        std::uint32_t attempt = 0;
        PeerId dialler;
        int tries = 0;   ///< since it was last up
        int breaks = 0;  ///< times it broke, of late
        Time broke_at;
        Time down_since;
        bool first_up = false, second_up = false;
        std::string why;                       ///< it is not up
        std::uint32_t round_trip_us = 0;       ///< the longer of what the two saw
        double mbit_forth = 0, mbit_back = 0;  ///< first to second, second to first; 0: not measured
    };
    struct FreezeState {
        std::uint64_t id = 0;
        Time since;
        std::set<PeerId> awaiting;
        std::map<Tag, std::uint32_t> begun;
        std::string why;
        std::set<std::pair<PeerId, PeerId>> retried;  ///< pairs that were given up and had another chance, since nothing else is left
        std::map<PeerId, std::vector<wire::CarriedOp>> carried;
        bool aborted = false;  ///< by a member, during the freeze, or too much to tell everybody: nothing goes on
        std::set<Tag> tags;       ///< of all calls in `begun` and `carried`: a View can name them all
        std::size_t carried_parts = 0;  ///< operations and ranges in `carried`
    };
    struct SyncState {
        bool pulling = false;
        std::uint64_t id = 0;
        std::set<PeerId> awaiting;  ///< receivers that have a plan and have not reported
        std::map<PeerId, Receiver> unplanned;                ///< receivers with no link to a holder yet
        std::map<PeerId, std::set<std::uint32_t>> planned;   ///< what the others pull
        std::uint64_t revision = 0;
        std::set<PeerId> tainted;
        SyncHistory history;
        std::set<PeerId> last_members;
    };
    /// To the questions of a generation: "no" up to some number, "yes" from it on.
    struct Answers {
        std::uint64_t asked = 0;
        std::optional<std::uint64_t> yes_from;
        bool is_yes(std::uint64_t k) const { return yes_from && k >= *yes_from; }
    };
    struct Group {
        Answers answers;
        ViewNumber epoch;
        std::vector<PeerId> ring;
        bool full_mesh = false;
        wire::PathFacts path;
        std::vector<wire::TagCount> begun;  ///< as the view that began the epoch said
        std::vector<wire::RepairedOp> repaired;  ///< likewise
        std::string why;                    ///< the same
        std::uint64_t commits = 0;          ///< Commit messages of this epoch
        wire::Answer answer;                ///< of the last synchronization
        std::optional<FreezeState> freeze;
        std::map<OpId, std::set<PeerId>> done;  ///< who holds its result, of operations not committed
        std::set<OpId> failed;                  ///< of this epoch
        TagCounts tags;                         ///< of this epoch
        SyncState sync;
        topology::Graph graph;
        std::uint64_t graph_epoch = 0;
    };
    struct ProbeEdge {
        PeerId from, to;
        friend auto operator<=>(const ProbeEdge &, const ProbeEdge &) = default;
    };
    struct OptimizeState {
        bool running = false;
        std::vector<std::vector<ProbeEdge>> rounds;  ///< still to come, last first
        std::set<ProbeEdge> outstanding;
        Time round_deadline;
    };

    /// The members of the last process, coming back.
    struct Recovery {
        Time deadline;
        std::map<PeerId, wire::Account> accounts;
        std::set<PeerId> left;                               ///< came back and said good-bye
        std::vector<std::pair<ConnId, wire::Hello>> newcomers;  ///< who wait until it is over
    };

    // master.cc: connections and membership
    void on_connected(const Connected &input);
    void on_disconnected(const Disconnected &input);
    void on_message(const Received &input);
    void on_hello(ConnId conn, const wire::Hello &hello);
    bool compatible(ConnId conn, const wire::Hello &hello);
    SocketAddress reachable_at(ConnId conn, const wire::Hello &hello) const;
    void welcome(const Peer &peer);
    void on_heartbeat(Peer &peer, const wire::Heartbeat &heartbeat);
    void beat();
    void on_tick();
    void admit_first();
    void remove(PeerId id, pcclResult_t code, const std::string &why);
    Peer forget(PeerId id, pcclResult_t code, const std::string &why);
    void refuse(ConnId conn, pcclResult_t code, const std::string &why);
    void refuse_late_strangers();
    void drop_past_deadlines();
    void settle();

    // master_recovery.cc: taking the place of a master that died
    void restore(const Record &record);
    static GraphRecord graph_record(const Group &group);
    Record record() const;
    void on_resume(ConnId conn, const wire::Resume &resume);
    void during_recovery(Peer &peer, const wire::ToMaster &message);
    void lost_again(Peer &peer);
    bool recovered() const;
    void finish_recovery();
    /// What the accounts of a group's members say together.
    struct Agreed {
        std::map<std::uint64_t, wire::Commit> commits;  ///< by number, from 0
        std::map<OpId, wire::OpFailed> failures;
        std::optional<wire::ForgetTags> forgotten;  ///< the last that any of them heard
    };
    using Accounts = std::map<PeerId, wire::Account>;
    void merge_run(const Accounts &accounts);
    Agreed merge_group(GroupId id, Group &group, const Accounts &accounts);
    void merge_freeze(GroupId id, Group &group, const Accounts &accounts);
    void catch_up(const Peer &peer, const wire::Account &account, const Agreed &agreed);
    void answer_again(const Peer &peer, const wire::Account &account);
    void merge_links(GroupId id, const Accounts &accounts);
    void commit_what_all_hold(GroupId id, Group &group, const Accounts &accounts);
    void lose_missing(const Recovery &recovery, const Accounts &accounts);

    // master_links.cc: who can talk to whom
    Pair &pair(PeerId a, PeerId b);
    const Pair *find_pair(PeerId a, PeerId b) const;
    void open_pair(PeerId a, PeerId b, PeerId dialler);
    void on_link_report(Peer &peer, const wire::LinkReport &report);
    void refresh_ready();
    void fit_newcomers(const std::set<PeerId> &absent);
    void refuse_hopeless();
    void retry_pairs();
    bool reopen_pair(PeerId a, PeerId b, FreezeState &freeze);
    bool all_settled(PeerId id, const std::vector<PeerId> &others) const;
    std::optional<std::vector<PeerId>> ring_of(const std::vector<PeerId> &ids) const;
    bool make_ready(std::vector<PeerId> &joined, const std::vector<PeerId> &newcomers);
    enum class Trust { steady, any };
    bool steady(const Pair &link) const;
    bool usable(const Pair &link, Trust trust) const { return trust == Trust::steady ? steady(link) : link.state == Pair::State::up; }
    topology::Matrix matrix_of(const std::vector<PeerId> &ids, Trust trust) const;
    bool full_mesh(const std::vector<PeerId> &ids) const;
    void set_ring(Group &group, const std::vector<PeerId> &ring);

    // master_islands.cc: peers that come and go together
    bool may_land(ConnId conn, const wire::Hello &hello);
    std::vector<PeerId> island_of(const Peer &peer) const;
    bool is_in_run(std::uint64_t island) const;
    bool island_is_whole(const Peer &peer) const { return island_of(peer).size() >= peer.island_peers; }
    std::set<PeerId> stranded(const std::set<PeerId> &known) const;
    void refuse_stranded();
    static pcclResult_t told_of_island(const Peer &peer, pcclResult_t code);
    std::vector<PeerId> first_of_run() const;

    // master_views.cc: the end of a view and the start of the next
    void begin_freeze(GroupId group, const std::string &why);
    void end_for_abort(GroupId group, const std::string &why);
    void member_lost(GroupId group, PeerId id, const std::string &why);
    void on_frozen(Peer &peer, const wire::Frozen &frozen);
    static void keep_carried(FreezeState &freeze, PeerId id, const std::vector<wire::CarriedOp> &carried);
    bool try_install(GroupId id, Group &group);
    bool retry_given_up(const std::vector<PeerId> &ids, FreezeState &freeze);
    static Ended end_calls_of(const FreezeState &freeze, const std::vector<PeerId> &ring);
    void publish_view(const std::set<GroupId> &changed, const std::map<GroupId, Ended> &ended, const std::string &why);
    bool any_frozen() const;
    std::vector<wire::GroupSize> group_sizes() const;
    wire::View view_of(const Group &group) const;

    // master_ops.cc: agreement on operations
    void on_done(Peer &peer, const wire::Done &done);
    void on_waiting(Peer &peer, const wire::Waiting &waiting);
    void on_op_fault(Peer &peer, const wire::OpFault &fault);
    void commit_complete(Group &group, const std::vector<PeerId> &members);
    void fail_op(GroupId id, Group &group, const wire::OpFailed &failed);

    // master_tags.cc: tags that nobody uses any more
    static void count_tags(Group &group, const wire::Commit &commit);
    void ask_tags(GroupId id, Group &group);
    void on_tags_in_use(Peer &peer, const wire::TagsInUse &answer);
    static void merge_tags(Group &group, const std::optional<wire::ForgetTags> &last);

    // master_calls.cc: calls that need everybody
    void on_vote(Peer &peer, wire::Call call, std::uint32_t number);
    void on_ask_pending(Peer &peer, const wire::AskPending &ask);
    void new_generation();
    void on_abort(Peer &peer);
    bool try_update();
    /// `decision`: 0 where it is for this peer alone.
    void call_done(Peer &peer, pcclResult_t code, const std::string &why, std::uint64_t decision);
    void decide_run(wire::Call call, pcclResult_t code, const std::string &why);
    void decide_sync(Group &group, pcclResult_t code, const std::string &why);
    void check_misuse();
    std::string describe_call(const Peer &peer) const;
    /// Two members whose calls wait for each other, and when that is no longer borne.
    struct Misuse {
        PeerId first, second;
        Time due;
    };
    std::optional<Misuse> conflict() const;
    std::optional<Misuse> crossed_calls() const;
    std::optional<Misuse> blocked_by_call(GroupId id, const Group &group) const;
    std::optional<Misuse> stuck_reduces(GroupId id, const Group &group) const;
    bool all_members_in(wire::Call call) const;

    // master_diagnosis.cc: who holds whom up
    void on_progress(Peer &peer, const wire::Progress &progress);
    void add_call(Situation &situation, wire::Call call, const std::vector<PeerId> &members) const;
    void add_operations(Situation &situation, const Group &group, const std::vector<PeerId> &members) const;
    Situation situation() const;
    void diagnose();

    // master_graph.cc: neighbours for gossip
    void on_set_graph(Peer &peer, const wire::SetGraph &asked);
    void update_graph(GroupId id);
    wire::Neighbours neighbours_of(const Peer &peer, std::uint32_t call) const;

    // master_probe.cc: measuring and reordering
    bool try_optimize();
    void start_optimize();
    void next_probe_round();
    void on_probe_report(Peer &peer, const wire::ProbeReport &report);
    void drop_dead_probes();
    void finish_optimize();

    // master_sync.cc: shared state
    bool try_sync(GroupId id, Group &group);
    void plan_wave(GroupId id, Group &group);
    void plan_pulls(SyncState &sync, Trust trust);
    void on_sync_done(Peer &peer, const wire::SyncDone &done);
    void commit_sync(GroupId id, Group &group);
    void on_state_fault(Peer &peer, const wire::StateFault &fault);
    void fail_sync(GroupId id, Group &group, pcclResult_t code, const std::string &why, PeerId culprit = {});

    Peer *member(PeerId id);
    std::vector<PeerId> members_of(GroupId group) const;
    std::size_t member_count() const;
    void send(const Peer &peer, wire::ToPeer message);
    void note(LogLevel level, std::string text);

    MasterOptions options_;
    std::function<Secret()> random_;
    Secret run_;
    Time now_;
    Time next_heartbeat_;
    MasterEffects *effects_ = nullptr;  ///< of the step in progress

    std::map<ConnId, std::pair<SocketAddress, Time>> strangers_;  ///< connected, not introduced; with their deadline
    std::set<std::pair<Time, ConnId>> stranger_deadlines_;        ///< the first is a stranger's, others may be history
    LogQuota refusals_;                                      ///< written to the log
    std::map<ConnId, PeerId> by_conn_;
    std::map<PeerId, Peer> peers_;
    std::map<std::pair<PeerId, PeerId>, Pair> pairs_;
    std::map<GroupId, Group> groups_;
    ViewNumber view_{0};
    struct Published {
        std::vector<wire::GroupSize> sizes;
        std::uint64_t generation = 0;
    } published_;  ///< what all groups were told with it
    std::uint64_t next_peer_ = 1;
    std::uint64_t reserved_peers_ = 1;  ///< those below may have been given, as far as the journal knows
    std::uint64_t next_freeze_ = 1;
    std::uint64_t next_sync_ = 1;
    std::uint64_t generation_ = 1;
    Answers answers_;        ///< of the run in this generation
    bool told_yes_ = false;  ///< somebody was, in this generation
    OptimizeState optimize_;
    Diagnosis diagnosis_;
    Alarms alarms_;
    std::optional<Time> misuse_due_;
    bool misuse_stale_ = false;  ///< somebody waits in another call than when it was last looked
    Time next_silence_;          ///< nobody can have been silent for too long before

    wire::Answer answer_;  ///< of the last call of the whole run
    std::uint64_t starts_ = 0;
    bool changed_ = false;  ///< what the journal holds is no longer so
    std::optional<Recovery> recovery_;
};

using pccl::to_string;

}  // namespace pccl::protocol

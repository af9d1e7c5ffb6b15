// A communicator: an I/O thread that executes the effects of protocol::Peer, and the interface through which other threads call
// it.
//
// Everything except the call interface belongs to the I/O thread. A caller posts its request and waits on its own PendingCall;
// the I/O thread never waits for a caller. Frames do not pass through here: see frame_consumer.h.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

#include "base/lookup.h"
#include "peer/control.h"
#include "peer/engine.h"
#include "peer/link_table.h"
#include "peer/message_transfer.h"
#include "peer/options.h"
#include "peer/post_office.h"
#include "peer/prober.h"
#include "peer/progress_reporter.h"
#include "peer/state_transfer.h"
#include "peer/tag_claims.h"
#include "peer/wait_hook.h"
#include "protocol/peer.h"

namespace pccl::peer {

/// A call in progress, shared by the thread that made it and the I/O thread.
struct PendingCall {
    std::atomic<bool> done{false};
    // Valid once `done` is set:
    pcclResult_t code = pcclSuccess;
    std::string why;
    bool pending = false;
    std::uint64_t revision = 0;
    bool committed = false;  ///< the operation's result is final; otherwise the caller must apply its undo log

    ReduceRequest reduce;
    TagClaims::Claim claim;  ///< held on the operation's tag until the operation has ended
    bool refused = false;    ///< it failed on the calling thread, and the I/O thread does not know of it
    std::shared_ptr<SyncSession> sync;

    std::atomic<bool> awaited{false};  ///< a thread waits for it
    std::thread::id waiter;            ///< once awaited

    void wait() {
        waiter = std::this_thread::get_id();
        awaited.store(true, std::memory_order_release);
        if (wait_hook().function)
            wait_with(wait_hook());
        else
            done.wait(false, std::memory_order_acquire);
    }
    /// The I/O thread does not use the object after this.
    void end() {
        claim.release();
        {
            const std::lock_guard lock(mutex_);
            done.store(true, std::memory_order_release);
        }
        done.notify_all();
        ended_.notify_all();
    }

private:
    void wait_with(WaitHook hook);

    std::mutex mutex_;  ///< for `ended_`, which is used for waiting with a hook
    std::condition_variable ended_;
};
using CallPtr = std::shared_ptr<PendingCall>;

class Runtime final : LinkOwner, EngineHost, StateTransferHost, ProberHost, ControlHost {
public:
    explicit Runtime(const Options &options);
    /// Leaves the run. No other thread may be in a call.
    ~Runtime() override;

    // Thread-safe. Each returns without waiting; the caller waits on the call.
    CallPtr connect();
    CallPtr update_topology();
    CallPtr are_peers_pending();
    CallPtr optimize_topology();
    CallPtr set_graph(const wire::GraphSpec &graph);
    /// All-reduce, reduce-scatter or all-gather. Refused at once if an operation with this tag is in flight.
    CallPtr reduce(Tag tag, const ReduceRequest &request);
    CallPtr synchronize(std::shared_ptr<SyncSession> session, wire::OfferState offer);
    /// Discards the error-feedback residual of operations with this tag.
    void drop_residual(Tag tag) { residuals_.drop(tag); }
    void abort();
    /// The number of calls of abort(). A caller that retries after losses stops when it changes.
    std::uint64_t aborts() const { return aborts_; }

    /// The state of the group at one moment.
    struct GroupSnapshot {
        std::uint64_t run = 0;  ///< a checksum of the run's id
        PeerId self;
        ViewNumber epoch;               ///< 0: not connected
        std::vector<PeerId> members;    ///< in the order in which they joined
        std::uint64_t graph_epoch = 0;  ///< of the graph; 0: none is set
        std::vector<PeerId> neighbours;
    };
    GroupSnapshot group() const;
    /// PostOffice::await() waits for its outcome. At `deadline` the message is withdrawn.
    PostPtr post(PeerId to, Tag tag, const std::byte *data, std::size_t bytes, std::optional<Time> deadline);
    /// PostOffice::take(), and lets waiting senders use the room.
    Status take_message(Tag tag, std::size_t capacity, std::optional<Time> deadline, Message &out);
    /// Messages that wait for room are checked against the new limits.
    void set_mailbox(const PostOffice::Limits &limits);
    PostOffice &office() { return office_; }

    /// An Error in a fork of the process that made the communicator: its threads and connections do not exist in the fork.
    Status check_process() const;
    bool forked() const;
    /// An Error if this peer is not connected: it never was, or the connection ended, or this is a fork.
    Status check_connected() const;
    /// True if this peer is connected and is the only peer of its group at present.
    bool alone() const { return alone_; }
    /// The world as of the last call that returned.
    protocol::World world() const;

private:
    void record_caller();
    wire::Blocked blocked();
    void examine(const std::vector<OpId> &ops);
    CallPtr submit(CallPtr call, std::function<protocol::PeerInput(protocol::CallId)> make);
    void prepare_to_connect(const CallPtr &call, protocol::CallId id);
    void resolve_advertised(protocol::CallId id);
    void advertise(protocol::CallId id, const IpAddress &ip);
    void fail_call(protocol::CallId id, const Error &error);
    void fail_resolving(const Error &error);
    void feed(protocol::PeerInput input);
    void execute(protocol::PeerEffect &effect);
    void finish(protocol::CallId id, const protocol::Complete &complete);
    void dial_master();
    void tick();
    void serve();
    void serve_some(std::optional<Time> &idle_since);
    void enter(protocol::CallId id, const CallPtr &call);
    void leave_after_exception(const char *what);
    void reset(const char *what);
    void end_membership(pcclResult_t code, const std::string &why);
    void record_members(const protocol::StartEpoch &epoch);

    void on_link_up(Link &link) override;
    void on_link_down(Link &link, const std::string &why) override;
    void op_finished(const OpId &op) override;
    void op_broken(const OpId &op, pcclResult_t code, const std::string &why, bool own) override;
    void state_pulled(std::uint64_t sync, bool ok, const std::string &why) override;
    void offer_spoiled(std::uint64_t sync, const std::string &tensor, const char *what) override;
    void probe_finished(std::uint64_t round, PeerId to, double mbit_per_s) override;
    void control_up() override;
    void control_message(wire::ToPeer message) override;
    void control_heard() override;
    void control_down(const std::string &why) override;

    Options options_;
    Residuals residuals_;
    asio::io_context io_{1};
    asio::executor_work_guard<asio::io_context::executor_type> work_;
    asio::steady_timer ticker_;
    protocol::Peer peer_;
    LinkTable links_;
    Engine engine_;
    ProgressReporter progress_reporter_;
    StateTransfer transfer_;
    Prober prober_;
    PostOffice office_;
    MessageTransfer messages_;
    /// A call to connect whose advertised host name is being resolved.
    struct Resolving {
        explicit Resolving(asio::io_context &io) : timeout(io) {}
        asio::steady_timer timeout;
        std::optional<Lookup> lookup;
    };
    std::map<protocol::CallId, Resolving> resolving_;
    std::shared_ptr<Control> control_;
    std::size_t master_ = 0;               ///< index of the address that is dialled, or was dialled last
    std::size_t masters_to_try_ = 0;       ///< addresses after the one that is being dialled
    std::optional<Time> master_up_since_;  ///< when the control connection came up; empty: it is down
    bool listening_ = false;
    bool leaving_ = false;

    std::deque<protocol::PeerInput> inputs_;
    protocol::PeerEffects effects_;
    bool feeding_ = false;
    std::unique_ptr<std::byte[]> reserve_;  ///< freed when the process is out of memory, so that calls can end with an error
    std::map<protocol::CallId, CallPtr> calls_;
    const int generation_;  ///< fork_generation() of the process that made this object
    const pid_t process_;
    const std::uint64_t instance_;  ///< number of this object among all that the process ever made
    std::mutex callers_mutex_;
    std::set<std::thread::id> callers_;  ///< threads that have made calls
    std::atomic<std::uint64_t> next_call_{1};
    std::atomic<std::uint64_t> aborts_{0};

    std::shared_ptr<TagClaims> tags_in_flight_ = std::make_shared<TagClaims>();
    std::atomic<bool> connected_{false};
    std::atomic<bool> alone_{false};
    mutable std::mutex world_mutex_;
    protocol::World world_;
    GroupSnapshot group_;
    std::optional<Error> ended_;  ///< why the last connection ended; empty if this peer ended it
    std::thread thread_;          ///< the last member, because it uses all the others
};

}  // namespace pccl::peer

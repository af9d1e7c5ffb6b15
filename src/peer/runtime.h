// One communicator at work: an I/O thread that carries out what protocol::Peer decides, and the calls of other threads into it.
//
// All members but the call interface belong to the I/O thread. A caller posts its request and waits on its own Call; the I/O thread
// never waits for a caller.
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
#include "peer/exchange.h"
#include "peer/link_table.h"
#include "peer/options.h"
#include "peer/post_office.h"
#include "peer/prober.h"
#include "peer/progress_reporter.h"
#include "peer/state_transfer.h"
#include "peer/tag_claims.h"
#include "peer/wait_hook.h"
#include "protocol/peer.h"

namespace pccl::peer {

/// A call on its way, shared by the thread that made it and the I/O thread.
struct Call {
    std::atomic<bool> done{false};
    // Valid once done:
    pcclResult_t code = pcclSuccess;
    std::string why;
    bool pending = false;
    std::uint64_t revision = 0;
    bool committed = false;  ///< the operation's result stands; else its undo log is to be applied

    ReduceRequest reduce;
    TagClaims::Claim claim;  ///< of an operation's tag, until it has ended
    bool refused = false;    ///< it ended where it was made, and nobody else knows of it
    std::shared_ptr<SyncSession> sync;

    std::atomic<bool> awaited{false};  ///< a thread waits for it
    std::thread::id waiter;            ///< once awaited

    void wait() {
        waiter = std::this_thread::get_id();
        awaited.store(true, std::memory_order_release);
        if (wait_hook().function) wait_with(wait_hook());
        else done.wait(false, std::memory_order_acquire);
    }
    /// The last that the I/O thread does with it.
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

    std::mutex mutex_;  ///< with `ended_`, for waiting with a hook
    std::condition_variable ended_;
};
using CallPtr = std::shared_ptr<Call>;

class Runtime final : LinkOwner, EngineHost, StateTransferHost, ProberHost, ControlHost {
public:
    explicit Runtime(const Options &options);
    /// Leaves the run. No other thread may be in a call.
    ~Runtime() override;

    // From any thread. Each returns at once; wait on the call.
    CallPtr connect();
    CallPtr update_topology();
    CallPtr are_peers_pending();
    CallPtr optimize_topology();
    CallPtr set_graph(const wire::GraphSpec &graph);
    /// All-reduce, reduce-scatter or all-gather. A call whose tag names an operation that has not ended is refused at once.
    CallPtr reduce(Tag tag, const ReduceRequest &request);
    CallPtr synchronize(std::shared_ptr<SyncSession> session, wire::OfferState offer);
    /// Forgets what quantization took from operations with this tag.
    void drop_residual(Tag tag) { residuals_.drop(tag); }
    void abort();
    /// How often that was called. Who tries again after losses asks it whether to stop.
    std::uint64_t aborts() const { return aborts_; }

    /// Who is in the group, as of now.
    struct Membership {
        std::uint64_t run = 0;  ///< which one, in short
        PeerId self;
        ViewNumber epoch;  ///< 0: not connected
        std::vector<PeerId> members;  ///< in the order in which they joined
        std::uint64_t graph_epoch = 0;   ///< 0: no graph was set
        std::vector<PeerId> neighbours;
    };
    Membership membership() const;
    /// Await it with the office. `deadline`: to be withdrawn then.
    PostPtr post(PeerId to, Tag tag, const std::byte *data, std::size_t bytes, std::optional<Time> deadline);
    /// As PostOffice::take.
    Status take_message(Tag tag, std::size_t capacity, std::optional<Time> deadline, Message &out);
    /// After it, messages that wait for room are looked at again.
    void set_mailbox(const PostOffice::Limits &limits);
    PostOffice &office() { return office_; }

    /// An Error in a fork of the process that made it: the threads and connections are not here.
    Status check_process() const;
    bool forked() const;
    /// An Error that says why not: never connected, or how the connection ended, or a fork.
    Status check_connected() const;
    /// Connected, and no other peer is in the group, as of now.
    bool alone() const { return alone_; }
    /// As the last call that returned saw it.
    protocol::World world() const;

private:
    void note_caller();
    wire::Blocked blocked();
    void examine(const std::vector<OpId> &ops);
    CallPtr submit(CallPtr call, std::function<protocol::PeerInput(protocol::CallId)> make);
    void prepare_to_connect(const CallPtr &call, protocol::CallId id);
    void find_advertised(protocol::CallId id);
    void advertise(protocol::CallId id, const IpAddress &ip);
    void give_up(protocol::CallId id, const Error &error);
    void give_up_finding(const Error &error);
    void feed(protocol::PeerInput input);
    void carry_out(protocol::PeerEffect &effect);
    void finish(protocol::CallId id, const protocol::Complete &complete);
    void dial_master();
    void drop_link(PeerId other);
    void tick();
    void serve();
    void serve_some(std::optional<Time> &idle_since);
    void enter(protocol::CallId id, const CallPtr &call);
    void collapse(const char *what);
    void give_up_everything(const char *why);
    void ended(pcclResult_t code, const std::string &why);
    void note_members(const protocol::StartEpoch &epoch);

    Intake on_link_header(Link &link, const wire::FrameHeader &header) override;
    bool on_link_frame(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    void on_link_damaged(Link &link, const wire::FrameHeader &header) override;
    void on_link_asked_again(Link &link, const wire::FrameHeader &header) override;
    void on_link_unwritable(Link &link, const wire::FrameHeader &header) override;
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
    Exchange exchange_;
    /// A call to connect whose advertised name is being resolved.
    struct Finding {
        explicit Finding(asio::io_context &io) : limit(io) {}
        asio::steady_timer limit;
        std::optional<Lookup> lookup;
    };
    std::map<protocol::CallId, Finding> finding_;
    std::shared_ptr<Control> control_;
    std::size_t master_ = 0;          ///< which of the addresses is dialled, or was dialled last
    std::size_t masters_to_try_ = 0;  ///< after the one that is being dialled
    std::optional<Time> master_since_;  ///< since when the control connection stands
    bool listening_ = false;
    bool leaving_ = false;

    std::deque<protocol::PeerInput> inputs_;
    protocol::PeerEffects effects_;
    bool feeding_ = false;
    std::unique_ptr<std::byte[]> reserve_;  ///< memory to end in good order with when there is none
    std::map<protocol::CallId, CallPtr> calls_;
    const int generation_;  ///< fork_generation() of the process that made it
    const pid_t process_;
    const std::uint64_t instance_;  ///< of all that this process ever made
    std::mutex callers_mutex_;
    std::set<std::thread::id> callers_;  ///< threads that have made calls
    std::atomic<std::uint64_t> next_call_{1};
    std::atomic<std::uint64_t> aborts_{0};

    std::shared_ptr<TagClaims> tags_in_flight_ = std::make_shared<TagClaims>();
    std::atomic<bool> connected_{false};
    std::atomic<bool> alone_{false};
    mutable std::mutex world_mutex_;
    protocol::World world_;
    Membership membership_;
    std::optional<Error> ended_;  ///< how the last connection ended, unless by this peer's own will
    std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace pccl::peer

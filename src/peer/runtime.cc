// See runtime.h.
#include "peer/runtime.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include <asio/post.hpp>

#include "base/descriptors.h"
#include "base/float_mode.h"
#include "base/log.h"
#include "base/threads.h"
#include "kernel/finite.h"
#include "kernel/hash.h"

namespace pccl::peer {

using namespace protocol;

namespace {

/// Interval of the timer that drives the protocol, whose shortest deadline is 100 ms.
constexpr Duration kTick = std::chrono::milliseconds(25);

/// Shortest time without an acknowledgement after which a path is given up. Applies if the heartbeat timeout is shorter.
constexpr Duration kLeastDeadAfter = std::chrono::seconds(1);

/// The I/O thread yields for this long before it sleeps while a frame is expected soon: sleeping and waking take longer than most
/// waits for a frame. Other threads can use the core meanwhile. A thread that computes keeps the core for longer than this, so
/// then the I/O thread sleeps at once.
constexpr Duration kSpinTime = std::chrono::milliseconds(1);

constexpr std::size_t kReserve = std::size_t{1} << 20;

PeerOptions peer_options(const Options &options) {
    PeerOptions result;
    result.group = options.group;
    result.lanes = options.lanes;
    result.island = options.island;
    result.island_peers = options.island_peers;
    result.master_limit = options.master_limit;
    return result;
}

std::uint64_t next_instance() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

/// Why an operation that requires finite elements must fail; empty if all are finite.
std::string not_finite(const ReduceRequest &request) {
    const auto inputs = request.inputs();
    const std::size_t count = inputs.count,
                      first = kernel::first_not_finite(request.spec.type, request.input(inputs.begin), count);
    if (first == count) return "";
    return "element " + std::to_string(first) +
           " of sendbuff is infinite or not a number. Correct it, or let this peer contribute zeros";
}

/// A small operation often ends before a sleeping thread would wake up. std::atomic's wait yields as often.
constexpr int kYieldsBeforeWait = 4;

}  // namespace

void PendingCall::wait_with(WaitHook hook) {
    for (int i = 0; i < kYieldsBeforeWait; ++i) {
        if (done.load(std::memory_order_acquire)) return;
        std::this_thread::yield();
    }
    std::unique_lock lock(mutex_);
    while (!ended_.wait_for(lock, kWaitHookInterval, [this] { return done.load(std::memory_order_acquire); })) {
        lock.unlock();
        hook.function(hook.context);
        lock.lock();
    }
}

Runtime::Runtime(const Options &options)
    : options_(options), work_(io_.get_executor()), ticker_(io_), peer_(peer_options(options)), links_(io_, *this, options_),
      engine_(*this, links_), progress_reporter_(engine_, links_), transfer_(*this, links_), prober_(*this, links_),
      messages_(links_, office_), generation_(fork_generation()), process_(::getpid()), instance_(next_instance()) {
    for (FrameConsumer *consumer : std::initializer_list<FrameConsumer *>{&engine_, &transfer_, &prober_, &messages_}) {
        links_.add_consumer(*consumer);
    }
    thread_ = start_without_signals([this] {
        const FloatMode mode;  // the creating thread, whose mode this one inherits, may flush denormals to zero
        pthread_setname_np(pthread_self(), "pccl-io");
        serve();
    });
}

Runtime::~Runtime() {
    try {
        asio::post(io_, [this] {
            leaving_ = true;
            fail_resolving({pcclRankConnectionLost, "this peer left the run"});
            feed(LeaveRun{});
            const auto stop = [this] { io_.stop(); };
            if (control_)
                control_->hang_up(stop);
            else
                stop();
        });
    } catch (const std::exception &) {
        io_.stop();  // out of memory: no Leave is sent, and the other peers see the connections end
    }
    thread_.join();
}

// -------------------------------------------------------------------------------------------------------------- any thread --

/// Records each thread that calls, so that the master can be informed whether all of them wait.
void Runtime::record_caller() {
    thread_local std::uint64_t recorded = 0;
    if (recorded == instance_) return;
    recorded = instance_;
    const std::lock_guard lock(callers_mutex_);
    callers_.insert(std::this_thread::get_id());
}

CallPtr Runtime::submit(CallPtr call, std::function<PeerInput(CallId)> make) {
    record_caller();
    const CallId id{next_call_++};
    asio::post(io_, [this, call, id, make = std::move(make)] {
        enter(id, call);
        feed(make(id));
    });
    return call;
}

CallPtr Runtime::connect() {
    record_caller();
    auto call = std::make_shared<PendingCall>();
    const CallId id{next_call_++};
    asio::post(io_, [this, call, id] { prepare_to_connect(call, id); });
    return call;
}
CallPtr Runtime::update_topology() {
    return submit(std::make_shared<PendingCall>(), [](CallId id) { return UpdateTopology{id}; });
}
CallPtr Runtime::are_peers_pending() {
    return submit(std::make_shared<PendingCall>(), [](CallId id) { return ArePending{id}; });
}
CallPtr Runtime::optimize_topology() {
    return submit(std::make_shared<PendingCall>(), [](CallId id) { return OptimizeTopology{id}; });
}
CallPtr Runtime::set_graph(const wire::GraphSpec &graph) {
    return submit(std::make_shared<PendingCall>(), [graph](CallId id) { return SetGraph{id, graph}; });
}
CallPtr Runtime::reduce(Tag tag, const ReduceRequest &request) {
    auto call = std::make_shared<PendingCall>();
    call->claim = TagClaims::claim(tags_in_flight_, tag);
    if (!call->claim) {
        call->refused = true;
        call->code = pcclInvalidUsage;
        call->why = "tag " + std::to_string(tag.value) +
                    " names an operation that is in flight. Await that operation first, or use another tag";
        call->end();
        return call;
    }
    call->reduce.send = request.send;
    call->reduce.recv = request.recv;
    call->reduce.spec = request.spec;
    call->reduce.shard = request.shard;
    call->reduce.membership = request.membership;
    if (request.check_finite) call->reduce.refusal = not_finite(request);
    // Allocated on the calling thread, where a lack of memory fails this call only.
    call->reduce.begin_undo();
    if (request.spec.error_feedback) {
        bool replaced = false;
        call->reduce.residual = residuals_.of(tag, request.spec.count, request.spec.type, replaced);
        call->reduce.next_residual = call->reduce.residual->allocate();
        if (replaced) {
            PCCL_LOG_WARN("the operation with tag %llu has another count or type than the last: its error-feedback residual is "
                          "reset to zero",
                          static_cast<unsigned long long>(tag.value));
        }
    }
    return submit(call, [tag, policy = request.spec.on_peer_loss](CallId id) { return PostReduce{id, tag, policy}; });
}
CallPtr Runtime::synchronize(std::shared_ptr<SyncSession> session, wire::OfferState offer) {
    record_caller();
    auto call = std::make_shared<PendingCall>();
    call->sync = session;
    const CallId id{next_call_++};
    asio::post(io_, [this, call, id, session, offer = std::move(offer)] {
        enter(id, call);
        feed(Synchronize{id, offer});
        if (calls_.contains(id))
            transfer_.offer(session);  // the call was not refused; no peer can request the state before the next event
    });
    return call;
}
void Runtime::abort() {
    ++aborts_;
    office_.abort();
    asio::post(io_, [this] {
        fail_resolving({pcclRankConnectionLost, "pcclAbort was called"});
        feed(AbortCalls{});
    });
}

PostPtr Runtime::post(PeerId to, Tag tag, const std::byte *data, std::size_t bytes, std::optional<Time> deadline) {
    record_caller();
    auto post = std::make_shared<Post>();
    post->to = to;
    post->tag = tag;
    post->data = data;
    post->bytes = bytes;
    post->deadline = deadline;
    asio::post(io_, [this, post] { messages_.post(post); });
    return post;
}

Status Runtime::take_message(Tag tag, std::size_t capacity, std::optional<Time> deadline, Message &out) {
    record_caller();
    auto taken = office_.take(tag, capacity, deadline, out);
    if (!taken) return taken;
    try {
        asio::post(io_, [this] { messages_.room_made(); });
    } catch (const std::exception &) {  // the caller has the message; the next tick also looks for room
    }
    return taken;
}

void Runtime::set_mailbox(const PostOffice::Limits &limits) {
    office_.set_limits(limits);
    asio::post(io_, [this] { messages_.room_made(); });
}

Runtime::GroupSnapshot Runtime::group() const {
    const std::lock_guard lock(world_mutex_);
    return group_;
}

bool Runtime::forked() const { return generation_ != fork_generation(); }

Status Runtime::check_process() const {
    if (!forked()) return {};
    return Error{pcclInvalidUsage, "this communicator belongs to process " + std::to_string(process_) +
                                       ", of which this process is a fork. Create a communicator in this process"};
}

Status Runtime::check_connected() const {
    if (const auto status = check_process(); !status) return status;
    if (connected_) return {};
    const std::lock_guard lock(world_mutex_);
    if (ended_) return *ended_;
    return Error{pcclInvalidUsage, "not connected: call pcclConnect first"};
}

World Runtime::world() const {
    const std::lock_guard lock(world_mutex_);
    return world_;
}

// --------------------------------------------------------------------------------------------------------------- I/O thread --

void Runtime::serve() {
    bool ticking = false;
    std::optional<Time> idle_since;
    while (!io_.stopped()) {
        try {
            if (!std::exchange(ticking, true)) {
                reserve_.reset(new std::byte[kReserve]);
                tick();
            }
            serve_some(idle_since);
        } catch (const std::bad_alloc &error) {
            leave_after_exception(words_of(error));
        } catch (const std::exception &error) {
            leave_after_exception(error.what());
        }
    }
}

void Runtime::serve_some(std::optional<Time> &idle_since) {
    if (io_.poll() > 0) return idle_since.reset();
    if (engine_.should_spin()) {
        const Time now = monotonic_now();
        if (!idle_since) idle_since = now;
        if (now - *idle_since < kSpinTime) return std::this_thread::yield();
    }
    io_.run_one();
    idle_since.reset();
}

/// An exception was thrown, most likely because memory ran out. The state that it left is unknown, so the membership ends, and
/// every call fails. The process continues, and the caller can connect again.
void Runtime::leave_after_exception(const char *what) {
    reserve_.reset();
    try {
        log(LogLevel::error, "the communicator leaves the run because of an exception: %s", what);
    } catch (...) {
    }
    for (bool done = false; !done;) {
        try {
            reset(what);
            done = true;
        } catch (...) {  // other threads may free memory
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    }
    reserve_.reset(new (std::nothrow) std::byte[kReserve]);
}

/// May be repeated from the start if it throws.
void Runtime::reset(const char *what) {
    inputs_.clear();
    effects_.clear();
    feeding_ = false;
    links_.clear({pcclInternalError, what});
    resolving_.clear();
    if (control_) control_->drop();
    control_.reset();
    master_up_since_.reset();
    peer_ = Peer(peer_options(options_));
    const Error error{pcclInternalError, std::string(what) + ": this peer has left the run. Call pcclConnect to join again"};
    end_membership(error.code, error.what);
    while (!calls_.empty()) {
        Complete complete{calls_.begin()->first, error.code, error.what, {}};
        finish(complete.call, complete);
    }
    if (leaving_) return io_.stop();
    links_.start_over();
    ticker_.cancel();
    tick();
}

wire::Blocked Runtime::blocked() {
    std::set<std::thread::id> waiting;
    for (const auto &[id, call] : calls_) {
        if (call->reduce.spec.count > 0 && call->awaited.load(std::memory_order_acquire)) waiting.insert(call->waiter);
    }
    if (waiting.empty()) return wire::Blocked::none;
    const std::lock_guard lock(callers_mutex_);
    return std::ranges::includes(waiting, callers_) ? wire::Blocked::all : wire::Blocked::some;
}

void Runtime::examine(const std::vector<OpId> &ops) {
    ProgressReported examined{progress_reporter_.report(monotonic_now(), ops)};
    for (auto &op : examined.progress.ops) {
        const Operation *operation = engine_.find(op.op);
        op.awaited = std::ranges::any_of(calls_, [&](const auto &entry) {
            return &entry.second->reduce == &operation->request() && entry.second->awaited.load(std::memory_order_relaxed);
        });
    }
    feed(std::move(examined));
}

void Runtime::tick() {
    feed(PeerTick{blocked()});
    links_.tick(monotonic_now(), master_up_since_);
    ticker_.expires_after(kTick);
    ticker_.async_wait([this](const asio::error_code &error) {
        if (!error) tick();
    });
}

void Runtime::prepare_to_connect(const CallPtr &call, CallId id) {
    enter(id, call);
    if (!listening_) {
        if (const auto status = links_.listen(); !status) return fail_call(id, status.error());
        listening_ = true;
    }
    if (options_.advertise.host.empty()) return advertise(id, {});
    if (const auto ip = parse_ip(options_.advertise.host)) return advertise(id, *ip);
    resolve_advertised(id);
}

/// Another thread resolves the name and posts the result to this one.
void Runtime::resolve_advertised(CallId id) {
    Resolving &resolving = resolving_.try_emplace(id, io_).first->second;
    const std::string failed = "cannot resolve advertise_address '" + options_.advertise.host + "': ";
    resolving.timeout.expires_after(options_.connect_timeout);
    resolving.timeout.async_wait([this, id, failed](const asio::error_code &error) {
        if (error || resolving_.erase(id) == 0) return;
        fail_call(id, {pcclMasterConnectionFailed, failed + "no answer from the name server within " +
                                                       to_string(options_.connect_timeout) +
                                                       ". Give an IP address, or check the name server"});
    });
    resolving.lookup.emplace(options_.advertise.host, [this, id, failed](const Result<Lookup::Addresses> &result) {
        asio::post(io_, [this, id, failed, result] {
            if (resolving_.erase(id) == 0) return;
            if (!result) return fail_call(id, {pcclInvalidArgument, failed + result.error().what});
            advertise(id, result->front());
        });
    });
}

void Runtime::advertise(CallId id, const IpAddress &ip) {
    SocketAddress advertised{ip, options_.advertise.port != 0 ? options_.advertise.port : links_.port()};
    advertised.ip.zone = 0;  // a zone is valid on its own host only
    peer_.set_advertised(advertised);
    feed(Connect{id});
}

void Runtime::fail_call(CallId id, const Error &error) {
    Complete complete{id, error.code, error.what, {}};
    finish(id, complete);
}

void Runtime::fail_resolving(const Error &error) {
    while (!resolving_.empty()) {
        const CallId id = resolving_.begin()->first;
        resolving_.erase(resolving_.begin());
        fail_call(id, error);
    }
}

/// Effects can cause further inputs, for example a link that fails at once. These wait until the effects of the first are
/// executed.
void Runtime::feed(PeerInput input) {
    inputs_.push_back(std::move(input));
    if (feeding_) return;
    feeding_ = true;
    while (!inputs_.empty()) {
        const PeerInput next = std::move(inputs_.front());
        inputs_.pop_front();
        effects_.clear();
        peer_.step(monotonic_now(), next, effects_);
        PeerEffects effects;
        effects.swap(effects_);
        for (auto &effect : effects)
            execute(effect);
        effects.swap(effects_);  // reuses its memory
    }
    feeding_ = false;
    if (control_) control_->flush();
}

void Runtime::execute(PeerEffect &effect) {
    struct Do {
        Runtime &self;
        void operator()(DialMaster &) {
            self.masters_to_try_ = self.options_.masters.size();
            self.dial_master();
        }
        void operator()(HangUp &) {
            if (self.control_) self.control_->hang_up();
        }
        void operator()(SendToMaster &e) {
            if (self.control_) self.control_->send(e.message);
        }
        void operator()(Complete &e) { self.finish(e.call, e); }
        void operator()(MakeLink &e) { self.links_.make(e.link); }
        void operator()(DropLink &e) {
            self.links_.drop(e.other);
            self.messages_.peer_gone(e.other);
        }
        void operator()(DropAllLinks &e) {
            self.end_membership(e.code, e.why);
            // When leaving, links stay open until the master has received Leave. Otherwise it would take their end for a loss.
            if (!self.leaving_) self.links_.drop_all();
            self.messages_.end(e.code, e.why);
        }
        void operator()(StartEpoch &e) {
            self.record_members(e);
            self.engine_.start_epoch(e, self.peer_.id());
        }
        void operator()(StartOp &e) { self.engine_.start(e.op, self.calls_.at(e.call)->reduce); }
        void operator()(EndOp &e) {
            self.engine_.end(e.op, e.committed);
            self.calls_.at(e.call)->committed = e.committed;
        }
        void operator()(CarryOps &e) { self.feed(OpsCarried{self.engine_.carry(e.ops)}); }
        void operator()(DropTags &e) { self.engine_.drop_tags(e); }
        void operator()(StartProbe &e) { self.prober_.start(e.probe); }
        void operator()(StartPull &e) { self.transfer_.pull(e.plan); }
        void operator()(EndSync &e) { self.transfer_.end(e.sync); }
        void operator()(ReportProgress &e) { self.examine(e.ops); }
        void operator()(Log &e) {
            if (log_enabled(e.level)) log(e.level, "%s: %s", to_string(self.peer_.id()).c_str(), e.text.c_str());
        }
    };
    std::visit(Do{*this}, effect);
}

void Runtime::record_members(const StartEpoch &epoch) {
    auto members = epoch.ring;
    std::ranges::sort(members);
    messages_.set_members(members);
    const std::lock_guard lock(world_mutex_);
    group_.self = peer_.id();
    group_.epoch = epoch.epoch;
    alone_ = members.size() == 1;
    group_.members = std::move(members);
}

/// If a call cannot be recorded for want of memory, it ends at once, so that its caller does not wait forever.
void Runtime::enter(CallId id, const CallPtr &call) {
    try {
        calls_[id] = call;
    } catch (...) {
        call->code = pcclInternalError;
        call->why = "out of memory";  // short enough to need no allocation
        call->end();
        throw;
    }
}

void Runtime::finish(CallId id, const Complete &complete) {
    const auto found = calls_.find(id);
    if (found == calls_.end()) return;
    const CallPtr call = found->second;
    call->why = complete.why;  // may throw; then the call is still recorded
    calls_.erase(found);
    call->code = complete.code;
    call->pending = complete.pending;
    call->revision = complete.revision;
    {
        const std::lock_guard lock(world_mutex_);
        world_ = complete.world;
        if (complete.world.global > 0 && !connected_) {
            connected_ = true;
            ended_.reset();
        }
    }
    call->end();
}

void Runtime::on_link_up(Link &link) {
    const auto round_trip_us = std::clamp<Duration::rep>(link.round_trip().count(), 0, UINT32_MAX);
    feed(LinkEvent{link.other(), link.attempt(), true, "", static_cast<std::uint32_t>(round_trip_us)});
}

void Runtime::on_link_down(Link &link, const std::string &why) { feed(LinkEvent{link.other(), link.attempt(), false, why, 0}); }

void Runtime::op_finished(const OpId &op) { feed(OpFinished{op}); }
void Runtime::op_broken(const OpId &op, pcclResult_t code, const std::string &why, bool own) {
    feed(OpBroken{op, code, why, own});
}
void Runtime::state_pulled(std::uint64_t sync, bool ok, const std::string &why) { feed(SyncPulled{sync, ok, why}); }
void Runtime::offer_spoiled(std::uint64_t sync, const std::string &tensor, const char *what) {
    feed(OfferSpoiled{sync, "tensor '" + tensor + "' was " + what + " while pcclSynchronizeSharedState ran, by the program of " +
                                to_string(peer_.id()) + ". Do not change the tensors until the call has returned"});
}
void Runtime::probe_finished(std::uint64_t round, PeerId to, double mbit) { feed(ProbeFinished{round, to, mbit}); }

void Runtime::dial_master() {
    --masters_to_try_;
    control_ = std::make_shared<Control>(io_, static_cast<ControlHost &>(*this));
    control_->dial(options_.masters[master_ % options_.masters.size()], options_.connect_timeout);
}

void Runtime::control_up() {
    masters_to_try_ = 0;
    master_up_since_ = monotonic_now();
    links_.set_zone(control_->zone());
    feed(MasterUp{});
}

void Runtime::control_message(wire::ToPeer message) {
    if (const auto *welcome = std::get_if<wire::Welcome>(&message)) {
        links_.set_identity(welcome->run, welcome->you, std::max(kLeastDeadAfter, heartbeat_timeout(*welcome)));
        const std::lock_guard lock(world_mutex_);
        group_.run = kernel::checksum(welcome->run.data(), welcome->run.size());
    }
    if (const auto *told = std::get_if<wire::Neighbours>(&message); told && told->code == pcclSuccess) {
        const std::lock_guard lock(world_mutex_);
        group_.graph_epoch = told->epoch;
        group_.neighbours = told->neighbours;
    }
    feed(FromMaster{std::move(message)});
}

void Runtime::control_heard() { feed(MasterBytesReceived{}); }

void Runtime::control_down(const std::string &why) {
    master_up_since_.reset();
    ++master_;  // the next attempt dials the next address
    if (masters_to_try_ > 0) return dial_master();
    feed(MasterDown{why});
}

/// Called before the calls in progress end, so that calls made after them fail, too.
void Runtime::end_membership(pcclResult_t code, const std::string &why) {
    const std::lock_guard lock(world_mutex_);
    if (connected_) ended_ = Error{code, why};
    connected_ = false;
    alone_ = false;
    group_ = {};
}

}  // namespace pccl::peer

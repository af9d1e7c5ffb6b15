#include "peer/runtime.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include <asio/post.hpp>

#include "base/descriptors.h"
#include "base/float_mode.h"
#include "base/log.h"
#include "kernel/finite.h"
#include "kernel/hash.h"

namespace pccl::peer {

using namespace protocol;

namespace {

/// How often the protocol is asked whether something is due; its finest deadline is a tenth of a second.
constexpr Duration kTick = std::chrono::milliseconds(25);

/// A path that swallows packets for less is not given up, however short the heartbeat timeout.
constexpr Duration kLeastDeadAfter = std::chrono::seconds(1);

/// Before the I/O thread sleeps where something is expected soon: falling asleep and waking up take longer than most of what it waits for.
/// Other threads have the core meanwhile, if they want it; one that computes keeps it for longer than this, so then it sleeps at once.
constexpr Duration kTriesFor = std::chrono::milliseconds(1);

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

/// Why an operation that asks for finite elements must fail; empty if it need not.
std::string not_finite(const ReduceRequest &request) {
    const auto inputs = request.inputs();
    const std::size_t count = inputs.count, first = kernel::first_not_finite(request.spec.type, request.input(inputs.begin), count);
    if (first == count) return "";
    return "element " + std::to_string(first) + " of sendbuff is infinite or not a number. Correct it, or have that peer contribute zeros";
}

/// Signals belong to the trainer's threads.
void block_signals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

/// Results of small operations are often there before a sleeping thread would be awake. As std::atomic's wait does it.
constexpr int kYieldsBeforeWait = 4;

}  // namespace

void Call::wait_with(WaitHook hook) {
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
      exchange_(links_, office_), generation_(fork_generation()), process_(::getpid()), instance_(next_instance()) {
    thread_ = std::thread([this] {
        block_signals();
        const FloatMode mode;  // the thread has inherited its creator's, who may flush denormals
        pthread_setname_np(pthread_self(), "pccl-io");
        serve();
    });
}

Runtime::~Runtime() {
    try {
        asio::post(io_, [this] {
            leaving_ = true;
            give_up_finding({pcclRankConnectionLost, "this peer left the run"});
            feed(LeaveRun{});
            const auto stop = [this] { io_.stop(); };
            if (control_) control_->hang_up(stop);
            else stop();
        });
    } catch (const std::exception &) {
        io_.stop();  // no memory for a good-bye: the others see the connections end
    }
    thread_.join();
}

// -------------------------------------------------------------------------------------------------------------- any thread --

/// The first call of a thread is noted: the master is told whether all such threads wait.
void Runtime::note_caller() {
    thread_local std::uint64_t noted = 0;
    if (noted == instance_) return;
    noted = instance_;
    const std::lock_guard lock(callers_mutex_);
    callers_.insert(std::this_thread::get_id());
}

CallPtr Runtime::submit(CallPtr call, std::function<PeerInput(CallId)> make) {
    note_caller();
    const CallId id{next_call_++};
    asio::post(io_, [this, call, id, make = std::move(make)] {
        enter(id, call);
        feed(make(id));
    });
    return call;
}

CallPtr Runtime::connect() {
    note_caller();
    auto call = std::make_shared<Call>();
    const CallId id{next_call_++};
    asio::post(io_, [this, call, id] { prepare_to_connect(call, id); });
    return call;
}
CallPtr Runtime::update_topology() {
    return submit(std::make_shared<Call>(), [](CallId id) { return UpdateTopology{id}; });
}
CallPtr Runtime::are_peers_pending() {
    return submit(std::make_shared<Call>(), [](CallId id) { return ArePending{id}; });
}
CallPtr Runtime::optimize_topology() {
    return submit(std::make_shared<Call>(), [](CallId id) { return OptimizeTopology{id}; });
}
CallPtr Runtime::set_graph(const wire::GraphSpec &graph) {
    return submit(std::make_shared<Call>(), [graph](CallId id) { return SetGraph{id, graph}; });
}
CallPtr Runtime::reduce(Tag tag, const ReduceRequest &request) {
    auto call = std::make_shared<Call>();
    call->claim = TagClaims::claim(tags_in_flight_, tag);
    if (!call->claim) {
        call->refused = true;
        call->code = pcclInvalidUsage;
        call->why = "tag " + std::to_string(tag.value) +
                    " names an operation that is in flight: await that operation first, or use another tag";
        call->end();
        return call;
    }
    call->reduce.send = request.send;
    call->reduce.recv = request.recv;
    call->reduce.spec = request.spec;
    call->reduce.shard = request.shard;
    call->reduce.membership = request.membership;
    if (request.check_finite) call->reduce.refusal = not_finite(request);
    // Here, where running out of memory is the caller's error and nobody else's.
    call->reduce.begin_undo();
    if (request.spec.error_feedback) {
        bool replaced = false;
        call->reduce.residual = residuals_.of(tag, request.spec.count, request.spec.type, replaced);
        call->reduce.next_residual = call->reduce.residual->allocate();
        if (replaced) {
            PCCL_LOG_WARN("the operation with tag %llu has another count or type than the last: its error feedback begins anew",
                          static_cast<unsigned long long>(tag.value));
        }
    }
    return submit(call, [tag, fault = request.spec.on_peer_loss](CallId id) { return Reduce{id, tag, fault}; });
}
CallPtr Runtime::synchronize(std::shared_ptr<SyncSession> session, wire::OfferState offer) {
    note_caller();
    auto call = std::make_shared<Call>();
    call->sync = session;
    const CallId id{next_call_++};
    asio::post(io_, [this, call, id, session, offer = std::move(offer)] {
        enter(id, call);
        feed(Synchronize{id, offer});
        if (calls_.contains(id)) transfer_.offer(session);  // not refused at once; nobody can ask for it before the next event
    });
    return call;
}
void Runtime::abort() {
    ++aborts_;
    office_.abort();
    asio::post(io_, [this] {
        give_up_finding({pcclRankConnectionLost, "pcclAbort was called"});
        feed(AbortCalls{});
    });
}

PostPtr Runtime::post(PeerId to, Tag tag, const std::byte *data, std::size_t bytes, std::optional<Time> deadline) {
    note_caller();
    auto post = std::make_shared<Post>();
    post->to = to;
    post->tag = tag;
    post->data = data;
    post->bytes = bytes;
    post->deadline = deadline;
    asio::post(io_, [this, post] { exchange_.post(post); });
    return post;
}

Status Runtime::take_message(Tag tag, std::size_t capacity, std::optional<Time> deadline, Message &out) {
    note_caller();
    auto taken = office_.take(tag, capacity, deadline, out);
    if (!taken) return taken;
    try {
        asio::post(io_, [this] { exchange_.room_made(); });
    } catch (const std::exception &) {  // the message is the caller's all the same; the next tick looks for room, too
    }
    return taken;
}

void Runtime::set_mailbox(const PostOffice::Limits &limits) {
    office_.set_limits(limits);
    asio::post(io_, [this] { exchange_.room_made(); });
}

Runtime::Membership Runtime::membership() const {
    const std::lock_guard lock(world_mutex_);
    return membership_;
}

bool Runtime::forked() const { return generation_ != fork_generation(); }

Status Runtime::check_process() const {
    if (!forked()) return {};
    return Error{pcclInvalidUsage, "this communicator belongs to process " + std::to_string(process_) +
                                       ", of which this process is a fork. Make another one here"};
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
            collapse(words_of(error));
        } catch (const std::exception &error) {
            collapse(error.what());
        }
    }
}

void Runtime::serve_some(std::optional<Time> &idle_since) {
    if (io_.poll() > 0) return idle_since.reset();
    if (engine_.should_spin()) {
        const Time now = monotonic_now();
        if (!idle_since) idle_since = now;
        if (now - *idle_since < kTriesFor) return std::this_thread::yield();
    }
    io_.run_one();
    idle_since.reset();
}

/// Something was thrown, for want of memory most likely. What it left half done is not known, so the membership ends, with an error at
/// every call; the process goes on, and so may the caller, by connecting again.
void Runtime::collapse(const char *what) {
    reserve_.reset();
    try {
        log(LogLevel::error, "the communicator gives up its membership: %s", what);
    } catch (...) {
    }
    for (bool done = false; !done;) {
        try {
            give_up_everything(what);
            done = true;
        } catch (...) {  // other threads may give memory back
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    }
    reserve_.reset(new (std::nothrow) std::byte[kReserve]);
}

/// May be tried again from the start when it throws.
void Runtime::give_up_everything(const char *what) {
    inputs_.clear();
    effects_.clear();
    feeding_ = false;
    links_.drop_all();
    engine_.clear();
    transfer_.end(0);
    prober_.clear();
    exchange_.end(pcclInternalError, what);
    finding_.clear();
    if (control_) control_->drop();
    control_.reset();
    master_since_.reset();
    peer_ = Peer(peer_options(options_));
    const Error error{pcclInternalError, std::string(what) + ": this peer has left the run; call pcclConnect to join again"};
    ended(error.code, error.what);
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
    Examined examined{progress_reporter_.report(monotonic_now(), ops)};
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
    const Time now = monotonic_now();
    links_.for_each([&](Link &link) {
        link.tick(now);
        if (master_since_) link.check_held(now, *master_since_);
    });
    transfer_.tick(now);
    exchange_.tick(now);
    ticker_.expires_after(kTick);
    ticker_.async_wait([this](const asio::error_code &error) {
        if (!error) tick();
    });
}

void Runtime::prepare_to_connect(const CallPtr &call, CallId id) {
    enter(id, call);
    if (!listening_) {
        if (const auto status = links_.listen(); !status) return give_up(id, status.error());
        listening_ = true;
    }
    if (options_.advertise.host.empty()) return advertise(id, {});
    if (const auto ip = parse_ip(options_.advertise.host)) return advertise(id, *ip);
    find_advertised(id);
}

/// The name is resolved by another thread, which only posts the result here, while this one serves on.
void Runtime::find_advertised(CallId id) {
    Finding &finding = finding_.try_emplace(id, io_).first->second;
    const std::string failed = "cannot resolve advertise_address '" + options_.advertise.host + "': ";
    finding.limit.expires_after(options_.connect_timeout);
    finding.limit.async_wait([this, id, failed](const asio::error_code &error) {
        if (error || finding_.erase(id) == 0) return;
        give_up(id, {pcclMasterConnectionFailed, failed + "no answer from the name server within " +
                                                     to_string(options_.connect_timeout) +
                                                     ". Give an IP address, or check the name server"});
    });
    finding.lookup.emplace(options_.advertise.host, [this, id, failed](const Result<Lookup::Addresses> &result) {
        asio::post(io_, [this, id, failed, result] {
            if (finding_.erase(id) == 0) return;
            if (!result) return give_up(id, {pcclInvalidArgument, failed + result.error().what});
            advertise(id, result->front());
        });
    });
}

void Runtime::advertise(CallId id, const IpAddress &ip) {
    SocketAddress advertised{ip, options_.advertise.port != 0 ? options_.advertise.port : links_.port()};
    advertised.ip.zone = 0;  // others have interfaces of their own
    peer_.set_advertised(advertised);
    feed(Connect{id});
}

void Runtime::give_up(CallId id, const Error &error) {
    Complete complete{id, error.code, error.what, {}};
    finish(id, complete);
}

void Runtime::give_up_finding(const Error &error) {
    while (!finding_.empty()) {
        const CallId id = finding_.begin()->first;
        finding_.erase(finding_.begin());
        give_up(id, error);
    }
}

/// Effects may cause further inputs (a link that is down at once, say): these wait until the effects of the first are carried out.
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
        for (auto &effect : effects) carry_out(effect);
        effects.swap(effects_);  // its memory is used again
    }
    feeding_ = false;
    if (control_) control_->flush();
}

void Runtime::carry_out(PeerEffect &effect) {
    struct Do {
        Runtime &self;
        void operator()(DialMaster &) {
            self.masters_to_try_ = self.options_.masters.size();
            self.dial_master();
        }
        void operator()(HangUp &) {
            if (self.control_) self.control_->hang_up();
        }
        void operator()(Tell &e) {
            if (self.control_) self.control_->send(e.message);
        }
        void operator()(Complete &e) { self.finish(e.call, e); }
        void operator()(MakeLink &e) {
            self.drop_link(e.link.other);
            self.links_.make(e.link);
        }
        void operator()(DropLink &e) {
            self.drop_link(e.other);
            self.exchange_.peer_gone(e.other);
        }
        void operator()(DropAllLinks &e) {
            self.ended(e.code, e.why);
            // The master hears of a good-bye before the others see links end, and so takes none for a loss.
            if (!self.leaving_) self.links_.drop_all();
            self.exchange_.end(e.code, e.why);
        }
        void operator()(StartEpoch &e) {
            self.note_members(e);
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
        void operator()(Examine &e) { self.examine(e.ops); }
        void operator()(Say &e) {
            if (log_enabled(e.level)) log(e.level, "%s: %s", to_string(self.peer_.id()).c_str(), e.text.c_str());
        }
    };
    std::visit(Do{*this}, effect);
}

void Runtime::drop_link(PeerId other) {
    links_.drop(other);
    transfer_.link_down(other);
    prober_.link_down(other);
    exchange_.link_down(other);
}

void Runtime::note_members(const StartEpoch &epoch) {
    auto members = epoch.ring;
    std::ranges::sort(members);
    exchange_.set_members(members);
    const std::lock_guard lock(world_mutex_);
    membership_.self = peer_.id();
    membership_.epoch = epoch.epoch;
    alone_ = members.size() == 1;
    membership_.members = std::move(members);
}

/// A call that cannot even be noted down ends at once: its caller must not wait for ever.
void Runtime::enter(CallId id, const CallPtr &call) {
    try {
        calls_[id] = call;
    } catch (...) {
        call->code = pcclInternalError;
        call->why = "out of memory";  // short enough to need none
        call->end();
        throw;
    }
}

void Runtime::finish(CallId id, const Complete &complete) {
    const auto found = calls_.find(id);
    if (found == calls_.end()) return;
    const CallPtr call = found->second;
    call->why = complete.why;  // may throw: then the call is still known
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

Intake Runtime::on_link_header(Link &link, const wire::FrameHeader &header) {
    if (StateTransfer::handles(header.kind)) return transfer_.intake(link, header);
    if (Prober::handles(header.kind)) return prober_.intake(link, header);
    if (Exchange::handles(header.kind)) return exchange_.intake(link, header);
    return engine_.intake(link, header);
}

bool Runtime::on_link_frame(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) {
    if (StateTransfer::handles(header.kind)) transfer_.receive(link, header, payload, keep);
    else if (Prober::handles(header.kind)) prober_.receive(link, header);
    else if (Exchange::handles(header.kind)) exchange_.receive(link, header);
    else return engine_.receive(link, header, payload, keep);
    return true;
}

void Runtime::on_link_damaged(Link &link, const wire::FrameHeader &header) {
    if (Exchange::handles(header.kind)) exchange_.damaged(link, header);
}

void Runtime::on_link_asked_again(Link &link, const wire::FrameHeader &header) {
    if (Exchange::handles(header.kind)) exchange_.send_again(link, header);
    else engine_.send_again(link, header);
}

void Runtime::on_link_unwritable(Link &, const wire::FrameHeader &header) {
    if (StateTransfer::handles(header.kind)) transfer_.unwritable(header);
    else engine_.unwritable(header);
}

void Runtime::on_link_up(Link &link) {
    const auto round_trip_us = std::clamp<Duration::rep>(link.round_trip().count(), 0, UINT32_MAX);
    feed(LinkEvent{link.other(), link.attempt(), true, "", static_cast<std::uint32_t>(round_trip_us)});
    exchange_.link_up(link);
}

void Runtime::on_link_down(Link &link, const std::string &why) {
    const PeerId other = link.other();
    const std::uint32_t attempt = link.attempt();
    links_.forget(link);
    transfer_.link_down(other);
    prober_.link_down(other);
    exchange_.link_down(other);
    feed(LinkEvent{other, attempt, false, why, 0});
}

void Runtime::op_finished(const OpId &op) { feed(OpFinished{op}); }
void Runtime::op_broken(const OpId &op, pcclResult_t code, const std::string &why, bool own) { feed(OpBroken{op, code, why, own}); }
void Runtime::state_pulled(std::uint64_t sync, bool ok, const std::string &why) { feed(SyncPulled{sync, ok, why}); }
void Runtime::offer_spoiled(std::uint64_t sync, const std::string &tensor, const char *what) {
    feed(OfferSpoiled{sync, "tensor '" + tensor + "' was " + what + " while pcclSynchronizeSharedState ran, by the program of " + to_string(peer_.id()) +
                                ". Leave the tensors alone until the call has returned"});
}
void Runtime::probe_finished(std::uint64_t round, PeerId to, double mbit) { feed(ProbeFinished{round, to, mbit}); }

void Runtime::dial_master() {
    --masters_to_try_;
    control_ = std::make_shared<Control>(io_, static_cast<ControlHost &>(*this));
    control_->dial(options_.masters[master_ % options_.masters.size()], options_.connect_timeout);
}

void Runtime::control_up() {
    masters_to_try_ = 0;
    master_since_ = monotonic_now();
    links_.set_zone(control_->zone());
    feed(MasterUp{});
}

void Runtime::control_message(wire::ToPeer message) {
    if (const auto *welcome = std::get_if<wire::Welcome>(&message)) {
        links_.set_identity(welcome->run, welcome->you, std::max(kLeastDeadAfter, heartbeat_timeout(*welcome)));
        const std::lock_guard lock(world_mutex_);
        membership_.run = kernel::checksum(welcome->run.data(), welcome->run.size());
    }
    if (const auto *told = std::get_if<wire::Neighbours>(&message); told && told->code == pcclSuccess) {
        const std::lock_guard lock(world_mutex_);
        membership_.graph_epoch = told->epoch;
        membership_.neighbours = told->neighbours;
    }
    feed(FromMaster{std::move(message)});
}

void Runtime::control_heard() { feed(MasterHeard{}); }

void Runtime::control_down(const std::string &why) {
    master_since_.reset();
    ++master_;  // the next time, the next one in turn
    if (masters_to_try_ > 0) return dial_master();
    feed(MasterDown{why});
}

/// Before the calls in progress learn of it, so that those after them do, too.
void Runtime::ended(pcclResult_t code, const std::string &why) {
    const std::lock_guard lock(world_mutex_);
    if (connected_) ended_ = Error{code, why};
    connected_ = false;
    alone_ = false;
    membership_ = {};
}

}  // namespace pccl::peer

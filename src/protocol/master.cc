// See master.h: connections, newcomers, and the end of a membership.
#include "protocol/master.h"

#include <algorithm>

#include "base/assert.h"

namespace pccl::protocol {

using wire::Call;

namespace {

/// The journal reserves this many peer ids at a time, so that it is not written for every newcomer.
constexpr std::uint64_t kPeersReserved = 64;

}  // namespace

Master::Master(const MasterOptions &options, std::function<Secret()> random, const std::optional<Record> &record)
    : options_(options), random_(std::move(random)), run_(random_()), changed_(true) {
    if (record) restore(*record);
    // Members can have received numbers of the last process: each process has a range of its own.
    next_freeze_ = next_sync_ = (starts_ << 32) + 1;
    ++starts_;
}

void Master::step(Time now, const MasterInput &input, MasterEffects &effects) {
    effects_ = &effects;
    const auto first = static_cast<std::ptrdiff_t>(effects.size());
    if (recovery_ && !recovery_->started()) {
        recovery_->start(now + options_.recovery_window);
        log(LogLevel::warn, "the journal has a run with " + std::to_string(peers_.size()) + " members: waiting " +
                                pccl::to_string(options_.recovery_window) + " for them to come back");
    }
    // If this process was stopped, it could not receive: its peers were not silent.
    if (now_ != Time{} && now - now_ > options_.heartbeat_timeout / 2) {
        for (auto &[id, peer] : peers_)
            peer.last_heard = peer.last_heard + (now - now_);
    }
    now_ = now;
    if (const auto *m = std::get_if<BytesReceived>(&input)) {
        if (const auto known = by_conn_.find(m->conn); known != by_conn_.end()) peers_.at(known->second).last_heard = now_;
        effects_ = nullptr;
        return;  // decides nothing
    }
    try {
        if (const auto *m = std::get_if<Connected>(&input)) on_connected(*m);
        if (const auto *m = std::get_if<Received>(&input)) on_message(*m);
        if (const auto *m = std::get_if<Disconnected>(&input)) on_disconnected(*m);
        if (std::holds_alternative<MasterTick>(input)) on_tick();
        settle();
    } catch (const BrokenInvariant &broken) {
        log(LogLevel::error, broken.what());  // a master can run in a trainer's process, which must survive
    }
    drop_stale_deadlines();
    // Before the effects of this step: a member must not know a decision that a restarted master does not.
    if (std::exchange(changed_, false) && options_.journal)
        effects.insert(effects.begin() + first, Persist{std::make_shared<const Record>(record())});
    effects_ = nullptr;
    if (aborts_on_broken_invariants()) check_invariants();
}

Time Master::next_timeout() const {
    Time next = std::min(next_heartbeat_, next_silence_);
    if (recovery_) next = std::min(next_heartbeat_, recovery_->deadline());
    if (!hello_deadlines_.empty()) next = std::min(next, hello_deadlines_.begin()->first);
    if (const auto due = calls_.next_check()) next = std::min(next, *due);
    if (const auto deadline = probing_.deadline()) next = std::min(next, *deadline);
    return next;
}

std::vector<Master::MemberInfo> Master::members() const {
    std::vector<MemberInfo> infos;
    for (const auto &[id, peer] : peers_)
        infos.push_back({id, peer.group, peer.member, peer.address});
    return infos;
}

void Master::on_connected(const Connected &input) {
    new_connections_[input.conn] = {input.from, now_ + options_.hello_timeout};
    hello_deadlines_.emplace(now_ + options_.hello_timeout, input.conn);
}

void Master::on_disconnected(const Disconnected &input) {
    new_connections_.erase(input.conn);
    const auto known = by_conn_.find(input.conn);
    if (known == by_conn_.end()) return;
    const PeerId id = known->second;
    by_conn_.erase(known);
    if (recovery_) return disconnect_again(peers_.at(id));
    remove(id, pcclMasterConnectionFailed, to_string(id) + " was lost: " + input.why);
}

namespace {

/// Messages that a newcomer may send, too. A newcomer that sends any other breaks the protocol.
template <class M>
constexpr bool kMemberOnly = !(std::is_same_v<M, wire::Heartbeat> || std::is_same_v<M, wire::LinkReport> ||
                               std::is_same_v<M, wire::Leave> || std::is_same_v<M, wire::Abort>);

}  // namespace

void Master::on_message(const Received &input) {
    const auto known = by_conn_.find(input.conn);
    if (known != by_conn_.end()) {
        Peer &peer = peers_.at(known->second);
        peer.last_heard = now_;
        return recovery_ ? during_recovery(peer, input.message) : on_peer_message(peer, input.message);
    }
    if (!new_connections_.contains(input.conn)) return;  // the connection is being closed
    if (const auto *hello = std::get_if<wire::Hello>(&input.message)) return on_hello(input.conn, *hello);
    if (const auto *resume = std::get_if<wire::Resume>(&input.message)) return on_resume(input.conn, *resume);
    const bool waits = recovery_ && std::ranges::any_of(waiting_hellos_, [&](const auto &n) { return n.first == input.conn; });
    if (waits && std::holds_alternative<wire::Heartbeat>(input.message)) return;
    refuse(input.conn, pcclInvalidUsage, std::string(name_of(input.message)) + " before Hello");
}

/// A handler can remove the peer, so nothing uses `peer` after it.
void Master::on_peer_message(Peer &peer, const wire::ToMaster &message) {
    std::visit(
        [&]<class M>(const M &m) {
            if constexpr (std::is_same_v<M, wire::Hello>)
                break_protocol(peer.id, "a second Hello");
            else if constexpr (std::is_same_v<M, wire::Resume>)
                break_protocol(peer.id, "Resume after Hello");
            else if constexpr (std::is_same_v<M, wire::RecoveryReport>)
                break_protocol(peer.id, "RecoveryReport to a master that did not restart");
            else if (kMemberOnly<M> && !peer.member)
                break_protocol(peer.id, "a member's message from a newcomer");
            else
                on(peer, m);
        },
        message);
}

void Master::break_protocol(PeerId id, const char *what) {
    remove(id, pcclInvalidUsage, to_string(id) + " was removed: it broke the protocol (" + what + ")");
}

void Master::on(Peer &peer, const wire::Leave &) { remove(peer.id, pcclSuccess, to_string(peer.id) + " left"); }

bool Master::compatible(ConnId conn, const wire::Hello &hello) {
    if (hello.magic == wire::kMagic && hello.version == wire::kVersion) return true;
    refuse(conn, pcclInvalidUsage,
           hello.magic != wire::kMagic
               ? "not a PCCL peer"
               : "the master uses protocol version " + std::to_string(wire::kVersion) + " and the peer version " +
                     std::to_string(hello.version) + "; use one release everywhere");
    return false;
}

/// The address at which other peers reach the listener of a new connection's peer.
SocketAddress Master::reachable_at(ConnId conn, const wire::Hello &hello) const {
    SocketAddress address = hello.advertised;
    if (address.ip.unspecified()) address.ip = new_connections_.at(conn).from.ip;
    return address;
}

void Master::on_hello(ConnId conn, const wire::Hello &hello) {
    if (!compatible(conn, hello)) return;
    if (recovery_) {
        new_connections_.at(conn).deadline = recovery_->deadline() + options_.hello_timeout;
        hello_deadlines_.emplace(new_connections_.at(conn).deadline, conn);
        waiting_hellos_.emplace_back(conn, hello);
        return;
    }
    if (peers_.size() >= wire::kMaxPeers) return refuse(conn, pcclMasterConnectionFailed, "the run is full");
    if (const auto why = islands_.reason_to_refuse(hello); !why.empty()) return refuse(conn, pcclInvalidUsage, why);

    if (next_peer_ == reserved_peers_) {
        reserved_peers_ += kPeersReserved;
        changed_ = true;
    }
    Peer peer;
    peer.id = PeerId{next_peer_++};
    peer.conn = conn;
    peer.group = hello.group;
    peer.secret = random_();
    peer.address = reachable_at(conn, hello);
    peer.lanes = std::min<std::uint32_t>(hello.lanes, wire::kMaxLanes);
    peer.island = hello.island;
    peer.island_peers = hello.island_peers;
    peer.last_heard = now_;
    new_connections_.erase(conn);
    by_conn_[conn] = peer.id;
    const PeerId id = peer.id;
    calls_.add(id, peer.group, Call::connect, now_);
    islands_.add(id, peer.group, peer.island, peer.island_peers);
    peers_.emplace(id, std::move(peer));

    const Peer &newcomer = peers_.at(id);
    welcome(newcomer);
    log(LogLevel::info, to_string(id) + " (group " + std::to_string(newcomer.group.value) + ", " +
                            pccl::to_string(newcomer.address) + ") wants to join");
    for (auto &[other, theirs] : peers_) {
        if (other != id && theirs.group == newcomer.group) open_link(links_.open(other, id, id));
    }
    refresh_ready();
}

void Master::welcome(const Peer &peer) {
    const auto ms = [](Duration d) { return static_cast<std::uint32_t>(d.count() / 1000); };
    send(peer, wire::Welcome{wire::kVersion, run_, peer.id, peer.secret, ms(options_.heartbeat_interval),
                             ms(options_.heartbeat_timeout), options_.journal});
}

void Master::on(Peer &peer, const wire::Heartbeat &heartbeat) {
    if (peer.member && heartbeat.epoch == groups_.at(peer.group).epoch)
        peer.commits_received = std::min(heartbeat.commits, groups_.at(peer.group).commits);
}

/// Each heartbeat carries the number of commits that all members of the group have received.
void Master::send_heartbeats() {
    std::map<GroupId, std::uint64_t> settled;
    for (const auto &[id, peer] : peers_) {
        if (!peer.member) continue;
        const auto found = settled.try_emplace(peer.group, peer.commits_received).first;
        found->second = std::min(found->second, peer.commits_received);
    }
    for (const auto &[id, peer] : peers_) {
        send(peer, peer.member ? wire::Heartbeat{groups_.at(peer.group).epoch, settled.at(peer.group)} : wire::Heartbeat{});
    }
    if (!recovery_) return;
    for (const auto &[conn, hello] : waiting_hellos_) {
        if (new_connections_.contains(conn)) effects_->push_back(SendToPeer{conn, wire::Heartbeat{}});
    }
}

void Master::on_tick() {
    refuse_late_hellos();
    if (now_ >= next_heartbeat_) {
        next_heartbeat_ = now_ + options_.heartbeat_interval;
        send_heartbeats();
        if (!recovery_) diagnose();
    }
    if (recovery_) return;
    remove_silent();
    refuse_unreachable();
    refuse_incomplete_islands();
    for (const auto &attempt : links_.retry_down(now_))
        open_link(attempt);
    if (probing_.expire(now_)) log(LogLevel::warn, "bandwidth probes did not end in time; the ring is chosen without them");
}

void Master::remove_silent() {
    std::vector<PeerId> silent;
    next_silence_ = next_heartbeat_ + options_.heartbeat_timeout;
    for (const auto &[id, peer] : peers_) {
        if (now_ - peer.last_heard >= options_.heartbeat_timeout)
            silent.push_back(id);
        else
            next_silence_ = std::min(next_silence_, peer.last_heard + options_.heartbeat_timeout);
    }
    for (const PeerId id : silent) {
        const auto found = peers_.find(id);
        if (found == peers_.end()) continue;  // removed with a peer of its island
        std::string why = to_string(id) + " at " + pccl::to_string(found->second.address) + " was removed: silent for " +
                          pccl::to_string(now_ - found->second.last_heard) + " (limit " +
                          pccl::to_string(options_.heartbeat_timeout) + ")";
        if (const auto evidence = diagnosis_.evidence_on(now_, id); !evidence.empty()) why.append("; ").append(evidence);
        remove(id, pcclMasterConnectionFailed, why);
    }
}

/// Drops the first deadlines until one is current. Stale ones are of connections that sent Hello, ended or got another deadline.
void Master::drop_stale_deadlines() {
    while (!hello_deadlines_.empty()) {
        const auto [deadline, conn] = *hello_deadlines_.begin();
        const auto found = new_connections_.find(conn);
        if (found != new_connections_.end() && found->second.deadline == deadline) return;
        hello_deadlines_.erase(hello_deadlines_.begin());
    }
}

void Master::refuse_late_hellos() {
    drop_stale_deadlines();
    while (!hello_deadlines_.empty() && hello_deadlines_.begin()->first <= now_) {
        refuse(hello_deadlines_.begin()->second, pcclMasterConnectionFailed, "no Hello in time");
        drop_stale_deadlines();
    }
    if (const auto more = refusals_.take_unlogged(now_))
        log(LogLevel::warn, std::to_string(more) + " more connections were refused in the last minutes");
}

void Master::refuse(ConnId conn, pcclResult_t code, const std::string &why) {
    const auto from = new_connections_.find(conn);
    const std::string who = from == new_connections_.end() ? "" : pccl::to_string(from->second.from) + ": ";
    log(refusals_.admit(now_) ? LogLevel::warn : LogLevel::debug, "connection refused: " + who + why);
    new_connections_.erase(conn);
    effects_->push_back(SendToPeer{conn, wire::Removed{code, why}});
    effects_->push_back(CloseConnection{conn, why});
}

void Master::remove(PeerId id, pcclResult_t code, const std::string &why) {
    const auto found = peers_.find(id);
    if (found == peers_.end()) return;
    // Its island leaves with it, because no other peer holds this peer's part of the model. All peers of the island are deleted
    // before a view without one of them is published.
    const auto island = islands_.peers_with(id);
    std::vector<Peer> gone{forget(id, code, why)};
    for (const PeerId other : island) {
        if (other == id) continue;
        gone.push_back(forget(other, island_removal_code(gone.front().member, code),
                              to_string(other) + " was removed with its island: " + why));
    }
    for (const Peer &peer : gone) {
        if (peer.member) member_lost(peer.group, peer.id, why);
    }
    refresh_ready();
}

/// Ends the connection and the links of a peer. Returns what it was.
Master::Peer Master::forget(PeerId id, pcclResult_t code, const std::string &why) {
    const auto found = peers_.find(id);
    const Peer peer = found->second;
    log(code == pcclSuccess ? LogLevel::info : LogLevel::warn, why);
    if (by_conn_.contains(peer.conn)) {
        send(peer, wire::Removed{code, why});
        effects_->push_back(CloseConnection{peer.conn, why});
        by_conn_.erase(peer.conn);
    }
    peers_.erase(found);
    diagnosis_.forget(id);
    calls_.remove(id);
    islands_.remove(id);
    for (const PeerId other : links_.remove(id))
        send(peers_.at(other), wire::CloseLink{id});
    changed_ = changed_ || peer.member;
    return peer;
}

void Master::admit(Peer &peer) {
    peer.member = true;
    peer.ready = false;
    islands_.admit(peer.id);
}

/// For a run without members: the first members are the oldest newcomer without an island, or the oldest whole island.
std::vector<PeerId> Master::first_of_run() const {
    for (const auto &[id, peer] : peers_) {
        if (islands_.is_whole(id)) return islands_.peers_with(id);
    }
    return {};
}

void Master::admit_first() {
    if (member_count() > 0) return;
    const auto first = first_of_run();
    if (first.empty()) return;
    std::set<GroupId> groups;
    for (const PeerId id : first) {
        Peer &peer = peers_.at(id);
        admit(peer);
        groups.insert(peer.group);
        set_ring(groups_[peer.group], {id});
    }
    new_generation();
    publish_view(groups, {},
                 to_string(first.front()) +
                     (first.size() == 1 ? " is the first of the run" : " and its island are the first of the run"));
    for (const PeerId id : first)
        call_done(peers_.at(id), pcclSuccess, "", run_outcome_.decision);
    refresh_ready();
}

/// Carries out everything that the state allows now. Runs after every input, so that no handler needs to know what it makes
/// possible.
void Master::settle() {
    if (recovery_) {
        if (!recovered()) return;
        finish_recovery();
    }
    for (bool changed = true; changed;) {
        changed = false;
        admit_first();
        for (auto &[id, group] : groups_) {
            changed = (group.freeze && try_install(id, group)) || try_sync(id, group);
            if (changed) break;  // groups_ can have changed
        }
        changed = changed || try_update() || try_optimize();
    }
    for (auto &[id, group] : groups_)
        ask_tags(id, group);
    check_conflicts();
}

Master::Peer *Master::member(PeerId id) {
    const auto found = peers_.find(id);
    return found != peers_.end() && found->second.member ? &found->second : nullptr;
}

std::vector<PeerId> Master::members_of(GroupId group) const {
    std::vector<PeerId> ids;
    for (const auto &[id, peer] : peers_) {
        if (peer.member && peer.group == group) ids.push_back(id);
    }
    return ids;
}

std::size_t Master::member_count() const {
    std::size_t count = 0;
    for (const auto &[id, peer] : peers_)
        count += peer.member;
    return count;
}

void Master::send(const Peer &peer, wire::ToPeer message) {
    if (peer.conn != ConnId{}) effects_->push_back(SendToPeer{peer.conn, std::move(message)});
}

void Master::log(LogLevel level, std::string text) { effects_->push_back(Log{level, std::move(text)}); }

void Master::check_invariants() const {
    links_.check_invariants();
    islands_.check_invariants();
    calls_.check_invariants();
    probing_.check_invariants();
    PCCL_ASSERT(peers_.size() <= wire::kMaxPeers);
    PCCL_ASSERT(next_peer_ <= reserved_peers_);
    std::map<GroupId, std::set<PeerId>> members;
    std::map<PeerId, std::size_t> open_done;
    for (const auto &[id, peer] : peers_) {
        PCCL_ASSERT(peer.id == id && id.value < next_peer_);
        // Only a member of the last process can be without a connection, until the recovery window ends.
        if (peer.conn == ConnId{})
            PCCL_ASSERT(peer.member && recovery_);
        else
            PCCL_ASSERT(by_conn_.contains(peer.conn) && by_conn_.at(peer.conn) == id && !new_connections_.contains(peer.conn));
        PCCL_ASSERT(!(peer.member && peer.ready));
        // A newcomer waits in pcclConnect until it is admitted, a member never does.
        PCCL_ASSERT((calls_.of(id).call == Call::connect) == !peer.member);
        if (peer.member) members[peer.group].insert(id);
    }
    for (const auto &[conn, id] : by_conn_)
        PCCL_ASSERT(peers_.contains(id) && peers_.at(id).conn == conn);
    for (const auto &[ids, link] : links_.all())
        PCCL_ASSERT(peers_.contains(ids.first) && peers_.contains(ids.second));
    PCCL_ASSERT(members.size() == groups_.size());
    for (const auto &[id, group] : groups_) {
        PCCL_ASSERT(members.contains(id));
        PCCL_ASSERT(group.epoch <= view_);
        PCCL_ASSERT(!group.freeze || group.freeze->id < next_freeze_);
        PCCL_ASSERT(group.sync.id < next_sync_);
        PCCL_ASSERT(!group.freeze || !group.sync.pulling);
        const std::set<PeerId> ring(group.ring.begin(), group.ring.end());
        PCCL_ASSERT(ring.size() == group.ring.size() && std::ranges::includes(ring, members[id]));
        // A ring with a lost member is in effect until the freeze ends. A restarted master begins the freeze when it has
        // recovered.
        if (!group.freeze && !recovery_) PCCL_ASSERT(ring == members[id]);
        for (const auto &[op, holders] : group.done) {
            PCCL_ASSERT(op.epoch == group.epoch && !group.failed.contains(op));
            PCCL_ASSERT(!holders.empty() && std::ranges::includes(members[id], holders));
            // An operation that every member holds is committed at once.
            PCCL_ASSERT(group.freeze || holders.size() < members[id].size());
            for (const PeerId holder : holders)
                ++open_done[holder];
        }
        for (const OpId &op : group.failed)
            PCCL_ASSERT(op.epoch == group.epoch);
        if (group.freeze) PCCL_ASSERT(std::ranges::includes(members[id], group.freeze->awaiting));
        if (group.sync.pulling) PCCL_ASSERT(std::ranges::includes(members[id], group.sync.awaiting));
    }
    for (const auto &[id, peer] : peers_) {
        if (!peer.member) continue;
        PCCL_ASSERT(peer.open_done == open_done[id]);
        PCCL_ASSERT(peer.commits_received <= groups_.at(peer.group).commits);
    }
}

}  // namespace pccl::protocol

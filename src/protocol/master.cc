#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

namespace {

/// Names for newcomers that the journal sets aside at a time, so that it is not written for each.
constexpr std::uint64_t kPeersReserved = 64;

}  // namespace

Master::Master(const MasterOptions &options, std::function<Secret()> random, const std::optional<Record> &record)
    : options_(options), random_(std::move(random)), run_(random_()), changed_(true) {
    if (record) restore(*record);
    // Numbers that members may have heard from the last process are not used again.
    next_freeze_ = next_sync_ = (starts_ << 32) + 1;
    ++starts_;
}

void Master::step(Time now, const MasterInput &input, MasterEffects &effects) {
    effects_ = &effects;
    const auto first = static_cast<std::ptrdiff_t>(effects.size());
    if (recovery_ && recovery_->deadline == Time{}) {
        recovery_->deadline = now + options_.recovery_window;
        note(LogLevel::warn, "the journal tells of a run with " + std::to_string(peers_.size()) + " members: waiting " +
                                 pccl::to_string(options_.recovery_window) + " for them to come back");
    }
    // If this process was stopped, its peers were not silent: it was deaf.
    if (now_ != Time{} && now - now_ > options_.heartbeat_timeout / 2) {
        for (auto &[id, peer] : peers_)
            peer.last_heard = peer.last_heard + (now - now_);
    }
    now_ = now;
    if (const auto *m = std::get_if<Heard>(&input)) {
        if (const auto known = by_conn_.find(m->conn); known != by_conn_.end()) peers_.at(known->second).last_heard = now_;
        effects_ = nullptr;
        return;  // it decides nothing
    }
    if (const auto *m = std::get_if<Connected>(&input)) on_connected(*m);
    if (const auto *m = std::get_if<Received>(&input)) on_message(*m);
    if (const auto *m = std::get_if<Disconnected>(&input)) on_disconnected(*m);
    if (std::holds_alternative<Tick>(input)) on_tick();
    settle();
    drop_past_deadlines();
    // Before anybody hears of it.
    if (std::exchange(changed_, false) && options_.journal) effects.insert(effects.begin() + first, Persist{std::make_shared<const Record>(record())});
    effects_ = nullptr;
}

Time Master::next_timeout() const {
    Time next = std::min(next_heartbeat_, next_silence_);
    if (recovery_) next = std::min(next_heartbeat_, recovery_->deadline);
    if (!stranger_deadlines_.empty()) next = std::min(next, stranger_deadlines_.begin()->first);
    if (misuse_due_) next = std::min(next, *misuse_due_);
    if (!optimize_.outstanding.empty()) next = std::min(next, optimize_.round_deadline);
    return next;
}

std::vector<Master::MemberInfo> Master::members() const {
    std::vector<MemberInfo> infos;
    for (const auto &[id, peer] : peers_)
        infos.push_back({id, peer.group, peer.member, peer.address});
    return infos;
}

void Master::on_connected(const Connected &input) {
    strangers_[input.conn] = {input.from, now_ + options_.hello_timeout};
    stranger_deadlines_.emplace(now_ + options_.hello_timeout, input.conn);
}

void Master::on_disconnected(const Disconnected &input) {
    strangers_.erase(input.conn);
    const auto known = by_conn_.find(input.conn);
    if (known == by_conn_.end()) return;
    const PeerId id = known->second;
    by_conn_.erase(known);
    if (recovery_) return lost_again(peers_.at(id));
    remove(id, pcclMasterConnectionFailed, to_string(id) + " was lost: " + input.why);
}

void Master::on_message(const Received &input) {
    const auto known = by_conn_.find(input.conn);
    if (known == by_conn_.end()) {
        if (!strangers_.contains(input.conn)) return;  // of a connection that is being closed
        if (const auto *hello = std::get_if<wire::Hello>(&input.message)) return on_hello(input.conn, *hello);
        if (const auto *resume = std::get_if<wire::Resume>(&input.message)) return on_resume(input.conn, *resume);
        const bool waits = recovery_ && std::ranges::any_of(recovery_->newcomers, [&](const auto &n) { return n.first == input.conn; });
        if (waits && std::holds_alternative<wire::Heartbeat>(input.message)) return;
        return refuse(input.conn, pcclInvalidUsage, std::string(name_of(input.message)) + " before Hello");
    }
    Peer &peer = peers_.at(known->second);
    peer.last_heard = now_;
    if (recovery_) return during_recovery(peer, input.message);
    struct Dispatch {
        Master &master;
        Peer &peer;
        void operator()(const wire::Hello &) { wrong("a second Hello"); }
        void operator()(const wire::Resume &) { wrong("Resume after Hello"); }
        void operator()(const wire::Account &) { wrong("Account without having been asked"); }
        void operator()(const wire::Heartbeat &m) { master.on_heartbeat(peer, m); }
        void operator()(const wire::LinkReport &m) { master.on_link_report(peer, m); }
        void operator()(const wire::Leave &) { master.remove(peer.id, pcclSuccess, to_string(peer.id) + " left"); }
        void operator()(const wire::Abort &) { master.on_abort(peer); }
        // What only a member may say.
        void operator()(const wire::VoteUpdate &m) {
            if (is_member()) master.on_vote(peer, Call::update_topology, m.call);
        }
        void operator()(const wire::VoteOptimize &m) {
            if (is_member()) master.on_vote(peer, Call::optimize_topology, m.call);
        }
        void operator()(const wire::OfferState &m) {
            if (!is_member()) return;
            peer.offer = m;
            auto &tainted = master.groups_.at(peer.group).sync.tainted;
            m.tainted ? static_cast<void>(tainted.insert(peer.id)) : static_cast<void>(tainted.erase(peer.id));
            master.on_vote(peer, Call::sync_shared_state, m.call);
        }
        void operator()(const wire::AskPending &m) {
            if (is_member()) master.on_ask_pending(peer, m);
        }
        void operator()(const wire::ProbeReport &m) {
            if (is_member()) master.on_probe_report(peer, m);
        }
        void operator()(const wire::Done &m) {
            if (is_member()) master.on_done(peer, m);
        }
        void operator()(const wire::OpFault &m) {
            if (is_member()) master.on_op_fault(peer, m);
        }
        void operator()(const wire::Frozen &m) {
            if (is_member()) master.on_frozen(peer, m);
        }
        void operator()(const wire::SyncDone &m) {
            if (is_member()) master.on_sync_done(peer, m);
        }
        void operator()(const wire::StateFault &m) {
            if (is_member()) master.on_state_fault(peer, m);
        }
        void operator()(const wire::Waiting &m) {
            if (is_member()) master.on_waiting(peer, m);
        }
        void operator()(const wire::Progress &m) {
            if (is_member()) master.on_progress(peer, m);
        }
        void operator()(const wire::SetGraph &m) {
            if (is_member()) master.on_set_graph(peer, m);
        }
        void operator()(const wire::TagsInUse &m) {
            if (is_member()) master.on_tags_in_use(peer, m);
        }
        bool is_member() {
            if (peer.member) return true;
            wrong("a member's message from a newcomer");  // `peer` is gone
            return false;
        }
        void wrong(const char *what) {
            master.remove(peer.id, pcclInvalidUsage, to_string(peer.id) + " was removed: it broke the protocol (" + what + ")");
        }
    };
    // The message may remove the peer itself; nothing is done with `peer` after it.
    std::visit(Dispatch{*this, peer}, input.message);
}

bool Master::compatible(ConnId conn, const wire::Hello &hello) {
    if (hello.magic == wire::kMagic && hello.version == wire::kVersion) return true;
    refuse(conn, pcclInvalidUsage,
           hello.magic != wire::kMagic ? "not a PCCL peer"
                                       : "the master speaks protocol version " + std::to_string(wire::kVersion) +
                                             " and the peer version " + std::to_string(hello.version) + ": use one release on all");
    return false;
}

/// Where others reach a stranger's listener.
SocketAddress Master::reachable_at(ConnId conn, const wire::Hello &hello) const {
    SocketAddress address = hello.advertised;
    if (address.ip.unspecified()) address.ip = strangers_.at(conn).first.ip;
    return address;
}

void Master::on_hello(ConnId conn, const wire::Hello &hello) {
    if (!compatible(conn, hello)) return;
    if (recovery_) {
        strangers_.at(conn).second = recovery_->deadline + options_.hello_timeout;
        stranger_deadlines_.emplace(strangers_.at(conn).second, conn);
        recovery_->newcomers.emplace_back(conn, hello);
        return;
    }
    if (peers_.size() >= wire::kMaxPeers) return refuse(conn, pcclMasterConnectionFailed, "the run is full");
    if (!may_land(conn, hello)) return;

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
    peer.call_since = now_;
    strangers_.erase(conn);
    by_conn_[conn] = peer.id;
    const PeerId id = peer.id;
    peers_.emplace(id, std::move(peer));

    const Peer &newcomer = peers_.at(id);
    welcome(newcomer);
    note(LogLevel::info, to_string(id) + " (group " + std::to_string(newcomer.group.value) + ", " +
                             pccl::to_string(newcomer.address) + ") wants to join");
    for (auto &[other, theirs] : peers_) {
        if (other != id && theirs.group == newcomer.group) open_pair(other, id, id);
    }
    refresh_ready();
}

void Master::welcome(const Peer &peer) {
    const auto ms = [](Duration d) { return static_cast<std::uint32_t>(d.count() / 1000); };
    send(peer, wire::Welcome{wire::kVersion, run_, peer.id, peer.secret, ms(options_.heartbeat_interval),
                             ms(options_.heartbeat_timeout), options_.journal});
}

void Master::on_heartbeat(Peer &peer, const wire::Heartbeat &heartbeat) {
    if (peer.member && heartbeat.epoch == groups_.at(peer.group).epoch)
        peer.commits_heard = std::min(heartbeat.commits, groups_.at(peer.group).commits);
}

/// To everybody, with how far the commits are known to all members of the group.
void Master::beat() {
    std::map<GroupId, std::uint64_t> settled;
    for (const auto &[id, peer] : peers_) {
        if (!peer.member) continue;
        const auto found = settled.try_emplace(peer.group, peer.commits_heard).first;
        found->second = std::min(found->second, peer.commits_heard);
    }
    for (const auto &[id, peer] : peers_) {
        send(peer, peer.member ? wire::Heartbeat{groups_.at(peer.group).epoch, settled.at(peer.group)} : wire::Heartbeat{});
    }
    if (!recovery_) return;
    for (const auto &[conn, hello] : recovery_->newcomers) {
        if (strangers_.contains(conn)) effects_->push_back(Send{conn, wire::Heartbeat{}});
    }
}

void Master::on_tick() {
    refuse_late_strangers();
    if (now_ >= next_heartbeat_) {
        next_heartbeat_ = now_ + options_.heartbeat_interval;
        beat();
        if (!recovery_) diagnose();
    }
    if (recovery_) return;
    std::vector<PeerId> silent;
    next_silence_ = next_heartbeat_ + options_.heartbeat_timeout;
    for (const auto &[id, peer] : peers_) {
        if (now_ - peer.last_heard >= options_.heartbeat_timeout) silent.push_back(id);
        else next_silence_ = std::min(next_silence_, peer.last_heard + options_.heartbeat_timeout);
    }
    for (const PeerId id : silent) {
        const auto found = peers_.find(id);
        if (found == peers_.end()) continue;
        std::string why = to_string(id) + " at " + pccl::to_string(found->second.address) + " was removed: silent for " +
                          pccl::to_string(now_ - found->second.last_heard) + " (limit " + pccl::to_string(options_.heartbeat_timeout) + ")";
        if (const auto evidence = diagnosis_.evidence_on(now_, id); !evidence.empty()) why.append("; ").append(evidence);
        remove(id, pcclMasterConnectionFailed, why);
    }
    refuse_hopeless();
    refuse_stranded();
    retry_pairs();
    if (!optimize_.outstanding.empty() && now_ >= optimize_.round_deadline) {
        note(LogLevel::warn, "bandwidth probes did not end in time; going on without them");
        optimize_.outstanding.clear();
    }
}

/// Those of connections that have introduced themselves, or ended, or were given another deadline.
void Master::drop_past_deadlines() {
    while (!stranger_deadlines_.empty()) {
        const auto [deadline, conn] = *stranger_deadlines_.begin();
        const auto stranger = strangers_.find(conn);
        if (stranger != strangers_.end() && stranger->second.second == deadline) return;
        stranger_deadlines_.erase(stranger_deadlines_.begin());
    }
}

void Master::refuse_late_strangers() {
    drop_past_deadlines();
    while (!stranger_deadlines_.empty() && stranger_deadlines_.begin()->first <= now_) {
        refuse(stranger_deadlines_.begin()->second, pcclMasterConnectionFailed, "no Hello in time");
        drop_past_deadlines();
    }
    if (const auto more = refusals_.take_unlogged(now_))
        note(LogLevel::warn, std::to_string(more) + " more connections were refused in the last minutes");
}

void Master::refuse(ConnId conn, pcclResult_t code, const std::string &why) {
    const auto from = strangers_.find(conn);
    const std::string who = from == strangers_.end() ? "" : pccl::to_string(from->second.first) + ": ";
    note(refusals_.admit(now_) ? LogLevel::warn : LogLevel::debug, "connection refused: " + who + why);
    strangers_.erase(conn);
    effects_->push_back(Send{conn, wire::Removed{code, why}});
    effects_->push_back(Close{conn, why});
}

void Master::remove(PeerId id, pcclResult_t code, const std::string &why) {
    const auto found = peers_.find(id);
    if (found == peers_.end()) return;
    // Its island goes with it: what it held of their copy is nowhere else. All of them before anybody hears of a view without one.
    const auto island = island_of(found->second);
    std::vector<Peer> gone{forget(id, code, why)};
    for (const PeerId mate : island) {
        if (mate != id) gone.push_back(forget(mate, told_of_island(gone.front(), code), to_string(mate) + " is out of the run with its island: " + why));
    }
    for (const Peer &peer : gone) {
        if (peer.member) member_lost(peer.group, peer.id, why);
    }
    refresh_ready();
}

/// Ends its connection and its links. What it was.
Master::Peer Master::forget(PeerId id, pcclResult_t code, const std::string &why) {
    const auto found = peers_.find(id);
    const Peer peer = found->second;
    note(code == pcclSuccess ? LogLevel::info : LogLevel::warn, why);
    if (by_conn_.contains(peer.conn)) {
        send(peer, wire::Removed{code, why});
        effects_->push_back(Close{peer.conn, why});
        by_conn_.erase(peer.conn);
    }
    peers_.erase(found);
    diagnosis_.forget(id);
    for (auto it = pairs_.begin(); it != pairs_.end();) {
        const auto [a, b] = it->first;
        if (a != id && b != id) {
            ++it;
            continue;
        }
        send(peers_.at(a == id ? b : a), wire::CloseLink{id});
        it = pairs_.erase(it);
    }
    changed_ = changed_ || peer.member;
    return peer;
}

void Master::admit_first() {
    if (member_count() > 0) return;
    const auto first = first_of_run();
    if (first.empty()) return;
    std::set<GroupId> groups;
    for (const PeerId id : first) {
        Peer &peer = peers_.at(id);
        peer.member = true;
        peer.ready = false;
        groups.insert(peer.group);
        set_ring(groups_[peer.group], {id});
    }
    new_generation();
    publish_view(groups, {}, to_string(first.front()) + (first.size() == 1 ? " is the first of the run" : " and its island are the first of the run"));
    for (const PeerId id : first) call_done(peers_.at(id), pcclSuccess, "", answer_.decision);
    refresh_ready();
}

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
            if (changed) break;  // the map may have changed, too
        }
        changed = changed || try_update() || try_optimize();
    }
    for (auto &[id, group] : groups_) ask_tags(id, group);
    check_misuse();
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
    if (peer.conn != ConnId{}) effects_->push_back(Send{peer.conn, std::move(message)});
}

void Master::note(LogLevel level, std::string text) { effects_->push_back(Note{level, std::move(text)}); }

}  // namespace pccl::protocol

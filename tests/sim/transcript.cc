#include "transcript.h"

#include <cstdio>

#include "cluster.h"

namespace pccl::sim {
namespace {

std::string text(std::uint64_t n) { return std::to_string(n); }
std::string text(bool yes) { return yes ? "yes" : "no"; }
std::string text(PeerId id) { return "p" + text(id.value); }
std::string text(const OpId &op) { return text(op.epoch.value) + ":" + text(op.tag.value) + "#" + text(std::uint64_t{op.seq}); }
std::string text(const wire::TagCount &t) { return text(t.tag.value) + "<" + text(std::uint64_t{t.next_seq}); }
std::string text(const wire::GroupSize &g) {
    return "g" + text(std::uint64_t{g.group.value}) + "=" + text(std::uint64_t{g.size});
}
std::string text(const std::string &words) { return "\"" + words + "\""; }
std::string text(const wire::PullTensor &t);
std::string text(Tag tag) { return text(tag.value); }

std::string text(const wire::TensorOffer &t) {
    std::uint64_t content = 0;
    std::memcpy(&content, t.hash.data(), sizeof content);
    return t.name + (t.allow_content_inequality ? "~" : "=") + text(content);
}

std::string text(const op::FinalRange &r) {
    return text(r.begin) + "-" + text(r.begin + r.count - 1) + "/" + text(std::uint64_t{r.members});
}
std::string text(const wire::CarriedOp &o);
std::string text(const wire::Holding &h);
std::string text(const wire::RepairedOp &o);

template <class T> std::string text(const std::vector<T> &items) {
    std::string out = "[";
    for (const auto &item : items)
        out += (out.size() > 1 ? " " : "") + text(item);
    return out + "]";
}
std::string text(const wire::CarriedOp &o) { return text(o.tag.value) + "#" + text(std::uint64_t{o.seq}) + text(o.final); }
std::string text(const wire::Holding &h) { return text(h.member) + text(h.final); }
std::string text(const wire::RepairedOp &o) { return text(o.tag.value) + "#" + text(std::uint64_t{o.seq}) + text(o.holdings); }
std::string text(const wire::PullTensor &t) { return "t" + text(std::uint64_t{t.index}) + " of " + text(t.sources); }

/// Omits a list that is empty, as it usually is.
template <class T> std::string unless_empty(const char *name, const std::vector<T> &items) {
    return items.empty() ? "" : std::string(" ") + name + "=" + text(items);
}

const char *text(pcclResult_t code) {
    switch (code) {
    case pcclSuccess: return "ok";
    case pcclInvalidUsage: return "InvalidUsage";
    case pcclTooFewPeers: return "TooFewPeers";
    case pcclMasterConnectionFailed: return "MasterConnectionFailed";
    case pcclRankConnectionFailed: return "RankConnectionFailed";
    case pcclRankConnectionLost: return "RankConnectionLost";
    case pcclNoSharedStateAvailable: return "NoSharedStateAvailable";
    case pcclPendingAsyncOps: return "PendingAsyncOps";
    default: return "?";
    }
}

std::string because(const std::string &why) { return why.empty() ? "" : " " + text(why); }

struct Describe {
    // To the master.
    std::string operator()(const wire::Hello &m) { return " group=" + text(std::uint64_t{m.group.value}); }
    std::string operator()(const wire::Heartbeat &) { return ""; }
    std::string operator()(const wire::LinkReport &m) {
        return " " + text(m.other) + " attempt=" + text(std::uint64_t{m.attempt}) + (m.up ? " up" : " down") + because(m.why);
    }
    std::string operator()(const wire::VoteUpdate &m) { return " call=" + text(std::uint64_t{m.call}); }
    std::string operator()(const wire::AskPending &m) { return " " + text(m.generation) + "/" + text(m.k); }
    std::string operator()(const wire::VoteOptimize &m) { return " call=" + text(std::uint64_t{m.call}); }
    std::string operator()(const wire::ProbeReport &m) {
        return " round=" + text(m.round) + " to " + text(m.to) + " " + text(static_cast<std::uint64_t>(m.mbit_per_s)) + " Mbit/s";
    }
    std::string operator()(const wire::Done &m) { return " " + text(m.ops); }
    std::string operator()(const wire::OpFault &m) {
        return " " + text(m.op) + " " + text(m.code) + (m.own ? " own" : "") + because(m.why);
    }
    std::string operator()(const wire::Frozen &m) {
        return " freeze=" + text(m.freeze) + " opened=" + text(m.opened) + unless_empty("carried", m.carried);
    }
    std::string operator()(const wire::OfferState &m) {
        static constexpr const char *kStrategies[] = {"popular", "receive-only", "send-only"};
        return " call=" + text(std::uint64_t{m.call}) + " revision=" + text(m.revision) + " " +
               kStrategies[static_cast<int>(m.strategy)] + " " + text(m.tensors);
    }
    std::string operator()(const wire::SyncDone &m) { return " sync=" + text(m.sync) + " ok=" + text(m.ok) + because(m.why); }
    std::string operator()(const wire::StateFault &m) { return " sync=" + text(m.sync) + because(m.why); }
    std::string operator()(const wire::Abort &) { return ""; }
    std::string operator()(const wire::Waiting &m) {
        return " " + text(m.ops) + (m.blocked == wire::Blocked::none ? "" : " blocked");
    }
    std::string operator()(const wire::Leave &) { return ""; }
    std::string operator()(const wire::Resume &m) {
        return " " + text(m.peer) + (m.member ? " member" : " newcomer") + " view=" + text(m.view.value);
    }
    std::string operator()(const wire::RecoveryReport &m) {
        std::string out = " view=" + text(m.view.value) + " epoch=" + text(m.epoch.value) + " generation=" + text(m.generation);
        if (m.open != wire::Call::none)
            out += std::string(" in ") + wire::name_of(m.open) + " call=" + text(std::uint64_t{m.open_number});
        if (m.aborted) out += " aborted";
        if (!m.frozen.empty()) out += " frozen" + (*this)(m.frozen.front());
        out += " answers=" + text(m.run_outcome.decision) + "," + text(m.group_outcome.decision) + " links=[";
        for (const auto &link : m.links)
            out += (out.back() == '[' ? "" : " ") + text(link.other) + (link.up ? " up" : " down");
        out += "] commits=" + text(m.commits) + " recent=[";
        for (const auto &commit : m.recent)
            out += (out.back() == '[' ? "" : " ") + text(commit.ops);
        for (const auto &forgotten : m.forgotten)
            out += "] forgotten [" + (*this)(forgotten).substr(1);
        return out + "] failures=" + text(std::uint64_t{m.failures.size()}) + " done=" + text(m.done);
    }
    std::string operator()(const wire::ProgressReport &m) {
        std::string words;
        for (const auto &op : m.ops)
            words += " " + text(op.op) + " waits for " + text(op.waits_for);
        return words;
    }
    std::string operator()(const wire::TagsInUse &m) {
        return " round=" + text(m.round) + " next=" + text(std::uint64_t{m.next_seq}) + " " + text(m.tags) +
               (m.too_many ? " too many" : "");
    }
    std::string operator()(const wire::SetGraph &m) {
        return " kind=" + text(std::uint64_t{static_cast<unsigned>(m.graph.kind)});
    }
    // To a peer.
    std::string operator()(const wire::Welcome &m) { return " you=" + text(m.you); }
    std::string operator()(const wire::Removed &m) { return std::string(" ") + text(m.code) + because(m.why); }
    std::string operator()(const wire::OpenLink &m) {
        return " " + text(m.other) + " attempt=" + text(std::uint64_t{m.attempt}) + (m.dial ? " dial" : " accept");
    }
    std::string operator()(const wire::Notice &m) { return because(m.why); }
    std::string operator()(const wire::Neighbours &m) {
        return " epoch=" + text(m.epoch) + " " + text(m.neighbours) + because(m.why);
    }
    std::string operator()(const wire::AskTags &m) { return " round=" + text(m.round); }
    std::string operator()(const wire::ForgetTags &m) {
        return " round=" + text(m.round) + " floor=" + text(std::uint64_t{m.floor}) + " keep=" + text(m.keep);
    }
    std::string operator()(const wire::CloseLink &m) { return " " + text(m.other); }
    std::string operator()(const wire::Freeze &m) { return " freeze=" + text(m.freeze) + because(m.why); }
    std::string operator()(const wire::View &m) {
        return " " + text(m.number.value) + " epoch=" + text(m.epoch.value) + " ring=" + text(m.ring) +
               " groups=" + text(m.groups) + " mesh=" + text(m.full_mesh) + " generation=" + text(m.generation) +
               " begun=" + text(m.begun) + unless_empty("repaired", m.repaired) + because(m.why);
    }
    std::string operator()(const wire::PendingAnswer &m) {
        return " " + text(m.generation) + "/" + text(m.k) + " " + text(m.pending);
    }
    std::string operator()(const wire::Commit &m) { return " " + text(m.ops); }
    std::string operator()(const wire::OpFailed &m) {
        return " " + text(m.op) + " " + text(m.code) + (m.skip ? " skip" : "") +
               (m.culprit == PeerId{} ? "" : " of " + text(m.culprit)) + because(m.why);
    }
    std::string operator()(const wire::Probe &m) { return " round=" + text(m.round) + " to " + text(m.to); }
    std::string operator()(const wire::CallDone &m) {
        return std::string(" ") + wire::name_of(m.kind) + " call=" + text(std::uint64_t{m.call}) + " " + text(m.code) +
               " generation=" + text(m.generation) + because(m.why);
    }
    std::string operator()(const wire::SyncPlan &m) {
        return " sync=" + text(m.sync) + (m.in_place ? " in place" : "") + " pull=" + text(m.pull);
    }
    std::string operator()(const wire::SyncCommit &m) {
        return " call=" + text(std::uint64_t{m.call}) + " revision=" + text(m.revision);
    }
    std::string operator()(const wire::Resumed &m) {
        return " generation=" + text(m.generation) + " answers=" + text(m.decision);
    }
};

std::string describe_call(const CallInfo &call) {
    return std::string(name_of(call.kind)) + (call.kind == CallKind::reduce ? " tag=" + text(call.tag.value) : "");
}

}  // namespace

std::string describe(const wire::ToMaster &message) { return wire::name_of(message) + std::visit(Describe{}, message); }
std::string describe(const wire::ToPeer &message) { return wire::name_of(message) + std::visit(Describe{}, message); }

void Transcript::line(const std::string &words) {
    if (!now_) return line_(words);
    char stamp[32];
    std::snprintf(stamp, sizeof stamp, "%10.4f  ", static_cast<double>(now_().since_origin.count()) / 1e6);
    line_(stamp + words);
}

void Transcript::on_call(const Node &node, const CallInfo &call) { line(node.name + " calls " + describe_call(call)); }

void Transcript::on_complete(const Node &node, const CallInfo &call, const protocol::Complete &done) {
    std::string words = node.name + " returns from " + describe_call(call) + ": " + text(done.code);
    if (call.kind == CallKind::ask && done.code == pcclSuccess) words += done.pending ? ", pending" : ", none pending";
    if (call.kind == CallKind::sync && done.code == pcclSuccess) words += ", revision " + text(done.revision);
    line(words + " (world " + text(std::uint64_t{done.world.group}) + " of " + text(std::uint64_t{done.world.global}) + ")" +
         because(done.why));
}

void Transcript::on_stray_complete(const Node &node, const protocol::Complete &done) {
    line(node.name + " returns from a call that has returned: " + text(done.code));
}

void Transcript::on_abort(const Node &node) { line(node.name + " aborts its calls"); }

void Transcript::on_effect(const Node &node, const protocol::PeerEffect &effect) {
    if (const auto *e = std::get_if<protocol::StartEpoch>(&effect))
        line("    " + node.name + " starts epoch " + text(e->epoch.value) + " as rank " + text(std::uint64_t{e->rank}) + " of " +
             text(e->ring));
    if (const auto *e = std::get_if<protocol::CarryOps>(&effect)) line("    " + node.name + " keeps " + text(e->ops));
    if (const auto *e = std::get_if<protocol::StartOp>(&effect)) line("    " + node.name + " starts " + text(e->op));
    if (const auto *e = std::get_if<protocol::EndOp>(&effect))
        line("    " + node.name + " ends " + text(e->op) + (e->committed ? ", committed" : ", not committed"));
}

void Transcript::on_peer_receives(const Node &node, const wire::ToPeer &message) {
    if (!std::holds_alternative<wire::Heartbeat>(message)) line("  master -> " + node.name + "  " + describe(message));
}

void Transcript::on_master_receives(const Node &node, const wire::ToMaster &message) {
    const bool routine =
        std::holds_alternative<wire::Heartbeat>(message) || std::holds_alternative<wire::ProgressReport>(message);
    if (!routine) line("  " + node.name + " -> master  " + describe(message));
}

void Transcript::on_master_closes(const Node &node, PeerId, const std::string &why) {
    line("  master x " + node.name + "  \"" + why + "\"");
}

void Transcript::on_world_event(const std::string &what) { line("* " + what); }

}  // namespace pccl::sim

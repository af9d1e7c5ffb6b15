#include "faults.h"

namespace pccl::sim {
namespace {

constexpr Duration kLongestHang = std::chrono::seconds(25);
constexpr Duration kLongestLoss = std::chrono::seconds(40);

}  // namespace

Faults::Faults(Cluster &cluster, const Profile &profile, std::vector<std::unique_ptr<Program>> &programs, std::uint64_t seed)
    : cluster_(cluster), programs_(programs), rng_(seed), last_fault_(cluster.queue().now() + profile.faults_until),
      quiet_from_(last_fault_ + (profile.bad_paths > 0                        ? kLongestLoss
                                 : profile.long_hangs > 0 || profile.cuts > 0 ? kLongestHang
                                                                              : Duration(std::chrono::seconds(10)))) {
    std::vector<Kind> kinds;
    const auto draw = [&](unsigned most, Kind kind) {
        if (most == 0) return;
        kinds.push_back(kind);
        for (auto left = rng_.below(most + 1); left > 0; --left)
            cluster_.queue().after(rng_.between(Duration(0), profile.faults_until),
                                   [this, kind] { strike(kind, random_node()); });
    };
    draw(profile.crashes, Kind::crash);
    draw(profile.hangs, Kind::hang);
    draw(profile.long_hangs, Kind::long_hang);
    draw(profile.breaks, Kind::break_link);
    draw(profile.aborts, Kind::abort);
    draw(profile.slow_members, Kind::slow);
    draw(profile.master_crashes, Kind::master);
    draw(profile.cuts, Kind::cut);
    draw(profile.bad_paths, Kind::path);
    for (unsigned i = 0; i < profile.targeted; ++i) {
        const auto when = static_cast<When>(rng_.below(3));
        const auto kinds_of_message =
            when == When::on_master_receives ? std::variant_size_v<wire::ToMaster> : std::variant_size_v<wire::ToPeer>;
        triggers_.push_back({when, rng_.below(kinds_of_message), 1 + rng_.below(rng_.below(3) == 0 ? 40 : 6), rng_.pick(kinds),
                             rng_.per_mille(400), rng_.per_mille(500)});
    }
}

Node *Faults::random_node() {
    std::vector<Node *> alive;
    for (auto &node : cluster_.nodes()) {
        if (node->alive) alive.push_back(node.get());
    }
    return alive.empty() ? nullptr : rng_.pick(alive);
}

void Faults::strike(Kind kind, Node *node) {
    if (!node || cluster_.queue().now() > last_fault_) return;
    switch (kind) {
    case Kind::crash: return cluster_.crash(*node, rng_.per_mille(250) ? Cluster::Crash::silent : Cluster::Crash::reset);
    case Kind::hang:
    case Kind::long_hang: {
        cluster_.hang(*node);
        const auto time = kind == Kind::hang ? rng_.between(std::chrono::milliseconds(50), std::chrono::milliseconds(9500))
                                             : rng_.between(std::chrono::milliseconds(9500), kLongestHang);
        return cluster_.queue().after(time, [this, node] { cluster_.resume(*node); });
    }
    case Kind::break_link: {
        const auto links = cluster_.data().live_links();
        if (links.empty()) return;
        const auto &[a, b] = rng_.pick(links);
        return cluster_.data().break_link(*a, *b);
    }
    case Kind::path: return lose_path();
    case Kind::abort:
        if (node->alive && !node->hung) program_of(*node).abort();
        return;
    case Kind::master: {
        const auto away = rng_.per_mille(100) ? rng_.between(std::chrono::seconds(5), std::chrono::seconds(20))
                                              : rng_.between(Duration(0), std::chrono::milliseconds(2500));
        if (rng_.per_mille(500)) return cluster_.crash_master(away);
        return cluster_.crash_master_within(rng_.below(8), away);
    }
    case Kind::cut: {
        const auto which = rng_.below(3);
        const auto time = rng_.per_mille(500) ? rng_.between(std::chrono::milliseconds(100), std::chrono::seconds(9))
                                              : rng_.between(std::chrono::seconds(9), kLongestHang);
        return cluster_.cut(*node, which != 0, which != 1, time);
    }
    case Kind::slow: return program_of(*node).slow_down(static_cast<int>(rng_.between(3, 10)));
    }
}

/// The path between two nodes that have a link loses all packets or large ones, in one direction or both, for a time or for good.
/// The link may also break at once.
void Faults::lose_path() {
    const auto links = cluster_.data().live_links();
    if (links.empty()) return;
    const auto [a, b] = rng_.pick(links);
    const auto which = rng_.below(3);
    const auto what = rng_.per_mille(600) ? Paths::Loss::all : Paths::Loss::bulk;
    const auto how_long = rng_.below(3);
    const Duration time = how_long == 0   ? rng_.between(std::chrono::milliseconds(100), std::chrono::seconds(9))
                          : how_long == 1 ? rng_.between(std::chrono::seconds(9), kLongestLoss)
                                          : DataPlane::kForGood;
    if (which != 0) cluster_.data().lose_path(*a, *b, what, time);
    if (which != 1) cluster_.data().lose_path(*b, *a, what, time);
    if (rng_.per_mille(300)) cluster_.data().break_link(*a, *b);
}

void Faults::watch(When when, const Node &node, std::size_t message) {
    for (auto &trigger : triggers_) {
        if (trigger.when != when || trigger.message != message || trigger.nth == 0 || --trigger.nth > 0) continue;
        Node *target = trigger.other ? random_node() : cluster_.nodes()[node.index].get();
        if (trigger.before && trigger.kind == Kind::crash && when == When::on_peer_receives)
            strike(trigger.kind, target);
        else
            cluster_.queue().after(Duration(0), [this, kind = trigger.kind, target] { strike(kind, target); });
    }
}

void Faults::on_peer_receives(const Node &node, const wire::ToPeer &message) {
    watch(When::on_peer_receives, node, message.index());
}
void Faults::on_master_receives(const Node &node, const wire::ToMaster &message) {
    watch(When::on_master_receives, node, message.index());
}
void Faults::on_master_sends(const Node &node, PeerId, const wire::ToPeer &message) {
    watch(When::on_master_sends, node, message.index());
}

}  // namespace pccl::sim

// See diagnosis.h.
#include "protocol/diagnosis.h"

#include <algorithm>
#include <set>

namespace pccl::protocol {
namespace {

constexpr std::size_t kMaxNamedPeers = 8;  ///< in one log line
/// A link is slow if, in kMinReports reports in a row, it is backlogged for at least kBackloggedShare of the time, while the
/// median of the other links is backlogged for at most kIdleShare and has at least kMinSpeedRatio times its rate.
constexpr double kBackloggedShare = 0.7, kIdleShare = 0.3;
constexpr std::uint64_t kMinSpeedRatio = 3;
constexpr int kMinReports = 3;
/// The cause of a slow link is what limited it for at least this share of the time. A connection whose buffer holds one packet
/// counts as limited by the buffer for half of the time and by the path for the other half.
constexpr double kLimitedShare = 1.0 / 3;
/// A link that carried fewer bytes between two reports is ignored.
constexpr std::uint64_t kMinBytes = 64 << 10;

constexpr Duration kFirstRepeat = std::chrono::seconds(30), kLongestRepeat = std::chrono::hours(1);

std::string join(const std::vector<PeerId> &peers) {
    std::string text;
    for (std::size_t i = 0; i < peers.size() && i < kMaxNamedPeers; ++i)
        text.append(i == 0 ? "" : ", ").append(to_string(peers[i]));
    if (peers.size() > kMaxNamedPeers) text.append(" and ").append(std::to_string(peers.size() - kMaxNamedPeers)).append(" more");
    return text;
}

std::string seconds(Duration d) { return to_string(Duration(d.count() / 100000 * 100000)); }
Duration ms(std::uint32_t value) { return std::chrono::milliseconds(value); }
std::string percent(double share) { return std::to_string(static_cast<int>(share * 100 + 0.5)) + " %"; }
std::string mbit(std::uint64_t bytes_per_s) { return std::to_string(bytes_per_s * 8 / 1000000) + " Mbit/s"; }

const Snapshot::Member *member(const Snapshot &snapshot, PeerId id) {
    const auto found = std::ranges::lower_bound(snapshot.members, id, {}, &Snapshot::Member::id);
    return found != snapshot.members.end() && found->id == id ? &*found : nullptr;
}

/// The peers that wait for `root`, directly or through other waiting peers.
std::vector<PeerId> waiters(const Snapshot &snapshot, PeerId root) {
    std::set<PeerId> found;
    std::vector<PeerId> next{root};
    while (!next.empty()) {
        const PeerId id = next.back();
        next.pop_back();
        for (const auto &wait : snapshot.waits) {
            if (std::ranges::find(wait.missing, id) == wait.missing.end()) continue;
            for (const auto &[waiter, time] : wait.waiting) {
                if (waiter != root && found.insert(waiter).second) next.push_back(waiter);
            }
        }
    }
    return {found.begin(), found.end()};
}

/// The time for which half of the members of the call have waited for the rest.
std::optional<Duration> held_up(const Snapshot::Wait &wait) {
    const std::size_t half = (wait.members + 1) / 2;
    if (half == 0 || wait.waiting.size() < half) return std::nullopt;
    std::vector<Duration> times;
    for (const auto &[who, time] : wait.waiting)
        times.push_back(time);
    std::ranges::nth_element(times, times.begin() + static_cast<std::ptrdiff_t>(half - 1), std::greater<>());
    return times[half - 1];
}

}  // namespace

void Diagnosis::report(Time now, PeerId from, const wire::ProgressReport &progress) {
    Report &last = last_[from];
    before_[from] = std::move(last);
    last = {now, progress};
}

void Diagnosis::forget(PeerId id) {
    last_.erase(id);
    before_.erase(id);
    std::erase_if(slow_, [&](const auto &entry) { return entry.first.first == id || entry.first.second == id; });
}

const std::vector<wire::OpProgress> &Diagnosis::ops_of(Time now, PeerId id) const {
    static const std::vector<wire::OpProgress> kNone;
    const auto found = last_.find(id);
    return found != last_.end() && fresh(now, found->second) ? found->second.progress.ops : kNone;
}

std::vector<Finding> Diagnosis::findings(Time now, const Snapshot &snapshot, const Thresholds &limits) {
    std::vector<Finding> found;
    find_hung(now, snapshot, limits, found);
    find_dead_paths(now, snapshot, limits, found);
    find_stragglers(snapshot, limits, found);
    if (found.empty())
        find_slow_links(now, snapshot, found);
    else
        slow_.clear();
    if (found.empty()) find_idle(now, snapshot, limits, found);
    return found;
}

std::string Diagnosis::evidence_on(Time now, PeerId silent) const {
    std::string text;
    for (const auto &[from, report] : last_) {
        if (from == silent || !fresh(now, report)) continue;
        for (const auto &link : report.progress.links) {
            if (link.other != silent) continue;
            if (ms(link.unanswered_ms) >= std::chrono::seconds(1))
                return std::to_string(link.outstanding) + " bytes from " + to_string(from) + " have not been acknowledged for " +
                       seconds(ms(link.unanswered_ms)) + ": its host is down, or there is no path to it";
            // The process is silent, but its host answers window probes. A link without unacknowledged bytes gives no evidence.
            if (ms(link.stalled_ms) < std::chrono::seconds(1)) continue;
            text = "its host acknowledges data from " + to_string(from) +
                   ": its process does not run, or its path to the master is dead";
        }
    }
    return text;
}

void Diagnosis::find_hung(Time now, const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found) const {
    for (const auto &peer : snapshot.members) {
        if (peer.silent < limits.hung) continue;
        std::vector<PeerId> held = waiters(snapshot, peer.id);
        for (const auto &other : snapshot.members) {
            if (other.group != peer.group || other.id == peer.id || std::ranges::find(held, other.id) != held.end()) continue;
            if (!ops_of(now, other.id).empty()) held.push_back(other.id);  // in an operation with the silent peer
        }
        if (held.empty()) continue;
        std::string text = "it has been silent for " + seconds(peer.silent) + "; held up: " + join(held);
        if (const auto evidence = evidence_on(now, peer.id); !evidence.empty()) text.append("; ").append(evidence);
        found.push_back({Finding::Kind::hung, peer.id, {}, peer.silent, peer.name + " does not answer", std::move(text)});
    }
}

void Diagnosis::find_dead_paths(Time now, const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found) const {
    for (const auto &peer : snapshot.members) {
        const auto last = last_.find(peer.id);
        if (last == last_.end() || !fresh(now, last->second)) continue;
        for (const auto &link : last->second.progress.links) {
            const auto *other = member(snapshot, link.other);
            if (!other || other->silent >= limits.hung || ms(link.unanswered_ms) < limits.dead_path) continue;
            found.push_back({Finding::Kind::dead_path, peer.id, link.other, ms(link.unanswered_ms),
                             "the path from " + peer.name + " to " + other->name + " is dead in at least one direction",
                             std::to_string(link.outstanding) + " bytes have not been acknowledged for " +
                                 seconds(ms(link.unanswered_ms)) + " (" + std::to_string(link.retransmitted) +
                                 " segments were retransmitted so far); both answer the master"});
        }
    }
}

void find_stragglers(const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found) {
    std::map<PeerId, Finding> worst;
    for (const auto &wait : snapshot.waits) {
        const auto held = held_up(wait);
        if (!held || *held < limits.straggler) continue;
        for (const PeerId id : wait.missing) {
            const auto *peer = member(snapshot, id);
            if (!peer || peer->waits || peer->silent >= limits.hung) continue;  // it waits itself, or it is hung
            if (const auto known = worst.find(id); known != worst.end() && known->second.lasting >= *held) continue;
            worst[id] = {Finding::Kind::straggler,
                         id,
                         {},
                         *held,
                         peer->name + " holds the others up",
                         "it has not called " + wait.call + ", in which " + std::to_string(wait.waiting.size()) + " of " +
                             std::to_string(wait.members) + " members wait, half of them for " + seconds(*held) +
                             "; it answers the master, so its program is slow or stuck elsewhere; held up: " +
                             join(waiters(snapshot, id))};
        }
    }
    for (auto &[id, finding] : worst)
        found.push_back(std::move(finding));
}

/// The rates of a group's links between the last two reports of their senders.
std::vector<Diagnosis::Pace> Diagnosis::paces(Time now, const Snapshot &snapshot, GroupId group) const {
    std::vector<Pace> all;
    for (const auto &peer : snapshot.members) {
        const auto last = last_.find(peer.id), before = before_.find(peer.id);
        if (peer.group != group || last == last_.end() || before == before_.end()) continue;
        if (!fresh(now, last->second) || last->second.at - before->second.at > kFresh) continue;
        for (const auto &link : last->second.progress.links) {
            const auto &olds = before->second.progress.links;
            const auto old = std::ranges::find(olds, link.other, &wire::LinkProgress::other);
            if (old == olds.end() || link.looks <= old->looks || link.sent < old->sent + kMinBytes) continue;
            if (link.backlogged < old->backlogged || link.busy_us < old->busy_us)
                continue;  // the link was made again between the reports
            const double busy = static_cast<double>(std::max<std::uint64_t>(link.busy_us - old->busy_us, 1));
            const auto share = [busy](std::uint64_t a, std::uint64_t b) {
                return b < a ? std::min(1.0, static_cast<double>(a - b) / busy) : 0.0;
            };
            Pace pace{peer.id, link.other, 0, link.sent - old->sent, link.bytes_per_s, 0, 0, 0, link.round_trip_us};
            pace.backlogged =
                static_cast<double>(link.backlogged - old->backlogged) / static_cast<double>(link.looks - old->looks);
            pace.retransmitted = link.retransmitted > old->retransmitted ? link.retransmitted - old->retransmitted : 0;
            pace.receiver_limited = share(link.receiver_limited_us, old->receiver_limited_us);
            pace.buffer_limited = share(link.buffer_limited_us, old->buffer_limited_us);
            all.push_back(pace);
        }
    }
    return all;
}

void Diagnosis::find_slow_links(Time now, const Snapshot &snapshot, std::vector<Finding> &found) {
    std::set<GroupId> groups;
    for (const auto &peer : snapshot.members)
        groups.insert(peer.group);
    std::map<std::pair<PeerId, PeerId>, int> slow;
    for (const GroupId group : groups) {
        const auto all = paces(now, snapshot, group);
        if (all.size() < 2) continue;
        for (const Pace &link : all) {
            if (link.backlogged < kBackloggedShare) continue;
            std::vector<double> backlogs;
            std::vector<std::uint64_t> rates;
            for (const Pace &other : all) {
                if (&other == &link) continue;
                backlogs.push_back(other.backlogged);
                rates.push_back(other.bytes_per_s);
            }
            const auto middle = static_cast<std::ptrdiff_t>(backlogs.size() / 2);
            std::ranges::nth_element(backlogs, backlogs.begin() + middle);
            std::ranges::nth_element(rates, rates.begin() + middle);
            const std::uint64_t usual = rates[static_cast<std::size_t>(middle)];
            if (backlogs[static_cast<std::size_t>(middle)] > kIdleShare || usual < kMinSpeedRatio * link.bytes_per_s) continue;
            const std::pair between{link.from, link.to};
            slow[between] = slow_[between] + 1;
            if (slow[between] < kMinReports) continue;
            const char *cause = link.receiver_limited > kLimitedShare ? "; its receiver reads too slowly"
                                : link.buffer_limited > kLimitedShare ? "; its sender's socket buffer is too small for this path"
                                                                      : "; the path itself is slow";
            found.push_back({Finding::Kind::slow_link, link.from, link.to, std::chrono::seconds(slow[between]),
                             "the link from " + member(snapshot, link.from)->name + " to " + to_string(link.to) + " is slow",
                             mbit(link.bytes_per_s) + " while the other links of its group carry " + mbit(usual) +
                                 "; it had more to send than it could " + percent(link.backlogged) + " of the time" + cause +
                                 " (receiver's window closed " + percent(link.receiver_limited) + ", send buffer full " +
                                 percent(link.buffer_limited) + " of the time; " + std::to_string(link.retransmitted) +
                                 " segments retransmitted; round trip " + to_string(Duration(link.round_trip_us)) + ")"});
        }
    }
    slow_ = std::move(slow);
}

/// Finds operations that all members have called and in which no byte moves.
void Diagnosis::find_idle(Time now, const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found) const {
    for (const OpId &id : snapshot.entered) {
        Duration idle = Duration::max();
        std::string chain;
        PeerId first;
        for (const auto &peer : snapshot.members) {
            for (const auto &op : ops_of(now, peer.id)) {
                if (op.op != id || !op.awaited) continue;
                idle = std::min(idle, ms(op.idle_ms));
                if (chain.empty()) first = peer.id;
                chain.append(chain.empty() ? "" : "; ")
                    .append(to_string(peer.id))
                    .append(" waits for ")
                    .append(join(op.waits_for));
            }
        }
        if (chain.empty() || idle < limits.no_progress) continue;
        found.push_back({Finding::Kind::no_progress,
                         first,
                         {},
                         idle,
                         "the all-reduce with tag " + std::to_string(id.tag.value) + " makes no progress",
                         "all members have called it, and no byte has moved for " + seconds(idle) + ": " + chain});
    }
}

std::vector<Alarms::Line> Alarms::update(Time now, const std::vector<Finding> &findings) {
    std::vector<Line> lines;
    std::set<std::tuple<Finding::Kind, PeerId, PeerId>> active;
    for (const Finding &finding : findings) {
        const std::tuple key{finding.kind, finding.who, finding.other};
        active.insert(key);
        const auto [at, fresh] = alarms_.try_emplace(key);
        Alarm &alarm = at->second;
        if (fresh) alarm = {now, now, kFirstRepeat, false, false, {}};
        if (!alarm.active) alarm.since = now;
        alarm.active = true;
        if (now < alarm.next) continue;
        alarm.what = finding.what;
        alarm.logged = true;
        alarm.next = now + alarm.interval;
        alarm.interval = std::min(2 * alarm.interval, kLongestRepeat);
        lines.push_back({finding.who, finding.what + ": " + finding.evidence});
    }
    for (auto it = alarms_.begin(); it != alarms_.end();) {
        const auto current = it++;
        Alarm &alarm = current->second;
        if (active.contains(current->first)) continue;
        if (alarm.logged)
            lines.push_back({std::get<1>(current->first), "over after " + seconds(now - alarm.since) + ": " + alarm.what});
        alarm.active = alarm.logged = false;
        if (now - alarm.next > alarm.interval) alarms_.erase(current);  // a new occurrence is logged at once
    }
    return lines;
}

}  // namespace pccl::protocol

// See link_book.h.
#include "protocol/link_book.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace pccl::protocol {
namespace {

/// Each side dials once.
constexpr int kMaxTries = 2;
constexpr int kMaxBreaks = 8;
/// A link with this many recent breaks is not steady. A path can let connections be made and drop the data sent over them; every
/// such break costs an operation its timeout.
constexpr int kUnsteadyBreaks = 2;
constexpr Duration kRetryAfter = std::chrono::minutes(1);
/// After this long without a break, earlier breaks no longer count.
constexpr Duration kForgiveAfter = std::chrono::minutes(10);

}  // namespace

LinkBook::Attempt LinkBook::open(PeerId a, PeerId b, PeerId dialler) {
    Link &entry = link(a, b);
    entry.state = State::dialing;
    entry.dialler = dialler;
    entry.first_up = entry.second_up = false;
    entry.round_trip_us = 0;
    ++entry.attempt;
    ++entry.tries;
    return {a, b, dialler, entry.attempt};
}

LinkBook::Change LinkBook::report(Time now, PeerId from, const wire::LinkReport &report) {
    const auto found = links_.find(std::minmax(from, report.other));
    if (found == links_.end() || found->second.attempt != report.attempt) return {};
    Link &entry = found->second;
    const bool was_up = entry.state == State::up;
    if (report.up) {
        (from < report.other ? entry.first_up : entry.second_up) = true;
        entry.round_trip_us = std::max(entry.round_trip_us, report.round_trip_us);
        if (!was_up && entry.first_up && entry.second_up) {
            entry.state = State::up;
            entry.tries = 0;
            entry.why.clear();
        }
        return {Change::Kind::up, was_up, {}};
    }
    if (entry.state == State::down) return {};
    entry.why = report.why;
    if (was_up) {
        if (now - entry.broke_at > kForgiveAfter) entry.breaks = 0;
        ++entry.breaks;
        entry.broke_at = now;
    }
    Change change{Change::Kind::failed, was_up, {}};
    if (entry.tries < kMaxTries && entry.breaks < kMaxBreaks) {
        // A link that had been up can be dialled from this side. One that never was is dialled from the other side: a firewall
        // may reject only one direction.
        const PeerId other_side = entry.dialler == from ? report.other : from;
        change.retry = open(from, report.other, was_up ? entry.dialler : other_side);
    } else {
        entry.state = State::down;
        entry.down_since = now;
    }
    return change;
}

std::vector<LinkBook::Attempt> LinkBook::retry_down(Time now) {
    std::vector<Attempt> attempts;
    for (auto &[ids, entry] : links_) {
        if (entry.state != State::down || now - entry.down_since < kRetryAfter) continue;
        entry.tries = 0;
        entry.breaks = std::min(entry.breaks, kMaxBreaks - 1);  // allows one more break
        attempts.push_back(open(ids.first, ids.second, entry.dialler));
    }
    return attempts;
}

std::optional<LinkBook::Attempt> LinkBook::reopen(PeerId a, PeerId b, Time freeze_began, std::set<Pair> &retried) {
    const auto found = links_.find(std::minmax(a, b));
    if (found == links_.end() || found->second.state != State::down || found->second.breaks >= kMaxBreaks) return std::nullopt;
    if (!retried.insert(found->first).second) return std::nullopt;
    Link &entry = found->second;
    if (entry.down_since >= freeze_began) return std::nullopt;  // it was tried during this freeze
    entry.tries = 0;
    return open(a, b, entry.dialler);
}

std::vector<PeerId> LinkBook::remove(PeerId id) {
    std::vector<PeerId> others;
    for (auto it = links_.begin(); it != links_.end();) {
        const auto [a, b] = it->first;
        if (a != id && b != id) {
            ++it;
            continue;
        }
        others.push_back(a == id ? b : a);
        it = links_.erase(it);
    }
    return others;
}

void LinkBook::restore(PeerId a, PeerId b, const wire::KnownLink &forth, const wire::KnownLink &back) {
    Link &entry = link(a, b);
    entry.attempt = std::max(forth.attempt, back.attempt);
    entry.dialler = a;
    if (!forth.up || !back.up || forth.attempt != back.attempt) return;
    entry.state = State::up;
    entry.first_up = entry.second_up = true;
    entry.round_trip_us = std::max(forth.round_trip_us, back.round_trip_us);
}

void LinkBook::restore_bandwidth(PeerId first, PeerId second, double mbit_forth, double mbit_back) {
    Link &entry = link(first, second);
    entry.mbit_forth = mbit_forth;
    entry.mbit_back = mbit_back;
}

double LinkBook::bandwidth(PeerId from, PeerId to) const {
    const Link *entry = find(from, to);
    return !entry ? 0 : from < to ? entry->mbit_forth : entry->mbit_back;
}

void LinkBook::set_bandwidth(PeerId from, PeerId to, double mbit_per_s) {
    const auto found = links_.find(std::minmax(from, to));
    if (found == links_.end() || !std::isfinite(mbit_per_s) || mbit_per_s <= 0) return;
    (from < to ? found->second.mbit_forth : found->second.mbit_back) = mbit_per_s;
}

const LinkBook::Link *LinkBook::find(PeerId a, PeerId b) const {
    const auto found = links_.find(std::minmax(a, b));
    return found == links_.end() ? nullptr : &found->second;
}

bool LinkBook::is_up(PeerId a, PeerId b) const {
    const Link *entry = find(a, b);
    return entry && entry->state == State::up;
}

bool LinkBook::steady(const Link &link, Time now) {
    return link.state == State::up && (link.breaks < kUnsteadyBreaks || now - link.broke_at > kForgiveAfter);
}

bool LinkBook::usable(PeerId a, PeerId b, Trust trust, Time now) const {
    const Link *entry = find(a, b);
    return entry && (trust == Trust::steady ? steady(*entry, now) : entry->state == State::up);
}

bool LinkBook::all_settled(PeerId id, const std::vector<PeerId> &others) const {
    return std::ranges::all_of(others, [&](PeerId other) {
        const Link *entry = find(id, other);
        return !entry || entry->state != State::dialing;
    });
}

bool LinkBook::full_mesh(const std::vector<PeerId> &ids) const {
    for (std::size_t i = 0; i < ids.size(); ++i) {
        for (std::size_t j = i + 1; j < ids.size(); ++j) {
            if (!is_up(ids[i], ids[j])) return false;
        }
    }
    return true;
}

topology::Matrix LinkBook::matrix(const std::vector<PeerId> &ids, Trust trust, Time now) const {
    topology::Matrix matrix(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
        for (std::size_t j = 0; j < ids.size(); ++j) {
            if (i == j) continue;
            matrix.at(i, j).reachable = usable(ids[i], ids[j], trust, now);
            if (find(ids[i], ids[j])) matrix.at(i, j).mbit_per_s = bandwidth(ids[i], ids[j]);
        }
    }
    return matrix;
}

std::optional<std::vector<PeerId>> LinkBook::best_ring(const std::vector<PeerId> &ids, Time now) const {
    auto order = topology::best_ring(matrix(ids, Trust::steady, now));
    if (!order) order = topology::best_ring(matrix(ids, Trust::any, now));
    if (!order) return std::nullopt;
    std::vector<PeerId> ring;
    for (const std::size_t i : *order)
        ring.push_back(ids[i]);
    return ring;
}

wire::PathFacts LinkBook::path_facts(const std::vector<PeerId> &ring) const {
    wire::PathFacts facts;
    for (std::size_t i = 0; i < ring.size(); ++i) {
        for (std::size_t j = i + 1; j < ring.size(); ++j) {
            if (is_up(ring[i], ring[j]))
                facts.round_trip_us = std::max(facts.round_trip_us, find(ring[i], ring[j])->round_trip_us);
        }
    }
    double slowest = 0;
    for (std::size_t i = 0; ring.size() > 1 && i < ring.size(); ++i) {
        const double mbit = bandwidth(ring[i], ring[(i + 1) % ring.size()]);
        if (mbit <= 0) return facts;  // one link of the ring was not measured
        slowest = i == 0 ? mbit : std::min(slowest, mbit);
    }
    facts.mbit_per_s = static_cast<std::uint32_t>(std::clamp(slowest, 0.0, 4e9));
    return facts;
}

void LinkBook::check_invariants() const {
    for (const auto &[ids, entry] : links_) {
        PCCL_ASSERT(ids.first < ids.second);
        PCCL_ASSERT(entry.tries <= kMaxTries && entry.breaks <= kMaxBreaks);
        const bool both_up = entry.first_up && entry.second_up;
        if (entry.state == State::up) PCCL_ASSERT(both_up && entry.tries == 0 && entry.why.empty());
        if (entry.state == State::dialing) PCCL_ASSERT(!both_up);
    }
}

}  // namespace pccl::protocol

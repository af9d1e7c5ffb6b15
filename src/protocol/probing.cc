// See probing.h.
#include "protocol/probing.h"

#include <algorithm>
#include <map>

#include "base/assert.h"

namespace pccl::protocol {

void Probing::start(const std::vector<std::vector<PeerId>> &groups, const Predicate &needed) {
    *this = {};
    running_ = true;
    // Round k holds the probes from each member to the one k places further on, so no member has two in one direction.
    std::map<std::size_t, std::vector<Probe>> by_distance;
    for (const auto &ids : groups) {
        for (std::size_t distance = 1; distance < ids.size(); ++distance) {
            for (std::size_t i = 0; i < ids.size(); ++i) {
                const Probe probe{ids[i], ids[(i + distance) % ids.size()]};
                if (needed(probe)) by_distance[distance].push_back(probe);
            }
        }
    }
    for (auto &[distance, probes] : by_distance)
        rounds_.push_back(std::move(probes));
    std::ranges::reverse(rounds_);
}

std::vector<Probing::Probe> Probing::next_round(Time deadline, const Predicate &possible) {
    PCCL_ASSERT(running_ && rounds_left() && !outstanding());
    std::vector<Probe> probes = std::move(rounds_.back());
    rounds_.pop_back();
    deadline_ = deadline;
    std::erase_if(probes, [&](const Probe &probe) { return !possible(probe); });
    outstanding_.insert(probes.begin(), probes.end());
    return probes;
}

bool Probing::report(std::uint64_t round, const Probe &probe) {
    return running_ && round == this->round() && outstanding_.erase(probe) > 0;
}

void Probing::drop_impossible(const Predicate &possible) {
    std::erase_if(outstanding_, [&](const Probe &probe) { return !possible(probe); });
}

bool Probing::expire(Time now) {
    if (!outstanding() || now < deadline_) return false;
    outstanding_.clear();
    return true;
}

void Probing::check_invariants() const {
    PCCL_ASSERT(running_ || (outstanding_.empty() && rounds_.empty()));
    std::set<PeerId> senders, receivers;
    for (const Probe &probe : outstanding_) {
        PCCL_ASSERT(probe.from != probe.to);
        PCCL_ASSERT(senders.insert(probe.from).second && receivers.insert(probe.to).second);
    }
}

}  // namespace pccl::protocol

// See election.h.
#include "protocol/election.h"

#include <algorithm>

namespace pccl::protocol {
namespace {

using wire::OfferState;
using wire::Strategy;
using wire::TensorOffer;

bool same_schema(const std::vector<TensorOffer> &a, const std::vector<TensorOffer> &b) {
    return std::ranges::equal(a, b, [](const auto &x, const auto &y) { return x.same_shape(y); });
}

/// Tensors that must not differ have equal hashes.
bool same_content(const OfferState &a, const OfferState &b) {
    return std::ranges::equal(a.tensors, b.tensors,
                              [](const auto &x, const auto &y) { return x.allow_content_inequality || x.hash == y.hash; });
}

std::string describe(const TensorOffer &t) {
    return "'" + t.name + "' (type " + std::to_string(static_cast<int>(t.type)) + ", " + std::to_string(t.count) + " elements" +
           (t.allow_content_inequality ? ", may differ)" : ")");
}

std::string schema_difference(const std::vector<TensorOffer> &theirs, const std::vector<TensorOffer> &groups) {
    for (std::size_t i = 0; i < std::max(theirs.size(), groups.size()); ++i) {
        const std::string which = "its tensor " + std::to_string(i) + " is ";
        if (i >= theirs.size()) return "it lacks the group's tensor " + std::to_string(i) + ", " + describe(groups[i]);
        if (i >= groups.size()) return which + describe(theirs[i]) + " and the group has only " + std::to_string(groups.size());
        if (!theirs[i].same_shape(groups[i])) return which + describe(theirs[i]) + " and the group's is " + describe(groups[i]);
    }
    return "";
}

/// The offer that is equal, by `same`, to the offers of the most voters; the earliest one if several are.
template <class Same> const Ballot *most_common(const std::vector<const Ballot *> &voters, Same same) {
    const Ballot *best = nullptr;
    std::ptrdiff_t best_votes = 0;
    for (const Ballot *candidate : voters) {
        const auto votes = std::ranges::count_if(voters, [&](const Ballot *b) { return same(*candidate->offer, *b->offer); });
        if (votes > best_votes) {
            best = candidate;
            best_votes = votes;
        }
    }
    return best;
}

/// The voters: members of the last synchronization, or all peers if none of those is left.
std::vector<const Ballot *> electorate(const std::vector<Ballot> &ballots, bool continuing) {
    std::vector<const Ballot *> voters;
    for (const auto &b : ballots) {
        if (!continuing || b.in_last_sync) voters.push_back(&b);
    }
    return voters;
}

void check_schema(const SyncHistory &history, const std::vector<Ballot> &ballots, bool continuing, Election &out) {
    const auto voters = electorate(ballots, continuing);
    const auto by_schema = [](const OfferState &a, const OfferState &b) { return same_schema(a.tensors, b.tensors); };
    const Ballot *winner = nullptr;
    if (continuing) {  // the schema stays while any member of the last synchronization offers it
        const auto keeps =
            std::ranges::find_if(voters, [&](const Ballot *b) { return same_schema(b->offer->tensors, history.schema); });
        if (keeps != voters.end()) winner = *keeps;
    }
    if (!winner) winner = most_common(voters, by_schema);
    for (const auto &b : ballots) {
        const auto difference = schema_difference(b.offer->tensors, winner->offer->tensors);
        if (!difference.empty()) {
            out.violations.push_back({b.peer, "peer " + std::to_string(b.peer.value) + " was removed: " + difference});
        }
    }
}

/// The highest revision offered. If there are SEND_ONLY offers, only they count, because their content must win.
std::uint64_t highest_revision(const std::vector<const Ballot *> &voters) {
    std::uint64_t highest = 0;
    bool send_only = false;
    for (const Ballot *b : voters) {
        if (!b->can_send()) continue;
        const bool sends = b->offer->strategy == Strategy::send_only;
        if (sends && !send_only) {
            send_only = true;
            highest = b->offer->revision;
        } else if (sends == send_only) {
            highest = std::max(highest, b->offer->revision);
        }
    }
    return highest;
}

std::uint64_t expected_revision(const SyncHistory &history, const std::vector<Ballot> &ballots, bool continuing) {
    if (!continuing) return highest_revision(electorate(ballots, continuing));
    const std::uint64_t next = history.revision + 1;
    std::uint64_t jump = 0;
    bool equal = true, any = false;
    for (const auto &b : ballots) {
        if (!b.in_last_sync || b.offer->strategy == Strategy::receive_only) continue;
        if (any && b.offer->revision != jump) equal = false;
        jump = b.offer->revision;
        any = true;
    }
    return any && equal && jump > next ? jump : next;
}

/// A peer must not be ahead of its group. One that is behind receives.
void check_revisions(std::uint64_t expected, const SyncHistory &history, const std::vector<Ballot> &ballots, bool continuing,
                     Election &out) {
    if (!continuing) return;
    for (const auto &b : ballots) {
        if (b.offer->strategy == Strategy::receive_only || b.offer->revision <= expected) continue;
        out.violations.push_back({b.peer, "peer " + std::to_string(b.peer.value) +
                                              " was removed: it offers shared-state revision " +
                                              std::to_string(b.offer->revision) + " where " + std::to_string(expected) +
                                              " is expected (the last synchronization was " + std::to_string(history.revision) +
                                              "; add 1 before each call)"});
    }
}

/// The expected revision, or if no peer can send that, the highest that a member of the last synchronization can send: its
/// program does not count, or every other holder was lost. A newcomer that is behind has no influence.
std::uint64_t elected_revision(std::uint64_t expected, const std::vector<Ballot> &ballots, bool continuing) {
    const auto offers_it = [&](const Ballot &b) { return b.can_send() && b.offer->revision == expected; };
    const auto voters = electorate(ballots, continuing);
    if (std::ranges::any_of(ballots, offers_it) || std::ranges::none_of(voters, &Ballot::can_send)) return expected;
    return highest_revision(voters);
}

/// The ballots whose content can win.
std::vector<const Ballot *> candidates(std::uint64_t elected, const std::vector<Ballot> &ballots, Election &out) {
    std::vector<const Ballot *> all, send_only;
    for (const auto &b : ballots) {
        if (b.offer->strategy == Strategy::send_only && b.offer->revision != elected) {
            out.violations.push_back(
                {b.peer, "peer " + std::to_string(b.peer.value) + " was removed: it is SEND_ONLY at revision " +
                             std::to_string(b.offer->revision) + " where " + std::to_string(elected) + " is expected"});
        }
        if (!b.can_send() || b.offer->revision != elected) continue;
        all.push_back(&b);
        if (b.offer->strategy == Strategy::send_only) send_only.push_back(&b);
    }
    for (const Ballot *b : send_only) {
        const auto differs =
            std::ranges::find_if(send_only, [&](const Ballot *o) { return !same_content(*b->offer, *o->offer); });
        if (differs == send_only.end()) continue;
        out.violations.push_back({b->peer, "peer " + std::to_string(b->peer.value) + " was removed: it and peer " +
                                               std::to_string((*differs)->peer.value) +
                                               " are both SEND_ONLY and their contents differ"});
    }
    return send_only.empty() ? all : send_only;
}

/// The peers that hold the elected content of this tensor, even if their other tensors differ.
std::vector<PeerId> sources_of(std::size_t tensor, const Ballot &winner, const std::vector<Ballot> &ballots) {
    const auto &elected = winner.offer->tensors[tensor];
    if (elected.allow_content_inequality) return {winner.peer};  // exists once
    std::vector<PeerId> sources;
    for (const auto &b : ballots) {
        if (b.can_send() && b.offer->tensors[tensor].hash == elected.hash) sources.push_back(b.peer);
    }
    return sources;
}

/// Only content that no peer can need is overwritten before the commit. A member's content can be needed, however old it is: if
/// the holders of newer content are lost, nothing else is left.
Receiver plan_receiver(const Ballot &ballot, const Ballot &winner, const std::vector<Ballot> &ballots, bool continuing) {
    Receiver receiver{ballot.peer, false, {}};
    const bool behind = ballot.offer->revision != winner.offer->revision || ballot.tainted;
    const bool may_be_needed = ballot.in_last_sync && ballot.can_send();
    receiver.in_place = behind && continuing && !may_be_needed;
    for (std::size_t i = 0; i < winner.offer->tensors.size(); ++i) {
        const auto &mine = ballot.offer->tensors[i];
        const auto &elected = winner.offer->tensors[i];
        const bool free_to_differ = elected.allow_content_inequality;
        if (!ballot.tainted && (mine.hash == elected.hash || (free_to_differ && !behind))) continue;
        receiver.pull.push_back({static_cast<std::uint32_t>(i), elected.hash, sources_of(i, winner, ballots)});
    }
    return receiver;
}

}  // namespace

Election elect(const SyncHistory &history, const std::vector<Ballot> &ballots) {
    Election out;
    const bool continuing = history.synced && std::ranges::any_of(ballots, [](const Ballot &b) { return b.in_last_sync; });
    check_schema(history, ballots, continuing, out);
    if (!out.violations.empty()) return out;

    const std::uint64_t expected = expected_revision(history, ballots, continuing);
    check_revisions(expected, history, ballots, continuing, out);
    if (!out.violations.empty()) return out;

    const std::uint64_t elected = elected_revision(expected, ballots, continuing);
    const auto holders = candidates(elected, ballots, out);
    if (!out.violations.empty()) return out;
    if (holders.empty()) {
        out.failure = Error{pcclNoSharedStateAvailable,
                            "no peer of the group offers shared state at revision " + std::to_string(expected) +
                                " (all are RECEIVE_ONLY, behind, or were being overwritten); let one peer offer it"};
        return out;
    }
    const Ballot *winner = most_common(holders, same_content);
    out.revision = elected;
    for (const auto &b : ballots) {
        if (b.offer->strategy == Strategy::send_only) continue;  // never overwritten
        auto receiver = plan_receiver(b, *winner, ballots, continuing);
        if (!receiver.pull.empty()) out.receivers.push_back(std::move(receiver));
    }
    return out;
}

}  // namespace pccl::protocol

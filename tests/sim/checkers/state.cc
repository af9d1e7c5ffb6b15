#include <map>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class SharedState : public Checker {
public:
    explicit SharedState(Verdict &verdict) : Checker("shared state", verdict) {}

    void on_effect(const Node &node, const protocol::PeerEffect &effect) override {
        const auto *sent = std::get_if<protocol::SendToMaster>(&effect);
        const auto *offer = sent ? std::get_if<wire::OfferState>(&sent->message) : nullptr;
        if (!offer) return;
        offered_[node.index] = offer->strategy == wire::Strategy::receive_only
                                   ? 0
                                   : offer->revision;  // its offer does not take part in the election
    }

    void on_peer_receives(const Node &node, const wire::ToPeer &message) override {
        if (const auto *commit = std::get_if<wire::SyncCommit>(&message)) decision_[node.index] = commit->decision;
    }

    void on_complete(const Node &node, const CallInfo &call, const protocol::Complete &done) override {
        if (call.kind != CallKind::sync || done.code != pcclSuccess) return;
        // All members receive the commit in the same epoch, with the number of the group's decision.
        const auto key = std::tuple(node.group, node.peer->current_view().epoch, decision_[node.index]);
        std::vector<std::uint64_t> content = node.state.tensors;
        content.resize(content.size() - std::min(content.size(), node.state.free_to_differ));
        const auto &first = states_.try_emplace(key, Committed{std::move(content), done.revision, node.name}).first->second;
        auto mine = node.state.tensors;
        mine.resize(first.content.size());
        require(mine == first.content && done.revision == first.revision,
                node.name + " and " + first.node + " hold different state at revision " + std::to_string(done.revision));
        const auto last = last_.find(node.index);
        if (last != last_.end() && last->second.first == node.peer->id()) {
            require(done.revision >= last->second.second, node.name + " goes back to an older revision");
            // A program that does not increment its revision may offer the last one again, which is then synchronized again.
            require(done.revision >= offered_[node.index], node.name + " offers a newer revision than it receives");
        }
        last_[node.index] = {node.peer->id(), done.revision};
    }

private:
    struct Committed {
        std::vector<std::uint64_t> content;
        std::uint64_t revision;
        std::string node;
    };
    std::map<std::tuple<GroupId, ViewNumber, std::uint64_t>, Committed> states_;
    std::map<std::size_t, std::pair<PeerId, std::uint64_t>> last_;
    std::map<std::size_t, std::uint64_t> offered_, decision_;
};

}  // namespace

std::unique_ptr<Checker> check_state(Verdict &verdict) { return std::make_unique<SharedState>(verdict); }

}  // namespace pccl::sim

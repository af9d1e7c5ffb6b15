#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

using Nodes = std::vector<std::size_t>;

class Removals : public Checker {
public:
    explicit Removals(Verdict &verdict) : Checker("removals", verdict) {}

    void on_path_lost(const Node &from, const Node &to) override { bad_.insert(std::minmax(from.index, to.index)); }
    void on_path_settled(const Node &a, const Node &b) override { bad_.erase(std::minmax(a.index, b.index)); }

    void on_master_sends(const Node &node, PeerId to, const wire::ToPeer &message) override {
        if (to == PeerId{}) return;
        auto &[known, members] = groups_[node.group];
        if (const auto *welcome = std::get_if<wire::Welcome>(&message)) {
            nodes_[welcome->you] = node.index;
            known.insert(welcome->you);
        }
        if (const auto *view = std::get_if<wire::View>(&message)) members = {view->ring.begin(), view->ring.end()};
        const auto *removed = std::get_if<wire::Removed>(&message);
        if (!removed) return;
        // Newcomers of which each one fits into the ring may not all fit into it together.
        require(!has_ring(nodes_of(members.contains(to) ? members : known)),
                "peer " + std::to_string(to.value) + ", " + node.name + ", is removed (" + removed->why +
                    "), and good paths make a ring that includes it");
        known.erase(to);
        members.erase(to);
    }

private:
    struct Group {
        std::set<PeerId> known, members;
    };

    Nodes nodes_of(const std::set<PeerId> &peers) const {
        Nodes nodes;
        for (const PeerId peer : peers)
            nodes.push_back(nodes_.at(peer));
        return nodes;
    }
    /// Whether good paths form a ring of all these nodes. Tries every order.
    bool has_ring(Nodes order) const {
        std::ranges::sort(order);
        if (order.size() < 2) return true;
        do {
            bool whole = true;
            for (std::size_t i = 0; whole && i < order.size(); ++i)
                whole = !bad_.contains(std::minmax(order[i], order[(i + 1) % order.size()]));
            if (whole) return true;
        } while (std::next_permutation(order.begin() + 1, order.end()));
        return false;
    }

    std::set<std::pair<std::size_t, std::size_t>> bad_;  ///< bad in at least one direction, now or recently
    std::map<PeerId, std::size_t> nodes_;
    std::map<GroupId, Group> groups_;
};

}  // namespace

std::unique_ptr<Checker> check_removals(Verdict &verdict) { return std::make_unique<Removals>(verdict); }

}  // namespace pccl::sim

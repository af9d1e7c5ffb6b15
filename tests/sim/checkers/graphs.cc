#include <algorithm>
#include <map>
#include <set>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Graphs : public Checker {
public:
    explicit Graphs(Verdict &verdict) : Checker("graphs", verdict) {}

    void on_peer_receives(const Node &node, const wire::ToPeer &message) override {
        const PeerId id = node.peer->id();
        if (std::holds_alternative<wire::Freeze>(message)) changing_.insert(id);
        if (std::holds_alternative<wire::View>(message)) changing_.erase(id);
        const auto *change = std::get_if<wire::Neighbours>(&message);
        if (!change || change->code != pcclSuccess) return;
        const auto &ring = node.peer->current_view().ring;
        for (const PeerId other : change->neighbours)
            require(other != id && std::ranges::find(ring, other) != ring.end(),
                    node.name + " has " + to_string(other) + " as a neighbour");
        const bool alone = ring.size() < 2 || change->graph.kind == wire::GraphKind::none;
        // Between a freeze and the next view the master has lost members that this node still counts.
        require(change->neighbours.empty() == alone || (change->neighbours.empty() && changing_.contains(id)),
                node.name + " has too many or too few neighbours");
        auto &last = last_[id];
        require(change->epoch >= last.epoch, "the graph of " + node.name + " goes back from " + std::to_string(last.epoch) +
                                                 " to " + std::to_string(change->epoch));
        last = *change;
        if (change->graph.kind == wire::GraphKind::exponential) return;
        for (const auto &[other, theirs] : last_) {
            if (theirs.epoch == change->epoch && theirs.graph == change->graph && member(ring, other))
                require(lists(*change, other) == lists(theirs, id) || other == id,
                        to_string(id) + " and " + to_string(other) + " do not agree on whether they are neighbours");
        }
    }

private:
    static bool lists(const wire::Neighbours &change, PeerId id) {
        return std::ranges::find(change.neighbours, id) != change.neighbours.end();
    }
    static bool member(const std::vector<PeerId> &ring, PeerId other) { return std::ranges::find(ring, other) != ring.end(); }

    std::set<PeerId> changing_;  ///< received Freeze, and not yet the next view
    std::map<PeerId, wire::Neighbours> last_;
};

}  // namespace

std::unique_ptr<Checker> check_graphs(Verdict &verdict) { return std::make_unique<Graphs>(verdict); }

}  // namespace pccl::sim

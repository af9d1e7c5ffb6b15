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

    void on_told_peer(const Node &node, const wire::ToPeer &message) override {
        const PeerId id = node.peer->id();
        if (std::holds_alternative<wire::Freeze>(message)) changing_.insert(id);
        if (std::holds_alternative<wire::View>(message)) changing_.erase(id);
        const auto *told = std::get_if<wire::Neighbours>(&message);
        if (!told || told->code != pcclSuccess) return;
        const auto &ring = node.peer->current_view().ring;
        for (const PeerId other : told->neighbours)
            require(other != id && std::ranges::find(ring, other) != ring.end(), node.name + " has " + to_string(other) + " as a neighbour");
        const bool alone = ring.size() < 2 || told->graph.kind == wire::GraphKind::none;
        // Between a freeze and the next view the master has lost members that this node still counts.
        require(told->neighbours.empty() == alone || (told->neighbours.empty() && changing_.contains(id)), node.name + " has too many or too few neighbours");
        auto &last = last_[id];
        require(told->epoch >= last.epoch, "the graph of " + node.name + " goes back from " + std::to_string(last.epoch) + " to " +
                                               std::to_string(told->epoch));
        last = *told;
        if (told->graph.kind == wire::GraphKind::exponential) return;
        for (const auto &[other, theirs] : last_) {
            if (theirs.epoch == told->epoch && theirs.graph == told->graph && member(ring, other))
                require(lists(*told, other) == lists(theirs, id) || other == id, to_string(id) + " and " + to_string(other) +
                                                                                    " do not agree on whether they are neighbours");
        }
    }

private:
    static bool lists(const wire::Neighbours &told, PeerId id) { return std::ranges::find(told.neighbours, id) != told.neighbours.end(); }
    static bool member(const std::vector<PeerId> &ring, PeerId other) { return std::ranges::find(ring, other) != ring.end(); }

    std::set<PeerId> changing_;  ///< received Freeze, and not yet the next view
    std::map<PeerId, wire::Neighbours> last_;
};

}  // namespace

std::unique_ptr<Checker> check_graphs(Verdict &verdict) { return std::make_unique<Graphs>(verdict); }

}  // namespace pccl::sim

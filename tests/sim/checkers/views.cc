#include <map>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Views : public Checker {
public:
    explicit Views(Verdict &verdict) : Checker("views", verdict) {}

    void on_effect(const Node &node, const protocol::PeerEffect &effect) override {
        if (std::holds_alternative<protocol::DropAllLinks>(effect)) last_.erase(node.index);
        const auto *start = std::get_if<protocol::StartEpoch>(&effect);
        if (!start) return;
        require(start->rank < start->ring.size() && start->ring[start->rank] == node.peer->id(),
                node.name + " starts an epoch with the wrong rank");
    }

    void on_peer_receives(const Node &node, const wire::ToPeer &message) override {
        const auto *view = std::get_if<wire::View>(&message);
        if (!view) return;
        const std::string name = "view " + std::to_string(view->number.value);
        ViewNumber &last = last_[node.index];
        require(view->number > last, node.name + " receives " + name + " after view " + std::to_string(last.value));
        require(view->epoch <= view->number, name + " is of a later epoch");
        last = view->number;

        std::vector<std::pair<GroupId, std::uint32_t>> sizes;
        for (const auto &group : view->groups)
            sizes.emplace_back(group.group, group.size);
        const auto run = runs_.try_emplace(view->number, sizes).first;
        require(run->second == sizes, "members disagree on the groups of " + name);

        const auto group = groups_.try_emplace({view->number, node.group}, *view).first;
        const wire::View &known = group->second;
        require(known.epoch == view->epoch && known.ring == view->ring && known.full_mesh == view->full_mesh &&
                    known.path == view->path,
                node.name + " disagrees on the ring of " + name);
        require(known.generation == view->generation, node.name + " disagrees on the generation of " + name);

        const auto epoch = epochs_.try_emplace({view->epoch, node.group}, view->ring).first;
        require(epoch->second == view->ring, "the ring of epoch " + std::to_string(view->epoch.value) + " changed in " + name);
    }

private:
    std::map<std::size_t, ViewNumber> last_;
    std::map<ViewNumber, std::vector<std::pair<GroupId, std::uint32_t>>> runs_;
    std::map<std::pair<ViewNumber, GroupId>, wire::View> groups_;
    std::map<std::pair<ViewNumber, GroupId>, std::vector<PeerId>> epochs_;
};

}  // namespace

std::unique_ptr<Checker> check_views(Verdict &verdict) { return std::make_unique<Views>(verdict); }

}  // namespace pccl::sim

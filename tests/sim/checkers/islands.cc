#include <map>
#include <set>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Islands : public Checker {
public:
    explicit Islands(Verdict &verdict) : Checker("islands", verdict) {}

    void on_master_sends(const Node &node, PeerId, const wire::ToPeer &message) override {
        if (const auto *welcome = std::get_if<wire::Welcome>(&message)) islands_[welcome->you] = node.island;
        const auto *view = std::get_if<wire::View>(&message);
        if (!view) return;
        const std::string name = "view " + std::to_string(view->number.value);
        for (const auto &group : view->groups) {
            require(group.size == view->groups.front().size, "groups differ in size in " + name);
        }
        require(view->groups.size() == node.island.peers, name + " has " + std::to_string(view->groups.size()) + " groups");
        if (view->number != number_) admitted_whole();
        number_ = std::max(number_, view->number);
        for (const PeerId peer : view->ring) {
            if (seen_.insert(peer).second && view->number > partly_sent_) admitted_[islands_[peer].number].insert(peer);
        }
    }
    /// The journal holds its last view. The master may have died before it sent the view to any member, or to all.
    void on_world_event(const std::string &what) override {
        if (what != "the master dies") return;
        admitted_.clear();
        partly_sent_ = ViewNumber{number_.value + 1};
    }

private:
    void admitted_whole() {
        for (const auto &[island, peers] : admitted_) {
            const auto all = islands_[*peers.begin()].peers;
            require(peers.size() == all, "view " + std::to_string(number_.value) + " admits " + std::to_string(peers.size()) +
                                             " of the " + std::to_string(all) + " peers of island " + std::to_string(island));
        }
        admitted_.clear();
    }

    std::map<PeerId, Island> islands_;
    std::set<PeerId> seen_;
    ViewNumber number_;
    ViewNumber partly_sent_;  ///< the last view that a master may have sent to some members only, because it died
    std::map<std::uint64_t, std::set<PeerId>> admitted_;  ///< by that view
};

}  // namespace

std::unique_ptr<Checker> check_islands(Verdict &verdict) { return std::make_unique<Islands>(verdict); }

}  // namespace pccl::sim

#include <algorithm>
#include <map>
#include <set>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Identity : public Checker {
public:
    explicit Identity(Verdict &verdict) : Checker("identity", verdict) {}

    void on_master_closes(const Node &, PeerId peer, const std::string &) override {
        if (peer != PeerId{}) gone_.insert(peer);
    }

    void on_world_event(const std::string &what) override { restarted_ = restarted_ || what.starts_with("the master dies"); }

    void on_master_sends(const Node &node, PeerId to, const wire::ToPeer &message) override {
        if (std::holds_alternative<wire::Welcome>(message))
            return require(names_.try_emplace(to, node.index).first->second == node.index,
                           "peer id " + std::to_string(to.value) + " is given to two peers");
        if (std::holds_alternative<wire::Removed>(message) || to == PeerId{}) return;
        require(!gone_.contains(to), "the master sends a message to peer " + std::to_string(to.value) + ", which is gone");
        if (const auto *view = std::get_if<wire::View>(&message)) {
            if (std::exchange(restarted_, false)) found_ = view->number;
            // A repeated View of an older ring does not count. A restarted master repeats it to a member that had not received
            // it.
            if (view->epoch != view->number || view->number == found_) return;
            for (const PeerId peer : view->ring)
                alive(peer, "is in a new ring");
        }
        if (const auto *link = std::get_if<wire::OpenLink>(&message)) alive(link->other, "must be linked");
        if (const auto *probe = std::get_if<wire::Probe>(&message)) alive(probe->to, "must be measured");
        if (const auto *plan = std::get_if<wire::SyncPlan>(&message)) {
            for (const auto &tensor : plan->pull) {
                for (const PeerId peer : tensor.sources)
                    alive(peer, "is a source for " + node.name);
            }
        }
    }

private:
    void alive(PeerId peer, const std::string &role) {
        require(!gone_.contains(peer), "peer " + std::to_string(peer.value) + " is gone and " + role);
    }

    std::set<PeerId> gone_;
    bool restarted_ = false;  ///< and has sent no view since then
    ViewNumber found_;        ///< the first view that it sent
    std::map<PeerId, std::size_t> names_;
};

}  // namespace

std::unique_ptr<Checker> check_identity(Verdict &verdict) { return std::make_unique<Identity>(verdict); }

}  // namespace pccl::sim

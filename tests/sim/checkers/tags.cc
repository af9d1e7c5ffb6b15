#include <set>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Tags : public Checker {
public:
    Tags(Verdict &verdict, std::size_t most) : Checker("tags", verdict), most_(most) {}

    void on_effect(const Node &node, const protocol::PeerEffect &effect) override {
        if (const auto *start = std::get_if<protocol::StartOp>(&effect)) {
            require(started_[{node.index, node.peer->id()}].insert(start->op).second,
                    node.name + " starts an operation with the name of an earlier one");
        }
    }

    void on_complete(const Node &node, const CallInfo &, const protocol::Complete &) override {
        require(node.peer->tags_known() <= most_,
                node.name + " holds counters of " + std::to_string(node.peer->tags_known()) + " tags");
    }

private:
    std::size_t most_;
    std::map<std::pair<std::size_t, PeerId>, std::set<OpId>> started_;
};

}  // namespace

std::unique_ptr<Checker> check_tags(Verdict &verdict, std::size_t most) { return std::make_unique<Tags>(verdict, most); }

}  // namespace pccl::sim

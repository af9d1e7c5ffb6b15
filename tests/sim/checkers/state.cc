#include <map>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class SharedState : public Checker {
public:
    explicit SharedState(Verdict &verdict) : Checker("shared state", verdict) {}

    void on_complete(const Node &node, const CallInfo &call, const protocol::Complete &done) override {
        if (call.kind != CallKind::sync || done.code != pcclSuccess) return;
        // All hear of the commit in the same epoch; within one a revision is synchronized once.
        const auto key = std::tuple(node.group, node.peer->current_view().epoch, done.revision);
        std::vector<std::uint64_t> content = node.state.tensors;
        content.resize(content.size() - std::min(content.size(), node.state.free_to_differ));
        const auto first = states_.try_emplace(key, std::move(content), node.name).first;
        auto mine = node.state.tensors;
        mine.resize(first->second.first.size());
        require(mine == first->second.first, node.name + " and " + first->second.second + " hold different state at revision " +
                                                 std::to_string(done.revision));
        const auto last = last_.find(node.index);
        if (last != last_.end() && last->second.first == node.peer->id())
            require(done.revision > last->second.second, node.name + " synchronizes a revision again");
        last_[node.index] = {node.peer->id(), done.revision};
    }

private:
    std::map<std::tuple<GroupId, ViewNumber, std::uint64_t>, std::pair<std::vector<std::uint64_t>, std::string>> states_;
    std::map<std::size_t, std::pair<PeerId, std::uint64_t>> last_;
};

}  // namespace

std::unique_ptr<Checker> check_state(Verdict &verdict) { return std::make_unique<SharedState>(verdict); }

}  // namespace pccl::sim

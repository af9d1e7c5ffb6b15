#include <algorithm>
#include <map>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Repairs : public Checker {
public:
    explicit Repairs(Verdict &verdict) : Checker("repairs", verdict) {}

    void on_effect(const Node &node, const protocol::PeerEffect &effect) override {
        Member &member = members_[node.index];
        if (const auto *epoch = std::get_if<protocol::StartEpoch>(&effect)) {
            member.ring = {epoch->ring.begin(), epoch->ring.end()};
            require(epoch->repaired.empty() || std::ranges::includes(member.before, member.ring),
                    node.name + " repairs a call in a ring that has grown");
            member.before = member.ring;
        }
    }

    void on_final(const Node &node, const OpId &op, CallId call, std::size_t element,
                  const std::set<PeerId> &took_part) override {
        Member &member = members_[node.index];
        const std::string what =
            "element " + std::to_string(element) + " with tag " + std::to_string(op.tag.value) + " at " + node.name;
        require(member.final.insert({call, element}).second, what + " becomes final twice");
        require(std::ranges::includes(took_part, member.ring), what + " leaves out a member of the ring it became final in");
    }

private:
    struct Member {
        std::set<PeerId> ring, before;
        std::set<std::pair<CallId, std::size_t>> final;
    };
    std::map<std::size_t, Member> members_;
};

}  // namespace

std::unique_ptr<Checker> check_repairs(Verdict &verdict) { return std::make_unique<Repairs>(verdict); }

}  // namespace pccl::sim

#include <map>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Answers : public Checker {
public:
    explicit Answers(Verdict &verdict) : Checker("answers", verdict) {}

    void on_peer_receives(const Node &node, const wire::ToPeer &message) override {
        const auto *answer = std::get_if<wire::PendingAnswer>(&message);
        if (!answer) return;
        const auto [first, is_first] =
            answers_.try_emplace({node.group, answer->generation, answer->k}, First{answer->pending, &node, node.peer->id()});
        if (is_first || first->second.pending == answer->pending || lost(first->second)) return;
        violated("question " + std::to_string(answer->k) + " of generation " + std::to_string(answer->generation) +
                 " has a different answer at " + node.name);
    }

private:
    struct First {
        bool pending;
        const Node *node;
        PeerId id;
    };
    /// It did not resume at a master that restarted, and that master cannot know which answers it had received.
    static bool lost(const First &first) {
        const Node &node = *first.node;
        return !node.alive || node.hung || node.conn == protocol::ConnId{} || node.peer->id() != first.id;
    }

    std::map<std::tuple<GroupId, std::uint64_t, std::uint64_t>, First> answers_;
};

}  // namespace

std::unique_ptr<Checker> check_answers(Verdict &verdict) { return std::make_unique<Answers>(verdict); }

}  // namespace pccl::sim

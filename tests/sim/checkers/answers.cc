#include <map>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Answers : public Checker {
public:
    explicit Answers(Verdict &verdict) : Checker("answers", verdict) {}

    void on_told_peer(const Node &node, const wire::ToPeer &message) override {
        const auto *answer = std::get_if<wire::PendingAnswer>(&message);
        if (!answer) return;
        const auto first = answers_.try_emplace({node.group, answer->generation, answer->k}, answer->pending).first;
        require(first->second == answer->pending, "question " + std::to_string(answer->k) + " of generation " +
                                                      std::to_string(answer->generation) + " has another answer at " + node.name);
    }

private:
    std::map<std::tuple<GroupId, std::uint64_t, std::uint64_t>, bool> answers_;
};

}  // namespace

std::unique_ptr<Checker> check_answers(Verdict &verdict) { return std::make_unique<Answers>(verdict); }

}  // namespace pccl::sim

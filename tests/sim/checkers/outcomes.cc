#include <map>
#include <set>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

std::string describe(const OpId &op) {
    return "operation " + std::to_string(op.epoch.value) + ":" + std::to_string(op.tag.value) + "#" + std::to_string(op.seq);
}

/// A member that aborts its calls or is removed is exempt: its calls can end differently from those of the others.
class Outcomes : public Checker {
public:
    explicit Outcomes(Verdict &verdict) : Checker("outcomes", verdict) {}

    void on_effect(const Node &node, const protocol::PeerEffect &effect) override {
        Member &member = members_[node.index];
        if (std::holds_alternative<protocol::DropAllLinks>(effect)) member.exempt = true;
        if (const auto *end = std::get_if<protocol::EndOp>(&effect)) ended(node, member, *end);
    }

    void on_abort(const Node &node) override { members_[node.index].exempt = true; }

    void on_peer_receives(const Node &node, const wire::ToPeer &message) override {
        // Calls that can never complete are failed by the master, so that the number of calls differs between members.
        if (const auto *failed = std::get_if<wire::OpFailed>(&message); failed && failed->skip)
            members_[node.index].exempt = true;
        const auto *done = std::get_if<wire::CallDone>(&message);
        if (!done || done->code != pcclSuccess) return;
        if (done->kind != wire::Call::connect && done->kind != wire::Call::update_topology) return;
        Member &member = members_[node.index];
        member.generation = done->generation;
        member.calls.clear();
        member.exempt = false;
    }

    void on_result(const Node &node, const OpId &op, std::uint64_t result) override { members_[node.index].results[op] = result; }

    void on_complete(const Node &node, const CallInfo &call, const protocol::Complete &done) override {
        Member &member = members_[node.index];
        if (const auto lost = member.lost.extract(call.id); !lost.empty() && !member.exempt) {
            Operation &op = operations_[{node.group, lost.mapped()}];
            require(op.committed_by.empty(),
                    describe(lost.mapped()) + " failed at " + node.name + " and was committed at " + op.committed_by);
            op.failed_by = node.name;
        }
        if (call.kind != CallKind::reduce || member.exempt) return;
        const auto nth = member.calls[call.tag]++;
        const bool success = done.code == pcclSuccess;
        const auto [first, is_first] =
            calls_.try_emplace({node.group, member.generation, call.tag, nth}, First{success, node.name});
        require(is_first || first->second.success == success,
                "call " + std::to_string(nth) + " with tag " + std::to_string(call.tag.value) + " of group " +
                    std::to_string(node.group.value) + " " + (success ? "succeeded" : "failed") + " at " + node.name +
                    " and did not at " + first->second.who);
    }

private:
    struct Member {
        bool exempt = true;
        std::uint64_t generation = 0;
        std::map<Tag, std::uint64_t> calls;
        std::map<OpId, std::uint64_t> results;
        std::map<CallId, OpId> lost;
    };
    struct First {
        bool success;
        std::string who;
    };
    struct Operation {
        std::string committed_by, failed_by;
        std::uint64_t result = 0;
    };

    void ended(const Node &node, Member &member, const protocol::EndOp &end) {
        Operation &op = operations_[{node.group, end.op}];
        const auto found = member.results.find(end.op);
        if (end.committed) {
            if (found == member.results.end())
                return violated(describe(end.op) + " was committed at " + node.name + ", which holds no result");
            require(op.failed_by.empty(), describe(end.op) + " was committed at " + node.name + " and failed at " + op.failed_by);
            require(op.committed_by.empty() || op.result == found->second,
                    describe(end.op) + " has different results at " + node.name + " and " + op.committed_by);
            op.committed_by = node.name;
            op.result = found->second;
        } else if (!member.exempt) {
            member.lost[end.call] = end.op;  // the call returns later, or never if the member dies
        }
        if (found != member.results.end()) member.results.erase(found);
    }

    std::map<std::size_t, Member> members_;
    std::map<std::pair<GroupId, OpId>, Operation> operations_;  ///< groups that change in one view share its number
    std::map<std::tuple<GroupId, std::uint64_t, Tag, std::uint64_t>, First> calls_;
};

}  // namespace

std::unique_ptr<Checker> check_outcomes(Verdict &verdict) { return std::make_unique<Outcomes>(verdict); }

}  // namespace pccl::sim

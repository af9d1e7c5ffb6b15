#include <map>

#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Buffers : public Checker {
public:
    explicit Buffers(Verdict &verdict) : Checker("buffers", verdict) {}

    void on_effect(const Node &node, const protocol::PeerEffect &effect) override {
        Member &member = members_[node.index];
        if (const auto *epoch = std::get_if<protocol::StartEpoch>(&effect)) {
            require(member.open.empty(), node.name + " starts an epoch while operations of the previous one are open");
            require(epoch->epoch > member.epoch, node.name + " starts the same epoch twice");
            member.epoch = epoch->epoch;
            member.ended.clear();
        }
        if (std::holds_alternative<protocol::DropAllLinks>(effect)) member.epoch = {};
        if (const auto *start = std::get_if<protocol::StartOp>(&effect)) {
            require(start->op.epoch == member.epoch, node.name + " starts an operation of another epoch");
            require(!member.ended.contains(start->op), node.name + " starts an operation that has ended");
            require(member.calls.emplace(start->call, start->op).second, node.name + " starts two operations for one call");
            require(member.open.emplace(start->op, start->call).second, node.name + " starts an operation twice");
        }
        if (const auto *carry = std::get_if<protocol::CarryOps>(&effect)) {
            for (const OpId &op : carry->ops) {
                const auto open = member.open.find(op);
                if (open == member.open.end()) return violated(node.name + " carries an operation that is not open");
                member.ended[op] = true;
                member.calls.erase(open->second);
                member.open.erase(open);
            }
        }
        if (const auto *end = std::get_if<protocol::EndOp>(&effect)) {
            const auto open = member.open.find(end->op);
            if (open == member.open.end()) return violated(node.name + " ends an operation that is not open");
            require(open->second == end->call, node.name + " ends an operation of another call");
            member.ended[end->op] = true;
            member.calls.erase(open->second);
            member.open.erase(open);
        }
    }

    void on_complete(const Node &node, const CallInfo &call, const protocol::Complete &) override {
        require(!members_[node.index].calls.contains(call.id),
                node.name + " completes a call whose buffers are still in use by an operation");
    }

    void on_stray_complete(const Node &node, const protocol::Complete &) override {
        violated(node.name + " completes a call twice");
    }

private:
    struct Member {
        ViewNumber epoch;
        std::map<OpId, CallId> open;
        std::map<CallId, OpId> calls;
        std::map<OpId, bool> ended;  ///< of this epoch
    };
    std::map<std::size_t, Member> members_;
};

}  // namespace

std::unique_ptr<Checker> check_buffers(Verdict &verdict) { return std::make_unique<Buffers>(verdict); }

}  // namespace pccl::sim

// The modelled data plane: links, operations, bandwidth probes and state transfer, as far as their outcome goes.
//
// An operation finishes at a member when the contribution of every member of its ring has come to it hop by hop along the ring,
// over links that were up, through members that had started the operation too. Its result is a hash over all contributions, so
// that two members' results can be compared bit by bit.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "cluster.h"

namespace pccl::sim {

class DataPlane {
public:
    explicit DataPlane(Cluster &cluster) : cluster_(cluster) {}

    /// Which node can dial which; all can, unless said.
    void set_reachable(std::size_t from, std::size_t to, bool can) { unreachable_[{from, to}] = !can; }
    bool reachable(const Node &from, const Node &to) const {
        const auto found = unreachable_.find({from.index, to.index});
        return found == unreachable_.end() || !found->second;
    }
    bool up(Node &node, PeerId other);  ///< the node's side of their link is
    void break_link(Node &a, Node &b);
    /// All nodes with a link to another, in pairs.
    std::vector<std::pair<Node *, Node *>> live_links();

    // What a peer's effects ask for.
    void make_link(Node &node, const wire::OpenLink &link);
    void drop_link(Node &node, PeerId other);
    void drop_all(Node &node);
    void start_epoch(Node &node, const protocol::StartEpoch &epoch);
    void start_op(Node &node, const protocol::StartOp &start);
    void end_op(Node &node, const OpId &op);
    void examine(Node &node, const protocol::Examine &look);
    void start_probe(Node &node, const wire::Probe &probe);
    void offer(Node &node);  ///< a sync call begins: what the node holds can be pulled from now on
    void start_pull(Node &node, const wire::SyncPlan &plan);
    void end_sync(Node &node, const protocol::EndSync &end);

    // What only the simulation knows.
    void announce(CallId call, std::uint64_t fingerprint, std::uint64_t content) { announced_[call] = {fingerprint, content}; }
    void on_crash(Node &node, bool silent);
    /// The result of the operation behind a call, once finished; 0 before.
    std::uint64_t result(CallId call) const;
    unsigned probe_lost_per_mille = 0;
    unsigned finish_slow_per_mille = 0;
    /// Changes a contribution on its way: breaks the data plane on purpose.
    std::function<void(const Node &from, const Node &to, std::uint64_t &content)> tamper;

private:
    struct Side {
        enum class State { waiting, dialled, up, dead } state = State::waiting;
        std::uint32_t attempt = 0;
        bool dial = false;
        Secret token{};
        std::size_t other = 0;  ///< node index
    };
    struct Contribution {
        PeerId origin;
        std::uint64_t fingerprint = 0;
        std::uint64_t content = 0;
    };
    struct Op {
        CallId call;
        std::uint64_t fingerprint = 0;
        bool broken = false;
        std::map<PeerId, std::uint64_t> have;
    };
    struct Transfer {
        bool offering = false;
        State content;           ///< what was offered
        std::uint64_t sync = 0;  ///< of the plan in progress; 0: none
        std::size_t missing = 0;
        std::map<std::uint32_t, std::uint64_t> staged;
        std::map<std::uint32_t, std::uint64_t> received;  ///< for this plan, staged or in place
    };
    struct NodeData {
        std::map<PeerId, Side> links;
        ViewNumber epoch;
        std::vector<PeerId> ring;
        std::map<OpId, Op> ops;
        std::set<OpId> ended;
        std::map<OpId, std::vector<Contribution>> early;  ///< of operations not started here yet
        Transfer transfer;
    };

    NodeData &of(const Node &node);
    Side *side(Node &node, PeerId other);
    void report(Node &node, PeerId other, std::uint32_t attempt, bool is_up, const char *why, Duration delay);
    void lose_side(Node &node, PeerId other, std::uint32_t attempt, const char *why, Duration delay);
    void dialled(Node &node, PeerId other, std::uint32_t attempt);
    void try_match(Node &acceptor, PeerId dialler);
    void accept(Node &node, const OpId &id, const Contribution &contribution);
    void forward(Node &node, const OpId &id, const Contribution &contribution);
    void pull_tensor(Node &node, std::uint64_t sync, bool in_place, wire::PullTensor item, int patience);
    void pulled(Node &node, std::uint64_t sync);
    void pull_failed(Node &node, std::uint64_t sync, const std::string &why);

    Cluster &cluster_;
    std::deque<NodeData> data_;  // stable addresses
    std::map<std::pair<std::size_t, std::size_t>, bool> unreachable_;
    std::map<CallId, std::pair<std::uint64_t, std::uint64_t>> announced_;
    std::map<CallId, std::uint64_t> results_;
};

}  // namespace pccl::sim

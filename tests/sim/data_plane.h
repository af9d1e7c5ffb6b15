// The modelled data plane: the outcomes of links, operations, bandwidth probes and state transfers, without their bytes.
//
// An operation finishes at a member when the contribution of every member of its ring has arrived hop by hop along the ring, over
// links that were up, through members that had started the operation too. Its result is a hash over all contributions, so that
// the results of two members can be compared bit by bit. An operation with LossPolicy::repair has several elements, and each
// becomes final by itself. Elements that are final when members are lost are kept and distributed along the next ring.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "cluster.h"
#include "paths.h"

namespace pccl::sim {

/// The spec_hash of a call whose shard belongs to a membership that is no longer current.
inline constexpr std::uint64_t kStaleShard = ~std::uint64_t{0};

class DataPlane {
public:
    explicit DataPlane(Cluster &cluster) : cluster_(cluster) {}

    /// Whether `from` can dial `to`. All nodes can dial each other by default.
    void set_reachable(std::size_t from, std::size_t to, bool can) { unreachable_[{from, to}] = !can; }
    bool reachable(const Node &from, const Node &to) const {
        const auto found = unreachable_.find({from.index, to.index});
        return found == unreachable_.end() || !found->second;
    }
    bool up(Node &node, PeerId other);  ///< the node's side of the link
    void break_link(Node &a, Node &b);
    /// For this time, data that `from` sends to `to` does not arrive.
    void lose_path(Node &from, Node &to, Paths::Loss what, Duration time);
    static constexpr Duration kForGood = Duration::max();
    bool path_well(const Node &a, const Node &b) const { return paths_.well(a.index, b.index, cluster_.queue().now()); }
    /// All pairs of nodes that have a link.
    std::vector<std::pair<Node *, Node *>> live_links();

    /// Sends something over the link to that peer, if there is one. `arrives` runs at the receiver unless the link breaks first.
    /// Later sends may arrive earlier.
    void send(Node &node, PeerId to, EventQueue::Action arrives);

    // Called for the effects of a peer's state machine.
    void make_link(Node &node, const wire::OpenLink &link);
    void drop_link(Node &node, PeerId other);
    void drop_all(Node &node);
    void start_epoch(Node &node, const protocol::StartEpoch &epoch);
    void start_op(Node &node, const protocol::StartOp &start);
    void end_op(Node &node, const OpId &op);
    void examine(Node &node, const protocol::ReportProgress &look);
    void carry_ops(Node &node, const protocol::CarryOps &carry);
    void drop_tags(Node &node, const protocol::DropTags &drop);
    void start_probe(Node &node, const wire::Probe &probe);
    void offer(Node &node);  ///< a sync call begins: from now on others can pull the node's tensors
    void start_pull(Node &node, const wire::SyncPlan &plan);
    void end_sync(Node &node, const protocol::EndSync &end);

    // Facts that only the simulation knows.
    void announce(CallId call, std::uint64_t spec_hash, std::uint64_t content, op::LossPolicy fault) {
        announced_[call] = {spec_hash == kStaleShard ? spec_hash : mix(spec_hash, static_cast<std::uint64_t>(fault)), content,
                            fault};
    }
    static constexpr std::size_t kElements = 6;  ///< of an operation with LossPolicy::repair; others have one
    void on_crash(Node &node, bool silent);
    /// The result of the operation behind a call, once finished; 0 before.
    std::uint64_t result(CallId call) const;
    unsigned probe_lost_per_mille = 0;
    unsigned finish_slow_per_mille = 0;
    /// The program writes to the buffer of its open operation with that tag: contributions of its own that are in flight arrive
    /// with a wrong checksum. The receiver asks for them again, and the sender finds that its second copy differs.
    void modify_buffer(Node &node, Tag tag);
    /// As `modify_buffer`, for a tensor that the node has offered and others pull.
    void modify_tensor(Node &node, std::uint32_t index);
    /// Changes a contribution in flight. For tests that break the data plane on purpose.
    std::function<void(const Node &from, const Node &to, std::uint64_t &content)> tamper;

private:
    struct Side {
        enum class State { waiting, dialled, up, dead } state = State::waiting;
        std::uint32_t attempt = 0;
        bool dial = false;
        Secret token{};
        std::size_t other = 0;        ///< node index
        bool unacknowledged = false;  ///< sent data is not acknowledged; a check is scheduled
    };
    /// A member's value of an element or, if `took_part` is not empty, the result of the element.
    struct Contribution {
        PeerId origin;
        std::uint64_t spec_hash = 0;
        std::uint64_t content = 0;
        std::size_t element = 0;
        std::set<PeerId> took_part = {};
    };
    struct Announced {
        std::uint64_t spec_hash = 0;
        std::uint64_t content = 0;
        op::LossPolicy fault{};
    };
    struct Element {
        std::map<PeerId, std::uint64_t> have;
        std::set<PeerId> took_part;  ///< once it is final
        std::uint64_t result = 0;
        std::vector<bool> missing;  ///< in a repair: true if the member of that rank misses the element
        bool final() const { return !took_part.empty(); }
    };
    struct Op {
        CallId call;
        std::uint64_t spec_hash = 0;
        bool broken = false;
        std::vector<Element> elements;
        bool modified = false;  ///< by the program, after the first copy was sent
    };
    struct Transfer {
        bool offering = false;
        State content;           ///< as offered
        std::uint64_t sync = 0;  ///< of the current plan; 0: none
        std::size_t missing = 0;
        std::map<std::uint32_t, std::uint64_t> staged;
        std::map<std::uint32_t, std::uint64_t> received;  ///< for this plan, staged or in place
        std::set<std::uint32_t> modified = {};            ///< tensors that the program has changed since they were offered
    };
    struct NodeData {
        std::map<PeerId, Side> links;
        ViewNumber epoch;
        std::vector<PeerId> ring;
        std::map<Tag, wire::RepairedOp> repaired;
        std::map<CallId, std::vector<Element>> carried;  ///< the final elements
        std::map<OpId, Op> ops;
        std::map<Tag, std::uint32_t> begun;  ///< in this epoch: one past the last operation started with a tag
        std::uint32_t floor = 0;             ///< the same number for every other tag
        bool has_ended(const OpId &id) const {
            const auto found = begun.find(id.tag);
            return id.epoch == epoch && !ops.contains(id) && id.seq < (found == begun.end() ? floor : found->second);
        }
        std::map<OpId, std::vector<Contribution>> early;  ///< for operations not started here yet
        Transfer transfer;
    };

    NodeData &of(const Node &node);
    Side *side(Node &node, PeerId other);
    void notify(Node &node, const protocol::LinkEvent &event);
    void report(Node &node, PeerId other, std::uint32_t attempt, bool is_up, const char *why, Duration delay);
    void lose_side(Node &node, PeerId other, std::uint32_t attempt, const char *why, Duration delay);
    void dialled(Node &node, PeerId other, std::uint32_t attempt);
    void try_match(Node &acceptor, PeerId dialler);
    void accept(Node &node, const OpId &id, const Contribution &contribution);
    void accept_value(Node &node, const OpId &id, Op &op, const Contribution &contribution);
    void make_final(Node &node, const OpId &id, Op &op, std::size_t element, const std::set<PeerId> &took_part,
                    std::uint64_t result);
    void plan_repair(Node &node, const OpId &id, Op &op);
    void break_op(Node &node, const OpId &id, pcclResult_t code, const std::string &why, bool own = false);
    void finish_if_final(Node &node, const OpId &id, Op &op);
    void hand_on(Node &node, const OpId &id, const Op &op, std::size_t element);
    void send_to_successor(Node &node, const OpId &id, const Contribution &contribution);
    /// A link as its sender saw it when it sent something.
    struct Link {
        Node *sender, *receiver;
        PeerId from, to;
        std::uint32_t attempt;
    };
    void deliver(const Link &link, const EventQueue::Action &arrives);
    void take_in(Node &node, const OpId &id, const Contribution &sent);
    void ask_again(Node &receiver, Node &sender, const OpId &id);
    void copy_again(Node &sender, const OpId &id);
    void await_acknowledgement(Node &node, PeerId other);
    bool delivers_closing(const Node &node, const Node &other) const;
    void pull_tensor(Node &node, std::uint64_t sync, bool in_place, wire::PullTensor item, int tries_left);
    void pulled(Node &node, std::uint64_t sync);
    void pull_failed(Node &node, std::uint64_t sync, const std::string &why);

    Cluster &cluster_;
    std::deque<NodeData> data_;  // stable addresses
    std::map<std::pair<std::size_t, std::size_t>, bool> unreachable_;
    Paths paths_;
    std::map<CallId, Announced> announced_;
    std::map<CallId, std::pair<OpId, std::uint64_t>> results_;
};

}  // namespace pccl::sim

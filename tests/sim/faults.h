// Draws the faults of a run from its seed and carries them out: at random times, and right before or after chosen messages.
#pragma once

#include <functional>
#include <vector>

#include "cluster.h"
#include "data_plane.h"
#include "profile.h"
#include "program.h"

namespace pccl::sim {

class Faults : public Observer {
public:
    Faults(Cluster &cluster, const Profile &profile, std::vector<std::unique_ptr<Program>> &programs, std::uint64_t seed);

    /// After this time no fault strikes, and every node that hung has resumed.
    Time quiet_from() const { return quiet_from_; }

    void on_peer_receives(const Node &node, const wire::ToPeer &message) override;
    void on_master_receives(const Node &node, const wire::ToMaster &message) override;
    void on_master_sends(const Node &node, PeerId to, const wire::ToPeer &message) override;

private:
    enum class Kind { crash, hang, long_hang, break_link, abort, slow, master, cut, path };
    enum class When { on_master_receives, on_peer_receives, on_master_sends };
    struct Trigger {
        When when;
        std::size_t message;  ///< index in its variant
        std::uint64_t nth;
        Kind kind;
        bool other;   ///< strikes a random node instead of the receiver or sender of the message
        bool before;  ///< the node dies before it handles the message
    };

    void strike(Kind kind, Node *chosen);
    void lose_path();
    void watch(When when, const Node &node, std::size_t message);
    Node *random_node();
    Program &program_of(const Node &node) { return *programs_[node.index]; }

    Cluster &cluster_;
    std::vector<std::unique_ptr<Program>> &programs_;
    Rng rng_;
    std::vector<Trigger> triggers_;
    Time last_fault_, quiet_from_;
};

}  // namespace pccl::sim

// A modelled application: the training loop that users of the library write, with random think times.
//
// All members of a run follow the same Rules, as the interface asks of them: whatever decides which call comes next is the same
// at every member of a group, or was agreed through the library.
#pragma once

#include "cluster.h"
#include "data_plane.h"
#include "profile.h"
#include "task.h"

namespace pccl::sim {

/// What the program's author decided; drawn once per run.
struct Rules {
    bool asks = true;        ///< are_peers_pending before update_topology, else update_topology in every iteration
    bool retries = true;     ///< a lost reduce is called again in place, else the iteration is given up
    bool concurrent = true;  ///< the reduces of an iteration are launched side by side, in each member's own order
    unsigned repairs_per_mille = 0;  ///< tags whose reduces are repaired
    enum class Optimize { never, every_iteration, some_steps } optimize = Optimize::never;
    enum class Tags { few, some, fresh } tags = Tags::few;  ///< the same in every step, others that return after some steps, never the same
    std::size_t tensors = 3;
    std::size_t free_tensors = 0;
    Duration think_max = std::chrono::milliseconds(600);
    unsigned drift_per_mille = 0, mismatch_per_mille = 0, stale_per_mille = 0, receive_only_per_mille = 0;
    unsigned forgetful_per_mille = 0;  ///< members that never count the revision of their shared state
    std::uint64_t salt = 0;
    bool wants_graph() const { return salt % 4 == 0; }  ///< the group's members all ask for the same one
};
Rules draw_rules(Rng &rng, const Profile &profile, std::size_t groups);

class Program {
public:
    Program(Cluster &cluster, Node &node, const Rules &rules, std::uint64_t seed);

    void start(Duration after);
    /// The application's other thread calls pcclAbort; the program then leaves the run.
    void abort();
    void slow_down(int factor) { slowness_ = factor; }

    Node &node() { return node_; }
    bool active() const { return node_.alive && !root_.done(); }
    /// Rounds of its loop, and attempts to connect.
    std::uint64_t rounds() const { return rounds_; }
    /// Reduces that succeeded.
    std::uint64_t reduced() const { return reduced_; }

private:
    struct Call;
    struct Sleep;

    Task run();
    Task train();
    Tag name_of(std::uint64_t number) const;
    Task synchronize(bool &synced);
    Task reduce_all(const std::vector<Tag> &tags);
    Task reduce_some(std::vector<Tag> tags);
    Call call(CallKind kind, Tag tag = {}, std::uint64_t fingerprint = 0,
              wire::Strategy strategy = wire::Strategy::enforce_popular, op::LossPolicy fault = op::LossPolicy::retry);
    Sleep think();
    Sleep sleep(Duration time);
    bool gone() const { return node_.peer->view() == ViewNumber{}; }
    void fresh_state();

    Cluster &cluster_;
    Node &node_;
    const Rules rules_;
    Rng rng_;
    Task root_;
    int slowness_ = 1;
    bool forgetful_ = false;
    bool aborted_ = false;
    std::uint64_t step_ = 0;
    std::uint64_t sum_ = 0;  ///< over the results of this iteration
    std::uint64_t rounds_ = 0, reduced_ = 0;
};

}  // namespace pccl::sim

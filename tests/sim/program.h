// A modelled application: the training loop that users of the library write, with random think times.
//
// All members of a run follow the same Rules, as the interface requires: every fact that decides which call comes next is the
// same at every member of a group, or was agreed through the library.
#pragma once

#include "cluster.h"
#include "data_plane.h"
#include "profile.h"
#include "task.h"

namespace pccl::sim {

/// Choices of the program's author, drawn once per run.
struct Rules {
    bool asks = true;        ///< calls are_peers_pending before update_topology; otherwise update_topology in every iteration
    bool retries = true;     ///< repeats a failed reduce; otherwise abandons the iteration
    bool concurrent = true;  ///< runs the reduces of an iteration at the same time, in an order that differs between members
    unsigned repairs_per_mille = 0;  ///< tags whose reduces are repaired
    enum class Optimize { never, every_iteration, some_steps } optimize = Optimize::never;
    /// The same tags in every step; tags that return after some steps; new ones in every step.
    enum class Tags { few, some, fresh } tags = Tags::few;
    std::size_t tensors = 3;
    std::size_t free_tensors = 0;
    Duration think_max = std::chrono::milliseconds(600);
    unsigned drift_per_mille = 0, mismatch_per_mille = 0, stale_per_mille = 0, receive_only_per_mille = 0;
    unsigned forgetful_per_mille = 0;  ///< members that never increment the revision of their shared state
    std::uint64_t salt = 0;
    bool wants_graph() const { return salt % 4 == 0; }  ///< all members of the group ask for the same one
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
    /// Iterations of its loop plus attempts to connect.
    std::uint64_t rounds() const { return rounds_; }
    /// Number of reduces that succeeded.
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
    Call call(CallKind kind, Tag tag = {}, std::uint64_t spec_hash = 0, wire::Strategy strategy = wire::Strategy::enforce_popular,
              op::LossPolicy fault = op::LossPolicy::retry);
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
    std::uint64_t sum_ = 0;  ///< the sum of the results of this iteration
    std::uint64_t rounds_ = 0, reduced_ = 0;
};

}  // namespace pccl::sim

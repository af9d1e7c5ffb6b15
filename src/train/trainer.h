// The common part of all training methods: the parameters, the outer state, the membership in the run, and the actions when this
// peer falls out of the run.
//
// A method adds its actions at each step. One thread at a time may call it, except for interrupt().
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <pccl/train.h>

#include "train/agreement.h"
#include "train/collectives.h"
#include "train/layout.h"
#include "train/membership.h"
#include "train/method.h"
#include "train/outcome.h"
#include "train/outer_state.h"

namespace pccl::train {

/// Adds the time between its construction and its destruction to `total`, in seconds.
class Stopwatch {
public:
    explicit Stopwatch(double &total) : total_(total) {}
    ~Stopwatch() { total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
    Stopwatch(const Stopwatch &) = delete;
    Stopwatch &operator=(const Stopwatch &) = delete;

private:
    double &total_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class Trainer {
public:
    /// `config` is the result of read_config. Allocates the outer state and fills it from the parameters.
    static Outcome make(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives,
                        std::vector<Parameter> parameters, std::unique_ptr<Trainer> &out);
    virtual ~Trainer() = default;
    Trainer(const Trainer &) = delete;
    Trainer &operator=(const Trainer &) = delete;

    Outcome share(const pcclTensorInfo_t *tensors, std::size_t count);
    /// Replaces the lines that describe the model.
    Outcome define(const char *const *lines, std::size_t count);
    /// The tensor of this name, a parameter or a shared tensor, has the address `data` from now on.
    Outcome relocate(const std::string &name, void *data);
    Outcome join();
    Outcome step(bool end_round);
    Outcome finish();
    Outcome add_weight(double weight);
    Outcome save(const std::string &path) const;
    Outcome load(const std::string &path);
    Outcome outer_parameters(std::size_t index, float *out) const;
    void interrupt();
    pcclTrainerStatus_t status() const;
    /// True if the next step may read and write the parameters.
    virtual bool is_due() const { return true; }

protected:
    Trainer(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives, std::vector<Parameter> parameters);
    virtual Outcome open();

    /// Called after each inner step. pcclMasterConnectionFailed: this peer is out of the run.
    virtual Outcome advance(bool end_round) = 0;
    /// Called after members have agreed on the state, when this peer joined or when others were admitted.
    virtual Outcome settled(const Agreed &agreed) = 0;
    /// Discards everything in flight: this peer is out of the run.
    virtual void abandon() = 0;
    /// Called after the last step: applies the averages in flight.
    virtual Outcome conclude() = 0;
    /// Whether members hold the same parameters and counters. If not, only newcomers receive them.
    virtual bool members_agree() const { return true; }
    /// Adds the tensors of the shared state other than parameters, momentum and counters.
    virtual void add_shared(std::vector<pcclTensorInfo_t> &) {}

    /// The text that names an element of a fragment that is not finite, for logs.
    std::string words_of(const Fragment &fragment, std::size_t element) const;
    /// Counts a contribution or an average that was not finite, and logs `words`. `peer` is 0 if only the average was not finite.
    void note_not_finite(std::uint64_t peer, std::size_t parameter, const std::string &words);

    /// Counts a synchronization and acts on its effects.
    Outcome note(const Agreed &agreed);
    /// Records the present number of members.
    void saw(std::uint32_t world);
    /// Writes the outer parameters of a fragment to the caller's tensors.
    void publish(const Fragment &fragment);
    void publish_all();

    pcclTrainerConfig_t config_;
    const MethodTraits &method_;
    std::unique_ptr<Collectives> collectives_;
    std::vector<Parameter> parameters_;
    Layout layout_;
    OuterState state_;
    std::atomic<bool> interrupted_{false};
    Agreement agreement_;
    std::unique_ptr<Membership> membership_;
    pcclTrainerStatus_t status_{};
    double weight_ = 0.0;  ///< sum of the caller's weights since the last contribution
    bool weight_given_ = false;

private:
    std::vector<pcclTensorInfo_t> shared_state();
    void take_parameters();
    Outcome enter();
    std::string not_finite_in_state() const;
    Outcome leave(Outcome outcome);
    Outcome advance_or_rejoin(bool end_round);

    std::string description_, state_file_;
    std::vector<std::string> definition_;  ///< names of the shared state
    pcclReduceOptions_t reduce_{};
    std::vector<pcclTensorInfo_t> shared_;  ///< the caller's tensors; shared_names_ owns their names
    std::vector<std::unique_ptr<std::string>> shared_names_;
    bool joined_ = false;
    bool ever_joined_ = false;
    bool loaded_ = false;            ///< the outer state was read from a checkpoint
    std::atomic<bool> busy_{false};  ///< a call that may block is running
    std::atomic<std::thread::id> busy_thread_;

    friend class Busy;
};

}  // namespace pccl::train

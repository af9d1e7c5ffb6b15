// pcclTrainer_t for Python: training methods over parameters in host memory, which it keeps alive.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <pccl/train.h>

#include "communicator.h"
#include "runtime.h"
#include "view.h"

namespace pccl_python {

class Trainer final : public Resource {
public:
    /// `parameters`: (name, View). `settings`: fields of pcclTrainerConfig_t by name; numbers, strings, and for "reduce" a
    /// ReduceSpec.
    Trainer(const nb::object &communicator, int method, const nb::list &parameters, const nb::dict &settings);
    ~Trainer() override;

    /// `tensors`: (name, View, allow_content_inequality).
    void share(const nb::list &tensors);
    /// Sets the lines that peers compare when they join.
    void describe(const std::vector<std::string> &lines);
    /// Moves the tensor of this name to the memory of this View, and drops the View that it had.
    void relocate(const std::string &name, const nb::object &view);
    void join(std::optional<double> timeout);
    /// (events, world_size, contributors, outer_steps, inner_steps, tx_bytes, rx_bytes, communicating_s, blocked_s, digest,
    /// penalty, push_weight, models_sent, models_undelivered, models_received, models_refused, non_finite_rounds,
    /// non_finite_peer, name of the tensor or None, left_out).
    nb::tuple step(std::optional<double> timeout);
    nb::tuple end_round(std::optional<double> timeout);
    nb::tuple finish(std::optional<double> timeout);
    nb::tuple status() const;
    bool is_due() const;
    void add_weight(double weight);
    void outer_parameters(std::size_t index, const View &out) const;
    void save(const std::string &path);
    void load(const std::string &path);

private:
    const char *kind() const override { return "trainer"; }
    void interrupt_calls() override;
    void release() override;
    void released() override;

    static pcclResult_t agree_with_island(void *self, std::uint32_t question, std::uint64_t *value);
    nb::tuple to_tuple(const pcclTrainerStatus_t &status) const;
    template <class F> nb::tuple reporting(const char *function, std::optional<double> timeout, F call);

    pcclTrainer_t *trainer_ = nullptr;
    std::vector<std::string> names_;                    ///< of the parameters
    nb::object communicator_;                           ///< outlives the trainer
    nb::object island_consensus_;                       ///< int agree(question, value); a result below 0 ends the island
    std::unordered_map<std::string, nb::object> kept_;  ///< the Views that the trainer works on, by name
};

void bind_trainer(nb::module_ &module);

}  // namespace pccl_python

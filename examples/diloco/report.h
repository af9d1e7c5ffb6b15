// The reports of a trainer: a line per event for people on standard error, and JSON lines for programs in a file or pipe.
//
// Each JSON line is one object, written with one call and flushed:
//   {"event":"joined","step":12,"world":4}                 this peer is a member now; `step` is the last finished round
//   {"event":"step", ...}                                  one round, with the fields of StepRecord
//   {"event":"done","step":60,"world":4,"accuracy":0.8712,"hash":"0123456789abcdef","identical":true,
//    "distance":null,"mean_accuracy":null}                 with gossip `identical` is null, and the last two are numbers
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace diloco {

/// One round at one peer. Bytes and times are those of this round.
struct StepRecord {
    std::uint64_t step = 0;          ///< number of the run's round, from 1
    std::uint64_t inner_steps = 0;   ///< inner steps of the run
    std::uint64_t outer_steps = 0;   ///< of the run: streaming makes several in a round, delayed methods are one late
    int world = 0;                   ///< peers whose contributions were averaged
    int joined = 0;                  ///< peers that joined since this peer's last record
    int lost = 0;                    ///< peers that left or were lost since then
    bool received = false;           ///< this peer received the outer state
    bool rejoined = false;           ///< this peer had fallen out of the run
    double loss = 0.0;               ///< training loss over the inner steps of this peer
    std::optional<double> accuracy;  ///< on the test images, from 0 to 1; empty if this round had no test
    std::uint64_t tx_bytes = 0, rx_bytes = 0;
    double communication_s = 0.0;    ///< time in which the caller waited for the library, including for slower peers
    double under_way_s = 0.0;        ///< time in which averages were in flight, with or without waiting
    double compute_s = 0.0;          ///< time of inner steps and tests
    double time_s = 0.0;             ///< time since this peer joined, without its tests
    double penalty = 0.0;            ///< divisor of the last average (CO2)
    std::uint64_t digest = 0;        ///< of the outer state at the start of the last average; with gossip, of this peer's model
    std::optional<double> distance;  ///< of the models from their mean at the round's start, by the mean's norm (gossip)
};

/// The result of training.
struct FinalRecord {
    std::uint64_t step = 0;
    int world = 0;  ///< peers that compared their outer states
    double accuracy = 0.0;
    std::uint64_t hash = 0;
    bool identical = false;
    /// With gossip each peer ends with its own model, and `hash` is that of this peer's model.
    struct Spread {
        double distance = 0.0;       ///< root mean square distance of the models from their mean, divided by the mean's norm
        double mean_accuracy = 0.0;  ///< accuracy of the mean of all models
    };
    std::optional<Spread> spread;
};

class Report {
public:
    /// `path`: "-" is standard output; "" writes no JSON. Throws std::runtime_error if the file cannot be opened.
    explicit Report(const std::string &path);
    ~Report();
    Report(const Report &) = delete;
    Report &operator=(const Report &) = delete;

    void joined(std::uint64_t step, int world);
    void step(const StepRecord &record, std::uint64_t steps);
    void done(const FinalRecord &record);

private:
    std::FILE *file_ = nullptr;
};

}  // namespace diloco

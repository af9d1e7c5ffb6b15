// What a trainer says about itself: a line for people on standard error, and JSON lines for programs in a file or pipe.
//
// Each JSON line is one object, written at once and flushed:
//   {"event":"joined","step":12,"world":4}                 this peer takes part from here on; `step` is the last finished round
//   {"event":"step", ...}                                  one round, the fields of StepRecord
//   {"event":"done","step":60,"world":4,"accuracy":0.8712,"hash":"0123456789abcdef","identical":true,
//    "distance":null,"mean_accuracy":null}                 by gossip `identical` is null, and the last two are numbers
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace diloco {

/// One round as one peer saw it. Bytes and times are of this round.
struct StepRecord {
    std::uint64_t step = 0;          ///< rounds of the run, from 1
    std::uint64_t inner_steps = 0;   ///< of the run
    std::uint64_t outer_steps = 0;   ///< of the run: streaming makes several in a round, delayed methods are one behind
    int world = 0;                   ///< peers whose contributions were averaged
    int joined = 0;                  ///< peers that came since this peer's last record
    int lost = 0;                    ///< peers that went since then
    bool received = false;           ///< this peer was given the outer state
    bool rejoined = false;           ///< this peer had fallen out of the run
    double loss = 0.0;               ///< training loss over the inner steps of this peer
    std::optional<double> accuracy;  ///< on the test images, from 0 to 1, where there was a test
    std::uint64_t tx_bytes = 0, rx_bytes = 0;
    double communication_s = 0.0;  ///< in which the caller waited for the library, and so for slower peers
    double under_way_s = 0.0;      ///< in which averages were under way, waited for or not
    double compute_s = 0.0;        ///< inner steps and test
    double time_s = 0.0;           ///< since this peer joined, without its tests
    double penalty = 0.0;          ///< divisor of the last average (CO2)
    std::uint64_t digest = 0;  ///< of the outer state as the last average began: equal at all peers. Gossip: of this peer's model
    std::optional<double> distance;  ///< of the models from their mean as the round began, by the mean's norm (gossip)
};

/// How training ended.
struct FinalRecord {
    std::uint64_t step = 0;
    int world = 0;  ///< peers that compared their outer states
    double accuracy = 0.0;
    std::uint64_t hash = 0;
    bool identical = false;
    /// By gossip peers end with models of their own, and `hash` is of this one's.
    struct Spread {
        double distance = 0.0;       ///< root mean square distance of the models from their mean, by the mean's norm
        double mean_accuracy = 0.0;  ///< of the mean of all models
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

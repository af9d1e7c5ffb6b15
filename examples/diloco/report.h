// What a trainer says about itself: a line for people on standard error, and JSON lines for programs in a file or pipe.
//
// Each JSON line is one object, written at once and flushed:
//   {"event":"joined","step":12,"world":4}                 this peer takes part from here on; `step` is the last finished
//   {"event":"step", ...}                                  one outer step, the fields of StepRecord
//   {"event":"done","step":60,"world":4,"accuracy":0.8712,"hash":"0123456789abcdef","identical":true}
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace diloco {

/// One outer step as one peer saw it.
struct StepRecord {
    std::uint64_t step = 0;  ///< from 1
    int world = 0;           ///< peers whose pseudo-gradients were averaged
    int joined = 0;          ///< peers that came since this peer's last record
    int lost = 0;            ///< peers that went since then
    double loss = 0.0;       ///< training loss over the inner steps, averaged over the peers
    double accuracy = 0.0;   ///< on the test images, from 0 to 1
    std::uint64_t tx_bytes = 0, rx_bytes = 0;
    double communication_s = 0.0;  ///< in calls of the library, waiting for slower peers included
    double compute_s = 0.0;        ///< inner steps, outer step and test
};

/// How training ended.
struct FinalRecord {
    std::uint64_t step = 0;
    int world = 0;  ///< peers that compared their parameters
    double accuracy = 0.0;
    std::uint64_t hash = 0;
    bool identical = false;
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

// Decides whether a measurement has warmed up, which means that the time of an iteration has stopped falling. Connections over
// a wide area begin slowly and need several iterations to fill their path. Their number depends on size, rate and delay, so a
// fixed number would be too small or too large.
//
// Pure: the caller measures the times. The decision is that of one peer, and the caller makes the peers agree.
#pragma once

#include <vector>

namespace pccl::perf {

class WarmUp {
public:
    static constexpr int kLeast = 3;           ///< iterations, in any case
    static constexpr int kMost = 100;          ///< iterations, in any case
    static constexpr double kMostTime_s = 60;  ///< limit of all iterations together; an iteration that has begun is finished

    /// Records the time of an iteration.
    void add(double time_us);

    /// True if the median of the last three times is within 5 % of the best time; or, with larger noise, none of the last five
    /// times improved the best by more than 5 %; or a limit is reached.
    bool settled() const;

    int iterations() const { return static_cast<int>(times_us_.size()); }

private:
    std::vector<double> times_us_;
    double sum_us_ = 0;
};

}  // namespace pccl::perf

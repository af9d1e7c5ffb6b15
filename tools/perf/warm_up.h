// When a measurement has warmed up: the time of an iteration has stopped falling. Connections of a wide area begin slowly and
// fill their path over several iterations; how many depends on size, rate and delay, so a fixed number is too few or too many.
//
// Pure: times are handed in, nothing is measured here. It is one peer's answer; the caller makes the peers agree.
#pragma once

#include <vector>

namespace pccl::perf {

class WarmUp {
public:
    static constexpr int kLeast = 3;           ///< iterations, in any case
    static constexpr int kMost = 100;          ///< iterations, in any case
    static constexpr double kMostTime_s = 60;  ///< in all; an iteration that has begun is finished

    /// An iteration took this long.
    void add(double time_us);

    /// True once the median of the last three is within 5 % of the best so far, or, where noise is larger than that, the last
    /// five brought nothing better by more than 5 %, or a bound is reached.
    bool settled() const;

    int iterations() const { return static_cast<int>(times_us_.size()); }

private:
    std::vector<double> times_us_;
    double sum_us_ = 0;
};

}  // namespace pccl::perf

#include "perf/warm_up.h"

#include <algorithm>
#include <cstddef>

namespace pccl::perf {

namespace {

constexpr double kNear = 1.05;
constexpr std::ptrdiff_t kWithoutBetter = 5;

double median_of_three(double a, double b, double c) { return std::max(std::min(a, b), std::min(std::max(a, b), c)); }

}  // namespace

void WarmUp::add(double time_us) {
    times_us_.push_back(time_us);
    sum_us_ += time_us;
}

bool WarmUp::settled() const {
    if (iterations() < kLeast) return false;
    if (iterations() >= kMost || sum_us_ >= kMostTime_s * 1e6) return true;
    const auto best = [](auto begin, auto end) { return *std::min_element(begin, end); };
    const double *const last = times_us_.data() + times_us_.size() - 3;
    if (median_of_three(last[0], last[1], last[2]) <= kNear * best(times_us_.begin(), times_us_.end())) return true;
    if (iterations() <= kWithoutBetter) return false;
    const auto recent = times_us_.end() - kWithoutBetter;
    return kNear * best(recent, times_us_.end()) >= best(times_us_.begin(), recent);
}

}  // namespace pccl::perf

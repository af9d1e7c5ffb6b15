// See outcome_log.h.
#include "harness/outcome_log.h"

#include <algorithm>
#include <fstream>

namespace pccl::itest {

OutcomeLog read_outcome_log(const std::string &path) {
    std::ifstream file(path);
    OutcomeLog log;
    for (std::string line; std::getline(file, line);) {
        if (!file.eof()) log.push_back(line);
    }
    return log;
}

namespace {

/// The position in `log` of the first success of `other`.
std::ptrdiff_t find_first_success(const OutcomeLog &log, const OutcomeLog &other, std::ptrdiff_t &in_other) {
    const auto first = std::ranges::find_if(other, [](const std::string &line) { return line.starts_with("ok"); });
    if (first == other.end()) return -1;
    in_other = first - other.begin();
    const auto found = std::ranges::find(log, *first);
    return found == log.end() ? -1 : found - log.begin();
}

}  // namespace

::testing::AssertionResult agree(const OutcomeLog &one, const OutcomeLog &other) {
    std::ptrdiff_t in_other = 0;
    std::ptrdiff_t in_one = find_first_success(one, other, in_other);
    if (in_one < 0) {
        in_other = find_first_success(other, one, in_one);
        if (in_other < 0) return ::testing::AssertionSuccess();  // the two were never members at the same time
    }
    const auto one_size = static_cast<std::ptrdiff_t>(one.size());
    const auto other_size = static_cast<std::ptrdiff_t>(other.size());
    for (std::ptrdiff_t i = in_one, j = in_other; i < one_size && j < other_size; ++i, ++j) {
        const std::string &a = one[static_cast<std::size_t>(i)];
        const std::string &b = other[static_cast<std::size_t>(j)];
        if (a != b) {
            return ::testing::AssertionFailure()
                   << "outcome " << i - in_one << " after the first common one differs: '" << a << "' and '" << b << "'";
        }
    }
    return ::testing::AssertionSuccess();
}

}  // namespace pccl::itest

// See train/variance.h.
#include "train/variance.h"

#include <array>
#include <cmath>

#include "base/float_mode.h"

namespace pccl::train {
namespace {

/// The sum of f(element) over all elements, in a fixed order.
template <class T, class F> double sum_of(const T *x, std::size_t count, F f) {
    std::array<double, 8> sums{};
    std::size_t i = 0;
    for (; i + sums.size() <= count; i += sums.size())
        for (std::size_t lane = 0; lane < sums.size(); ++lane)
            sums[lane] += f(static_cast<double>(x[i + lane]));
    for (std::size_t lane = 0; i < count; ++i, ++lane)
        sums[lane] += f(static_cast<double>(x[i]));
    double sum = 0.0;
    for (const double s : sums)
        sum += s;
    return sum;
}

/// Uses two passes, because a single pass would subtract large squares of nearly equal size.
template <class T> [[gnu::noinline]] Moments moments_of(const T *x, std::size_t count) {
    if (count == 0) return {};
    const auto n = static_cast<double>(count);
    Moments out;
    out.mean = sum_of(x, count, [](double v) { return v; }) / n;
    out.variance = sum_of(x, count, [mean = out.mean](double v) { return (v - mean) * (v - mean); }) / n;
    return out;
}

}  // namespace

Moments moments(const float *x, std::size_t count) {
    const FloatMode mode;
    return moments_of(x, count);
}
Moments moments(const double *x, std::size_t count) {
    const FloatMode mode;
    return moments_of(x, count);
}

void add(double *sum, const float *x, double weight, std::size_t count) {
    const FloatMode mode;
    for (std::size_t i = 0; i < count; ++i)
        sum[i] += weight * static_cast<double>(x[i]);
}

void average(double *x, const float *own, double own_weight, double others, std::size_t count) {
    const FloatMode mode;
    for (std::size_t i = 0; i < count; ++i)
        x[i] = own_weight * static_cast<double>(own[i]) + others * x[i];
}

void rescale(double *x, double target, std::size_t count) {
    const FloatMode mode;
    const Moments now = moments(x, count);
    const bool constant = now.variance <= 1e-12 * (now.mean * now.mean + 1e-30);
    if (constant || !(target > 0.0) || !std::isfinite(target) || target == now.variance) return;
    const double more = std::sqrt(target / now.variance) - 1.0;
    for (std::size_t i = 0; i < count; ++i)
        x[i] += more * (x[i] - now.mean);
}

void narrow(const double *x, double by, float *out, std::size_t count) {
    const FloatMode mode;
    for (std::size_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(x[i] * by);
}

void quotient(const double *x, double by, float *out, std::size_t count) {
    const FloatMode mode;
    for (std::size_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(x[i] / by);
}

}  // namespace pccl::train

#include "mlp.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

// The two loops over all weights are compiled once per vector width and chosen at run time. What they round differently from one
// machine to the next stays in a peer's own inner steps; what all peers must agree on is the library's.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&                         \
    !defined(__SANITIZE_THREAD__)
#define DILOCO_VECTOR_CLONES __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define DILOCO_VECTOR_CLONES
#endif

namespace diloco {
namespace {

/// sums[i] += inputs[k][i] * rows[k] for every image i and pixel k. Half of all pixels are black and cost nothing.
DILOCO_VECTOR_CLONES
void add_weighted_rows(const float *inputs, const float *rows, float *sums, std::size_t pixels, std::size_t batch,
                       std::size_t count, std::size_t width) {
    for (std::size_t k = 0; k < pixels; ++k) {
        const float *row = rows + k * width;
        for (std::size_t i = 0; i < count; ++i) {
            const float x = inputs[k * batch + i];
            if (x == 0.0F) continue;
            float *sum = sums + i * width;
            for (std::size_t j = 0; j < width; ++j) {
                sum[j] += x * row[j];
            }
        }
    }
}

/// rows[k] = sum over images i of inputs[k][i] * gradients[i]: the transpose of the above.
DILOCO_VECTOR_CLONES
void sum_outer_products(const float *inputs, const float *gradients, float *rows, std::size_t pixels, std::size_t batch,
                        std::size_t count, std::size_t width) {
    for (std::size_t k = 0; k < pixels; ++k) {
        float *row = rows + k * width;
        std::fill_n(row, width, 0.0F);
        for (std::size_t i = 0; i < count; ++i) {
            const float x = inputs[k * batch + i];
            if (x == 0.0F) continue;
            const float *gradient = gradients + i * width;
            for (std::size_t j = 0; j < width; ++j) {
                row[j] += x * gradient[j];
            }
        }
    }
}

}  // namespace

Mlp::Mlp(std::size_t pixels, std::size_t hidden, std::size_t batch)
    : pixels_(pixels), hidden_(hidden), batch_(batch), inputs_(pixels * batch), activations_(batch * hidden),
      hidden_gradient_(batch * hidden), logits_(batch * kClasses) {}

std::vector<float> Mlp::initial_parameters(std::uint64_t seed) const {
    std::vector<float> parameters(parameter_count(), 0.0F);
    std::mt19937_64 random(seed);
    const auto fill = [&](std::size_t begin, std::size_t count, std::size_t inputs) {
        const float bound = std::sqrt(6.0F / static_cast<float>(inputs));
        for (std::size_t i = begin; i < begin + count; ++i) {
            const float unit = static_cast<float>(random() >> 40U) * 0x1p-24F;  // [0, 1)
            parameters[i] = bound * (2.0F * unit - 1.0F);
        }
    };
    fill(hidden_weights(), pixels_ * hidden_, pixels_);
    fill(output_weights(), hidden_ * kClasses, hidden_);
    return parameters;
}

void Mlp::load(const Dataset &data, std::span<const std::size_t> indices) {
    for (std::size_t i = 0; i < indices.size(); ++i) {
        const auto image = data.image(indices[i]);
        for (std::size_t k = 0; k < pixels_; ++k) {
            inputs_[k * batch_ + i] = static_cast<float>(image[k]) * (1.0F / 255.0F);
        }
    }
}

void Mlp::forward(std::span<const float> parameters, std::size_t count) {
    const float *biases = parameters.data() + hidden_biases();
    for (std::size_t i = 0; i < count; ++i) {
        std::copy_n(biases, hidden_, activations_.data() + i * hidden_);
    }
    add_weighted_rows(inputs_.data(), parameters.data() + hidden_weights(), activations_.data(), pixels_, batch_, count, hidden_);
    const float *weights = parameters.data() + output_weights();
    for (std::size_t i = 0; i < count; ++i) {
        float *hidden = activations_.data() + i * hidden_;
        float *logits = logits_.data() + i * kClasses;
        std::copy_n(parameters.data() + output_biases(), kClasses, logits);
        for (std::size_t j = 0; j < hidden_; ++j) {
            hidden[j] = std::max(hidden[j], 0.0F);
            for (std::size_t c = 0; c < kClasses; ++c) {
                logits[c] += hidden[j] * weights[j * kClasses + c];
            }
        }
    }
}

float Mlp::loss_and_gradient(std::span<const float> parameters, const Dataset &data, std::span<const std::size_t> indices,
                             std::span<float> gradient) {
    const std::size_t count = indices.size();
    load(data, indices);
    forward(parameters, count);

    // Softmax and cross-entropy; their gradient by the logits is (probability - 1 if it is the label) / count.
    double loss = 0.0;
    for (std::size_t i = 0; i < count; ++i) {
        float *p = logits_.data() + i * kClasses;
        const std::size_t label = data.labels[indices[i]];
        const float highest = *std::max_element(p, p + kClasses);
        const float label_logit = p[label];
        float sum = 0.0F;
        for (std::size_t c = 0; c < kClasses; ++c) {
            p[c] = std::exp(p[c] - highest);
            sum += p[c];
        }
        loss += static_cast<double>(std::log(sum) + highest - label_logit);
        for (std::size_t c = 0; c < kClasses; ++c) {
            p[c] = (p[c] / sum - (c == label ? 1.0F : 0.0F)) / static_cast<float>(count);
        }
    }

    std::fill(gradient.begin() + static_cast<std::ptrdiff_t>(hidden_biases()), gradient.end(), 0.0F);
    const float *weights = parameters.data() + output_weights();
    float *weight_gradient = gradient.data() + output_weights();
    for (std::size_t i = 0; i < count; ++i) {
        const float *by_logit = logits_.data() + i * kClasses;
        const float *hidden = activations_.data() + i * hidden_;
        float *by_hidden = hidden_gradient_.data() + i * hidden_;
        for (std::size_t c = 0; c < kClasses; ++c) {
            gradient[output_biases() + c] += by_logit[c];
        }
        for (std::size_t j = 0; j < hidden_; ++j) {
            float sum = 0.0F;
            for (std::size_t c = 0; c < kClasses; ++c) {
                sum += by_logit[c] * weights[j * kClasses + c];
                weight_gradient[j * kClasses + c] += by_logit[c] * hidden[j];
            }
            by_hidden[j] = hidden[j] > 0.0F ? sum : 0.0F;
            gradient[hidden_biases() + j] += by_hidden[j];
        }
    }
    sum_outer_products(inputs_.data(), hidden_gradient_.data(), gradient.data() + hidden_weights(), pixels_, batch_, count,
                       hidden_);
    return static_cast<float>(loss / static_cast<double>(count));
}

double Mlp::accuracy(std::span<const float> parameters, const Dataset &data, std::size_t limit) {
    const std::size_t size = std::min(limit, data.size());
    std::vector<std::size_t> indices(batch_);
    std::size_t correct = 0;
    for (std::size_t begin = 0; begin < size; begin += batch_) {
        const std::size_t count = std::min(batch_, size - begin);
        std::iota(indices.begin(), indices.end(), begin);
        load(data, std::span(indices).first(count));
        forward(parameters, count);
        for (std::size_t i = 0; i < count; ++i) {
            const float *logits = logits_.data() + i * kClasses;
            const auto predicted = static_cast<std::size_t>(std::max_element(logits, logits + kClasses) - logits);
            correct += predicted == data.labels[begin + i] ? 1U : 0U;
        }
    }
    return static_cast<double>(correct) / static_cast<double>(size);
}

}  // namespace diloco

#include "mlp.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

// The two loops over all weights are compiled once per vector width and chosen at run time. Their rounding may differ between
// machines, which affects only a peer's own inner steps. All values that must be equal at all peers are computed by the library.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&                         \
    !defined(__SANITIZE_THREAD__)
#define DILOCO_VECTOR_CLONES __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define DILOCO_VECTOR_CLONES
#endif

namespace diloco {
namespace {

/// sums[i] += input k of image i * rows[k], for every image i and input k. Inputs of zero are skipped; half of all pixels are
/// zero.
DILOCO_VECTOR_CLONES
void add_weighted_rows(const float *inputs, std::size_t by_value, std::size_t by_image, const float *rows, float *sums,
                       std::size_t values, std::size_t count, std::size_t width) {
    for (std::size_t k = 0; k < values; ++k) {
        const float *row = rows + k * width;
        for (std::size_t i = 0; i < count; ++i) {
            const float x = inputs[k * by_value + i * by_image];
            if (x == 0.0F) continue;
            float *sum = sums + i * width;
            for (std::size_t j = 0; j < width; ++j) {
                sum[j] += x * row[j];
            }
        }
    }
}

/// rows[k] = sum over images i of their input k * gradients[i]: the transpose of the function above.
DILOCO_VECTOR_CLONES
void sum_outer_products(const float *inputs, std::size_t by_value, std::size_t by_image, const float *gradients, float *rows,
                        std::size_t values, std::size_t count, std::size_t width) {
    for (std::size_t k = 0; k < values; ++k) {
        float *row = rows + k * width;
        std::fill_n(row, width, 0.0F);
        for (std::size_t i = 0; i < count; ++i) {
            const float x = inputs[k * by_value + i * by_image];
            if (x == 0.0F) continue;
            const float *gradient = gradients + i * width;
            for (std::size_t j = 0; j < width; ++j) {
                row[j] += x * gradient[j];
            }
        }
    }
}

}  // namespace

Mlp::Mlp(std::size_t pixels, std::size_t hidden, std::size_t layers, std::size_t batch)
    : pixels_(pixels), hidden_(hidden), layers_(layers), batch_(batch), inputs_(pixels * batch),
      activations_(layers * batch * hidden), by_hidden_(batch * hidden), by_inputs_(batch * hidden), logits_(batch * kClasses) {}

std::vector<Mlp::Tensor> Mlp::tensors() const {
    std::vector<Tensor> all;
    for (std::size_t layer = 0; layer < layers_; ++layer) {
        const std::string name = layer == 0 ? "hidden" : "hidden" + std::to_string(layer + 1);
        all.push_back({name + ".weights", weights(layer), inputs_of(layer) * hidden_});
        all.push_back({name + ".biases", biases(layer), hidden_});
    }
    all.push_back({"output.weights", output_weights(), hidden_ * kClasses});
    all.push_back({"output.biases", output_biases(), kClasses});
    return all;
}

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
    for (std::size_t layer = 0; layer < layers_; ++layer) {
        fill(weights(layer), inputs_of(layer) * hidden_, inputs_of(layer));
    }
    fill(output_weights(), hidden_ * kClasses, hidden_);
    return parameters;
}

Mlp::Inputs Mlp::inputs(std::size_t layer) const {
    return layer == 0 ? Inputs{inputs_.data(), batch_, 1} : Inputs{activations(layer - 1), 1, hidden_};
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
    for (std::size_t layer = 0; layer < layers_; ++layer) {
        float *sums = activations(layer);
        for (std::size_t i = 0; i < count; ++i) {
            std::copy_n(parameters.data() + biases(layer), hidden_, sums + i * hidden_);
        }
        const Inputs in = inputs(layer);
        add_weighted_rows(in.values, in.by_value, in.by_image, parameters.data() + weights(layer), sums, inputs_of(layer), count,
                          hidden_);
        for (std::size_t j = 0; j < count * hidden_; ++j) {
            sums[j] = std::max(sums[j], 0.0F);
        }
    }
    const float *output = parameters.data() + output_weights();
    for (std::size_t i = 0; i < count; ++i) {
        const float *hidden = activations(layers_ - 1) + i * hidden_;
        float *logits = logits_.data() + i * kClasses;
        std::copy_n(parameters.data() + output_biases(), kClasses, logits);
        for (std::size_t j = 0; j < hidden_; ++j) {
            for (std::size_t c = 0; c < kClasses; ++c) {
                logits[c] += hidden[j] * output[j * kClasses + c];
            }
        }
    }
}

float Mlp::loss_and_gradient(std::span<const float> parameters, const Dataset &data, std::span<const std::size_t> indices,
                             std::span<float> gradient) {
    const std::size_t count = indices.size();
    load(data, indices);
    forward(parameters, count);

    // Softmax and cross-entropy. The gradient with respect to a logit is (probability - (1 if it is the label)) / count.
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

    output_gradient(parameters, gradient, count);
    for (std::size_t layer = layers_; layer-- > 0;) {
        hidden_gradient(parameters, gradient, layer, count);
    }
    return static_cast<float>(loss / static_cast<double>(count));
}

/// Computes the gradients of the output layer's parameters and of the last activations from the gradient of the logits.
void Mlp::output_gradient(std::span<const float> parameters, std::span<float> gradient, std::size_t count) {
    std::fill(gradient.begin() + static_cast<std::ptrdiff_t>(output_weights()), gradient.end(), 0.0F);
    const float *output = parameters.data() + output_weights();
    float *weight_gradient = gradient.data() + output_weights();
    for (std::size_t i = 0; i < count; ++i) {
        const float *by_logit = logits_.data() + i * kClasses;
        const float *hidden = activations(layers_ - 1) + i * hidden_;
        float *by_hidden = by_hidden_.data() + i * hidden_;
        for (std::size_t c = 0; c < kClasses; ++c) {
            gradient[output_biases() + c] += by_logit[c];
        }
        for (std::size_t j = 0; j < hidden_; ++j) {
            float sum = 0.0F;
            for (std::size_t c = 0; c < kClasses; ++c) {
                sum += by_logit[c] * output[j * kClasses + c];
                weight_gradient[j * kClasses + c] += by_logit[c] * hidden[j];
            }
            by_hidden[j] = sum;
        }
    }
}

/// Computes the gradients of a layer's parameters and of the previous layer's activations from the gradient of its activations.
void Mlp::hidden_gradient(std::span<const float> parameters, std::span<float> gradient, std::size_t layer, std::size_t count) {
    float *bias_gradient = gradient.data() + biases(layer);
    std::fill_n(bias_gradient, hidden_, 0.0F);
    for (std::size_t i = 0; i < count; ++i) {
        const float *hidden = activations(layer) + i * hidden_;
        float *by_hidden = by_hidden_.data() + i * hidden_;
        for (std::size_t j = 0; j < hidden_; ++j) {
            if (!(hidden[j] > 0.0F)) by_hidden[j] = 0.0F;
            bias_gradient[j] += by_hidden[j];
        }
    }
    const Inputs in = inputs(layer);
    sum_outer_products(in.values, in.by_value, in.by_image, by_hidden_.data(), gradient.data() + weights(layer), inputs_of(layer),
                       count, hidden_);
    if (layer == 0) return;
    for (std::size_t i = 0; i < count; ++i) {
        const float *by_hidden = by_hidden_.data() + i * hidden_;
        for (std::size_t k = 0; k < hidden_; ++k) {
            const float *row = parameters.data() + weights(layer) + k * hidden_;
            by_inputs_[i * hidden_ + k] = std::inner_product(row, row + hidden_, by_hidden, 0.0F);
        }
    }
    by_hidden_.swap(by_inputs_);
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

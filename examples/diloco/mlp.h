// A multilayer perceptron: pixels -> hidden layers of equal width, each with ReLU -> softmax over the classes.
//
// Its parameters are one flat buffer that the caller owns (weights and biases of each hidden layer, then of the output layer), so
// an all-reduce, an optimizer or a shared state has one tensor. Only one thread at a time may use an Mlp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mnist.h"

namespace diloco {

class Mlp {
public:
    /// `hidden` units in each of `layers` hidden layers, at least one; `batch` is the largest number of images in one pass.
    Mlp(std::size_t pixels, std::size_t hidden, std::size_t layers, std::size_t batch);

    std::size_t parameter_count() const { return output_biases() + kClasses; }

    /// A tensor in the buffer. The tensors follow one another without gaps.
    struct Tensor {
        std::string name;
        std::size_t offset, count;
    };
    std::vector<Tensor> tensors() const;

    /// He initialization; the same seed gives the same parameters on every machine.
    std::vector<float> initial_parameters(std::uint64_t seed) const;

    /// Returns the mean cross-entropy over the images `indices` of `data`, and computes its gradient with respect to the
    /// parameters.
    /// @param[out] gradient  parameter_count() elements, overwritten.
    float loss_and_gradient(std::span<const float> parameters, const Dataset &data, std::span<const std::size_t> indices,
                            std::span<float> gradient);

    /// The fraction of correct classifications among the first `limit` images of `data`.
    double accuracy(std::span<const float> parameters, const Dataset &data, std::size_t limit);

private:
    /// Offsets in the flat buffer. Layers are counted from 0.
    std::size_t inputs_of(std::size_t layer) const { return layer == 0 ? pixels_ : hidden_; }
    std::size_t weights(std::size_t layer) const {  // inputs x hidden
        return layer == 0 ? 0 : (pixels_ + 1) * hidden_ + (layer - 1) * (hidden_ + 1) * hidden_;
    }
    std::size_t biases(std::size_t layer) const { return weights(layer) + inputs_of(layer) * hidden_; }
    std::size_t output_weights() const { return weights(layers_); }  // hidden x classes
    std::size_t output_biases() const { return output_weights() + hidden_ * kClasses; }

    /// The input of a layer: value k of image i is at k * by_value + i * by_image.
    struct Inputs {
        const float *values;
        std::size_t by_value, by_image;
    };
    Inputs inputs(std::size_t layer) const;
    float *activations(std::size_t layer) { return activations_.data() + layer * batch_ * hidden_; }
    const float *activations(std::size_t layer) const { return activations_.data() + layer * batch_ * hidden_; }

    void load(const Dataset &data, std::span<const std::size_t> indices);
    void forward(std::span<const float> parameters, std::size_t count);
    void output_gradient(std::span<const float> parameters, std::span<float> gradient, std::size_t count);
    void hidden_gradient(std::span<const float> parameters, std::span<float> gradient, std::size_t layer, std::size_t count);

    std::size_t pixels_, hidden_, layers_, batch_;
    std::vector<float> inputs_;       // pixels x batch: the values of one pixel in all images are contiguous
    std::vector<float> activations_;  // layers x batch x hidden, after ReLU
    std::vector<float> by_hidden_;    // batch x hidden: the gradient with respect to a layer's activations
    std::vector<float> by_inputs_;    // batch x hidden: the gradient with respect to the previous layer's activations
    std::vector<float> logits_;       // batch x classes; probabilities, then their gradient, in loss_and_gradient
};

}  // namespace diloco

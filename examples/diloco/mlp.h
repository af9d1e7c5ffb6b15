// A multilayer perceptron with one hidden layer: pixels -> ReLU -> softmax over the classes.
//
// Its parameters are one flat buffer that the caller owns (weights and biases of the hidden layer, then of the output layer), so
// that an all-reduce, an optimizer or a shared state sees one tensor. One thread at a time per Mlp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mnist.h"

namespace diloco {

class Mlp {
public:
    /// `batch` is the largest number of images in one pass.
    Mlp(std::size_t pixels, std::size_t hidden, std::size_t batch);

    std::size_t parameter_count() const { return (pixels_ + 1) * hidden_ + (hidden_ + 1) * kClasses; }

    /// One of the tensors that lie one behind the other in the buffer.
    struct Tensor {
        const char *name;
        std::size_t offset, count;
    };
    std::array<Tensor, 4> tensors() const {
        return {{{"hidden.weights", hidden_weights(), pixels_ * hidden_},
                 {"hidden.biases", hidden_biases(), hidden_},
                 {"output.weights", output_weights(), hidden_ * kClasses},
                 {"output.biases", output_biases(), kClasses}}};
    }

    /// He initialization; the same seed gives the same parameters on every machine.
    std::vector<float> initial_parameters(std::uint64_t seed) const;

    /// Mean cross-entropy over the images of `data` that `indices` names, and its gradient by the parameters.
    /// @param[out] gradient  parameter_count() elements, overwritten.
    float loss_and_gradient(std::span<const float> parameters, const Dataset &data, std::span<const std::size_t> indices,
                            std::span<float> gradient);

    /// The fraction of the first `limit` images of `data` that is classified correctly.
    double accuracy(std::span<const float> parameters, const Dataset &data, std::size_t limit);

private:
    /// Offsets of the four tensors in the flat buffer.
    std::size_t hidden_weights() const { return 0; }  // pixels x hidden
    std::size_t hidden_biases() const { return pixels_ * hidden_; }
    std::size_t output_weights() const { return hidden_biases() + hidden_; }  // hidden x classes
    std::size_t output_biases() const { return output_weights() + hidden_ * kClasses; }

    void load(const Dataset &data, std::span<const std::size_t> indices);
    void forward(std::span<const float> parameters, std::size_t count);

    std::size_t pixels_, hidden_, batch_;
    std::vector<float> inputs_;           // pixels x batch: one pixel of all images lies together
    std::vector<float> activations_;      // batch x hidden, after ReLU
    std::vector<float> hidden_gradient_;  // batch x hidden
    std::vector<float> logits_;           // batch x classes; probabilities, then their gradient, in loss_and_gradient
};

}  // namespace diloco

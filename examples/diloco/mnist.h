// Reads labelled images in the IDX format of MNIST and Fashion-MNIST, gzipped or plain.
//
// Files are checked completely: sizes are compared with a limit before an allocation, and a short file, an overlong file and a
// label outside the classes are errors. Failures throw std::runtime_error with the file's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace diloco {

inline constexpr std::size_t kClasses = 10;

/// Images of equal size, one byte per pixel, and the class of each.
struct Dataset {
    std::size_t pixels = 0;  ///< per image
    std::vector<std::uint8_t> images;
    std::vector<std::uint8_t> labels;

    std::size_t size() const { return labels.size(); }
    std::span<const std::uint8_t> image(std::size_t i) const { return {images.data() + i * pixels, pixels}; }
};

/// Reads `directory`/`prefix`-images-idx3-ubyte.gz and its labels; prefix is "train" or "t10k".
Dataset read_mnist(const std::string &directory, const std::string &prefix);

enum class Split {
    kRandom,  ///< each part is a random sample of all classes
    kSorted   ///< sorted by label: each part has few classes
};

/// The part of `all` for peer `index` (from 0) of `count`. The same seed divides the data into the same `count` disjoint parts on
/// every machine.
Dataset take_shard(const Dataset &all, std::size_t index, std::size_t count, Split split, std::uint64_t seed);

}  // namespace diloco

#include "mnist.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

#include <zlib.h>

namespace diloco {
namespace {

constexpr std::size_t kMaxItems = 10'000'000;
constexpr std::size_t kMaxSide = 1024;        // pixels
constexpr std::size_t kMaxBytes = 1U << 30U;  // one file, unpacked

/// One IDX file: a big-endian header (two zero bytes, element type, number of dimensions, then each dimension), then the data.
class IdxFile {
public:
    explicit IdxFile(std::string path) : path_(std::move(path)), file_(gzopen(path_.c_str(), "rb")) {
        if (!file_) {
            fail(errno ? std::strerror(errno) : "out of memory");
        }
    }

    std::uint32_t read_u32() {
        std::array<std::uint8_t, 4> b{};
        read(b);
        return std::uint32_t{b[0]} << 24U | std::uint32_t{b[1]} << 16U | std::uint32_t{b[2]} << 8U | std::uint32_t{b[3]};
    }

    void expect_magic(std::uint32_t magic, const char *what) {
        if (read_u32() != magic) {
            fail(std::string("not an IDX file of ") + what);
        }
    }

    /// A dimension between 1 and `limit`.
    std::size_t read_dimension(std::size_t limit) {
        const std::uint32_t n = read_u32();
        if (n == 0 || n > limit) {
            fail("dimension of " + std::to_string(n) + ", expected 1 to " + std::to_string(limit));
        }
        return n;
    }

    /// Reads the rest of the file, which must have exactly `bytes`. Reading past the end makes zlib verify the checksum.
    std::vector<std::uint8_t> read_rest(std::size_t bytes) {
        if (bytes > kMaxBytes) {
            fail("more than " + std::to_string(kMaxBytes) + " bytes");
        }
        std::vector<std::uint8_t> data(bytes);
        read(data);
        std::uint8_t extra = 0;
        const int n = gzread(file_.get(), &extra, 1);
        if (n < 0) {
            fail(zlib_error());
        }
        if (n > 0) {
            fail("the file is longer than its header states");
        }
        return data;
    }

    [[noreturn]] void fail(const std::string &why) const { throw std::runtime_error(path_ + ": " + why); }

private:
    void read(std::span<std::uint8_t> out) {
        const int n = gzread(file_.get(), out.data(), static_cast<unsigned>(out.size()));
        if (n < 0) {
            fail(zlib_error());
        }
        if (static_cast<std::size_t>(n) != out.size()) {
            fail("the file ends too early");
        }
    }

    std::string zlib_error() const {
        int code = Z_OK;
        std::string text = gzerror(file_.get(), &code);
        if (code == Z_ERRNO) return std::strerror(errno);
        const std::string prefix = path_ + ": ";  // zlib names the file too
        return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
    }

    struct Close {
        void operator()(gzFile file) const { gzclose(file); }
    };
    std::string path_;
    std::unique_ptr<gzFile_s, Close> file_;
};

}  // namespace

Dataset read_mnist(const std::string &directory, const std::string &prefix) {
    Dataset data;
    IdxFile images(directory + "/" + prefix + "-images-idx3-ubyte.gz");
    images.expect_magic(0x00000803, "images");
    const std::size_t count = images.read_dimension(kMaxItems);
    const std::size_t rows = images.read_dimension(kMaxSide);
    const std::size_t columns = images.read_dimension(kMaxSide);
    data.pixels = rows * columns;
    data.images = images.read_rest(count * data.pixels);  // at most 10^13: no overflow

    IdxFile labels(directory + "/" + prefix + "-labels-idx1-ubyte.gz");
    labels.expect_magic(0x00000801, "labels");
    if (labels.read_dimension(kMaxItems) != count) {
        labels.fail("the numbers of labels and images differ");
    }
    data.labels = labels.read_rest(count);
    for (const std::uint8_t label : data.labels) {
        if (label >= kClasses) {
            labels.fail("label " + std::to_string(label) + ", expected 0 to " + std::to_string(kClasses - 1));
        }
    }
    return data;
}

Dataset take_shard(const Dataset &all, std::size_t index, std::size_t count, Split split, std::uint64_t seed) {
    // std::shuffle is not used: it may differ between standard libraries, and shards would then overlap.
    std::vector<std::size_t> order(all.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::mt19937_64 random(seed);
    for (std::size_t i = order.size(); i > 1; --i) {
        std::swap(order[i - 1], order[random() % i]);
    }
    if (split == Split::kSorted) {
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return all.labels[a] < all.labels[b]; });
    }
    Dataset shard;
    shard.pixels = all.pixels;
    const std::size_t begin = all.size() * index / count;
    const std::size_t end = all.size() * (index + 1) / count;
    for (std::size_t i = begin; i < end; ++i) {
        const auto image = all.image(order[i]);
        shard.images.insert(shard.images.end(), image.begin(), image.end());
        shard.labels.push_back(all.labels[order[i]]);
    }
    return shard;
}

}  // namespace diloco

// Arbitrary bytes as compressed chunks: whether a chunk is accepted or not, nothing outside its destination is written, and an
// accepted chunk survives our own compression unchanged.
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "codec/chunk.h"
#include "input.h"

namespace {

using namespace pccl;
using fuzz::Input;
using Bytes = std::vector<std::byte>;

constexpr unsigned kPlanes[] = {1, 2, 4, 8, 0, 3};
constexpr std::size_t kGuard = 64;

/// Empty if the chunk is rejected.
Bytes decompressed(const Bytes &in, std::size_t bytes, unsigned planes) {
    Bytes out(bytes + kGuard, std::byte{0xa5});
    const bool right = codec::decompress(out.data(), bytes, in.data(), in.size(), planes);
    for (std::size_t i = bytes; i < out.size(); ++i)
        FUZZ_CHECK(out[i] == std::byte{0xa5});
    out.resize(right ? bytes : 0);
    return out;
}

Bytes compressed(const Bytes &in, unsigned planes) {
    Bytes out(in.size() + 600);
    out.resize(codec::compress(out.data(), out.size(), in.data(), in.size(), planes));
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input(data, size);
    const unsigned planes = kPlanes[input.below(std::size(kPlanes))];
    const bool of_ours = input.below(2) != 0;
    const std::size_t bytes = input.take<std::uint16_t>() + (input.one_in(8) ? std::size_t{1} << 20 : 0);
    Bytes packed;
    if (of_ours) {
        // Our own output for some bytes, repeatedly, with changes.
        const auto some = std::as_bytes(input.bytes(40));
        Bytes plain(bytes);
        for (std::size_t i = 0; i < bytes && !some.empty(); ++i)
            plain[i] = some[(i * i / 7) % some.size()];
        packed = compressed(plain, planes);
        FUZZ_CHECK(packed.empty() == (bytes == 0 || planes == 0 || planes == 3));
        if (!packed.empty()) FUZZ_CHECK(decompressed(packed, bytes, planes) == plain);
        for (std::size_t changes = input.below(6); changes > 0 && !packed.empty(); --changes)
            packed[input.take<std::uint16_t>() % packed.size()] = input.take<std::byte>();
    }
    const auto rest = std::as_bytes(input.all());
    packed.insert(packed.end(), rest.begin(), rest.end());
    const std::size_t expected = of_ours ? bytes : bytes % 5000;
    const Bytes out = decompressed(packed, expected, planes);
    if (!out.empty()) FUZZ_CHECK(decompressed(compressed(out, planes), expected, planes) == out);
    return 0;
}

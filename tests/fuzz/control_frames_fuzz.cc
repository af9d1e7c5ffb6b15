// Cutting the stream of a control connection into frames: for every division of the bytes the same frames result, and an invalid
// length ends the stream.
#include <vector>

#include "check.h"
#include "input.h"
#include "wire/messages.h"

namespace {

using pccl::wire::Bytes;
using pccl::wire::FrameBuffer;

struct Cut {
    std::vector<Bytes> frames;
    bool bad = false;
    friend bool operator==(const Cut &, const Cut &) = default;
};

/// Written directly from docs/internals/protocol.md.
Cut expected(std::span<const std::byte> stream, std::size_t limit) {
    Cut cut;
    while (stream.size() >= 4) {
        std::uint32_t length = 0;
        std::memcpy(&length, stream.data(), sizeof length);
        if (length == 0 || length > limit) {
            cut.bad = true;
            return cut;
        }
        if (stream.size() - 4 < length) return cut;
        cut.frames.emplace_back(stream.begin() + 4, stream.begin() + 4 + length);
        stream = stream.subspan(4 + length);
    }
    return cut;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    pccl::fuzz::Input input(data, size);
    const std::size_t limit = input.take<std::uint16_t>();
    const auto pieces = input.bytes(8);
    const auto raw = std::as_bytes(input.all());

    FrameBuffer buffer(limit);
    Cut cut;
    for (std::size_t at = 0, i = 0; at < raw.size() && !cut.bad; ++i) {
        const std::size_t piece = std::min<std::size_t>(raw.size() - at, 1u + (pieces.empty() ? 0u : pieces[i % pieces.size()]));
        buffer.append(raw.subspan(at, piece));
        at += piece;
        std::span<const std::byte> frame;
        for (;;) {
            const auto next = buffer.next(frame);
            if (next == FrameBuffer::Next::frame) cut.frames.emplace_back(frame.begin(), frame.end());
            cut.bad = next == FrameBuffer::Next::bad;
            if (next != FrameBuffer::Next::frame) break;
            FUZZ_CHECK(frame.size() <= limit);
        }
    }
    FUZZ_CHECK(cut == expected(raw, limit));
    return 0;
}

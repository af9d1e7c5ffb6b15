// FrameBuffer returns whole frames in order, at whatever bytes the network splits the stream.
#include <gtest/gtest.h>

#include "wire/messages.h"

namespace pccl::wire {
namespace {

Bytes three_messages() {
    Bytes stream;
    for (const ToMaster &message :
         {ToMaster(VoteUpdate{1}), ToMaster(Abort{}), ToMaster(Done{{OpId{ViewNumber{1}, Tag{2}, 3}}})}) {
        const Bytes frame = encode(message);
        stream.insert(stream.end(), frame.begin(), frame.end());
    }
    return stream;
}

std::vector<std::size_t> types_in(FrameBuffer &buffer) {
    std::vector<std::size_t> types;
    std::span<const std::byte> frame;
    while (buffer.next(frame) == FrameBuffer::Next::frame) {
        ToMaster message;
        EXPECT_TRUE(decode(frame, message));
        types.push_back(message.index());
    }
    return types;
}

const std::vector<std::size_t> kTypes = {ToMaster(VoteUpdate{}).index(), ToMaster(Abort{}).index(), ToMaster(Done{}).index()};

TEST(FrameBuffer, JoinsFramesSplitAtAnyByte) {
    const Bytes stream = three_messages();
    for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
        FrameBuffer buffer(kMaxControlBytes);
        buffer.append(std::span(stream).first(cut));
        auto types = types_in(buffer);
        buffer.append(std::span(stream).subspan(cut));
        const auto rest = types_in(buffer);
        types.insert(types.end(), rest.begin(), rest.end());
        EXPECT_EQ(types, kTypes) << "cut at " << cut;
    }
}

TEST(FrameBuffer, ReadsByteByByteAndAllAtOnce) {
    const Bytes stream = three_messages();
    FrameBuffer slow(kMaxControlBytes), fast(kMaxControlBytes);
    std::vector<std::size_t> types;
    for (const std::byte byte : stream) {
        slow.append({&byte, 1});
        for (const auto type : types_in(slow))
            types.push_back(type);
    }
    EXPECT_EQ(types, kTypes);
    fast.append(stream);
    EXPECT_EQ(types_in(fast), kTypes);
}

TEST(FrameBuffer, RejectsInvalidLengths) {
    for (const std::uint32_t length : {0u, 1025u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
        FrameBuffer buffer(1024);
        Bytes word(4);
        std::memcpy(word.data(), &length, sizeof length);
        buffer.append(word);
        std::span<const std::byte> frame;
        EXPECT_EQ(buffer.next(frame), FrameBuffer::Next::bad) << length;
    }
}

TEST(FrameBuffer, LimitIsInclusiveAndCanBeRaised) {
    const auto frame_of = [](std::uint32_t length) {
        Bytes bytes(4 + length);
        std::memcpy(bytes.data(), &length, sizeof length);
        return bytes;
    };
    FrameBuffer buffer(kMaxHelloBytes);
    buffer.append(frame_of(kMaxHelloBytes));
    std::span<const std::byte> frame;
    EXPECT_EQ(buffer.next(frame), FrameBuffer::Next::frame);
    EXPECT_EQ(frame.size(), kMaxHelloBytes);
    buffer.set_limit(2 * kMaxHelloBytes);
    buffer.append(frame_of(kMaxHelloBytes + 1));
    EXPECT_EQ(buffer.next(frame), FrameBuffer::Next::frame);
}

}  // namespace
}  // namespace pccl::wire

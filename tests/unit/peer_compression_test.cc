// Compressed chunks: a peer receives them like plain chunks, relays them as received, and sends them if the link may compress.
// Invalid chunks end their link and change no buffer.
#include "fuzz/link_scene.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include "base/log.h"

namespace pccl::fuzz {
namespace {

constexpr PeerId kBefore{2}, kBehind{3};
constexpr std::uint64_t kEpoch = 5;
constexpr std::size_t kCount = 3 * 7680;  // three blocks of one chunk each

class CompressionTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() { set_log_level(LogLevel::off); }

    /// A ring of three: chunks come from `kBefore` and go to `kBehind`.
    void begin(Compression compression) {
        scene.options.compression = compression;
        for (const PeerId other : {kBefore, kBehind}) {
            scene.expect_link(other);
            Remote &remote = scene.connect(other);
            scene.greet(remote, 1, other);
            scene.deliver(remote, SIZE_MAX);
        }
        scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kBehind, kBefore}, 0, true, {}, {}}, kSelf);
        request.spec.count = kCount;
        request.spec.type = op::Type::f32;
        request.spec.algorithm = op::Algorithm::ring;
        request.set_buffers(send.data(), recv.data());
        scene.engine.start({ViewNumber{kEpoch}, Tag{7}, 0}, request);
        send_opening();
        scene.turn();
    }
    Remote &before() { return scene.remotes[0]; }
    Remote &behind() { return scene.remotes[1]; }

    wire::Bytes encoded_spec() const {
        wire::Bytes encoded;
        wire::Writer write(encoded);
        write(request.spec);
        return encoded;
    }
    FrameHeader header(FrameKind kind, std::uint32_t block, std::uint16_t hop) const {
        FrameHeader h;
        h.kind = kind;
        h.epoch = kEpoch;
        h.tag = 7;
        h.index = block;
        h.hop = hop;
        const auto encoded = encoded_spec();
        h.offset = kernel::checksum(encoded.data(), encoded.size());
        return h;
    }
    /// The successor has also posted the operation.
    void send_opening() {
        const auto encoded = encoded_spec();
        FrameHeader h = header(FrameKind::op_open, 0, 0);
        h.offset = 0;
        send_frame(behind(), h, {reinterpret_cast<const char *>(encoded.data()), encoded.size()});
    }
    void send_frame(Remote &from, const FrameHeader &h, const std::string &payload, std::uint64_t damage = 0) {
        LinkScene::send(from, h, payload, damage);
        scene.deliver(from, SIZE_MAX);
    }
    static std::string with_plain_length(std::uint32_t plain_bytes, const std::string &rest) {
        return std::string(reinterpret_cast<const char *>(&plain_bytes), sizeof plain_bytes) + rest;
    }
    /// Compresses differently from PCCL (no planes, another level), so that the result differs.
    static std::string packed(const std::vector<float> &values) {
        std::string out(ZSTD_compressBound(values.size() * 4), '\0');
        out.resize(ZSTD_compress(out.data(), out.size(), values.data(), values.size() * 4, 5));
        return with_plain_length(static_cast<std::uint32_t>(values.size() * 4), out);
    }
    static FrameHeader in_planes(FrameHeader h, std::uint8_t planes = 1) {
        h.planes = planes;
        return h;
    }
    void expect_closed(const std::string &words) {
        scene.turn();
        ASSERT_EQ(scene.downs[kBefore].size(), 1u);
        EXPECT_NE(scene.downs[kBefore][0].find(words), std::string::npos) << scene.downs[kBefore][0];
        EXPECT_TRUE(scene.links.up(kBehind));
        EXPECT_EQ(send, std::vector<float>(kCount, 1.0F));
        EXPECT_EQ(recv, std::vector<float>(kCount, 0.0F));
    }
    /// The next chunk that the peer sent to its successor.
    bool next_chunk(FrameHeader &h, std::string &payload) {
        scene.turn();
        scene.receive(behind());
        while (scene.next_frame(behind(), h, payload)) {
            if (h.kind != FrameKind::reduce_chunk && h.kind != FrameKind::gather_chunk) continue;
            EXPECT_EQ(h.checksum, kernel::checksum(payload.data(), payload.size()))
                << "the checksum covers the bytes on the wire";
            return true;
        }
        return false;
    }
    static std::vector<float> plain(const FrameHeader &h, const std::string &payload) {
        std::vector<float> values(h.planes == 0 ? payload.size() / 4
                                                : plain_length(reinterpret_cast<const std::byte *>(payload.data())) / 4);
        auto *const out = reinterpret_cast<std::byte *>(values.data());
        if (h.planes == 0)
            std::memcpy(out, payload.data(), payload.size());
        else
            EXPECT_TRUE(
                unpack(out, values.size() * 4, reinterpret_cast<const std::byte *>(payload.data()), payload.size(), h.planes));
        return values;
    }

    std::vector<float> send = std::vector<float>(kCount, 1.0F), recv = std::vector<float>(kCount, 0.0F);
    ReduceRequest request;
    LinkScene scene;
};

TEST_F(CompressionTest, ChunkIsReceivedLikeAPlainOne) {
    begin(Compression::off);
    FrameHeader h;
    std::string payload;
    ASSERT_TRUE(next_chunk(h, payload));  // this peer's own chunk
    const std::vector<float> twos(kCount / 3, 2.0F);
    const std::string chunk = packed(twos);
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)), chunk);
    ASSERT_TRUE(next_chunk(h, payload));
    EXPECT_EQ(h.planes, 0);
    EXPECT_EQ(plain(h, payload), std::vector<float>(kCount / 3, 3.0F));
    EXPECT_EQ(request.rx_bytes, sizeof h + chunk.size()) << "bytes on the wire";
    EXPECT_EQ(request.tx_saved, 0u);
}

TEST_F(CompressionTest, ChunksAreSentCompressedIfTheLinkMay) {
    begin(Compression::on);
    FrameHeader h;
    std::string payload;
    ASSERT_TRUE(next_chunk(h, payload));
    EXPECT_EQ(h.planes, 4);
    EXPECT_LT(payload.size(), 1000u);
    EXPECT_EQ(plain(h, payload), std::vector<float>(kCount / 3, 1.0F));
    EXPECT_EQ(request.tx_bytes, sizeof h + payload.size());
    EXPECT_EQ(request.tx_saved, kCount / 3 * 4 - payload.size());
}

TEST_F(CompressionTest, FinalChunkIsRelayedAsReceived) {
    begin(Compression::on);
    FrameHeader h;
    std::string payload;
    ASSERT_TRUE(next_chunk(h, payload));
    const std::string chunk = packed(std::vector<float>(kCount / 3, 3.0F));
    send_frame(before(), in_planes(header(FrameKind::gather_chunk, 2, 0)), chunk);
    ASSERT_TRUE(next_chunk(h, payload));
    EXPECT_EQ(h.kind, FrameKind::gather_chunk);
    EXPECT_TRUE(payload == chunk);
    EXPECT_EQ(h.planes, 1);
}

TEST_F(CompressionTest, FinalChunkIsRelayedPlainIfTheLinkMayNotCompress) {
    begin(Compression::off);
    FrameHeader h;
    std::string payload;
    ASSERT_TRUE(next_chunk(h, payload));
    const std::vector<float> threes(kCount / 3, 3.0F);
    send_frame(before(), in_planes(header(FrameKind::gather_chunk, 2, 0)), packed(threes));
    ASSERT_TRUE(next_chunk(h, payload));
    EXPECT_EQ(h.kind, FrameKind::gather_chunk);
    EXPECT_EQ(h.planes, 0);
    EXPECT_EQ(plain(h, payload), threes);
}

TEST_F(CompressionTest, PayloadThatIsNotZstdEndsTheLink) {
    begin(Compression::off);
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)),
               with_plain_length(kCount / 3 * 4, std::string(500, 'x')));
    expect_closed("cannot be decompressed");
}

TEST_F(CompressionTest, ChunkShorterThanItsPlainLengthEndsTheLink) {
    begin(Compression::off);
    const std::string less = packed(std::vector<float>(kCount / 3 - 1));
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)), with_plain_length(kCount / 3 * 4, less.substr(4)));
    expect_closed("cannot be decompressed");
}

TEST_F(CompressionTest, ChunkLongerThanItsPlainLengthEndsTheLink) {
    begin(Compression::off);
    const std::string bomb = packed(std::vector<float>(std::size_t{8} << 20));
    ASSERT_LT(bomb.size(), kCount / 3 * 4);
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)), with_plain_length(kCount / 3 * 4, bomb.substr(4)));
    expect_closed("cannot be decompressed");
}

TEST_F(CompressionTest, PlainLengthOfAnotherOperationEndsTheLink) {
    begin(Compression::off);
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)), packed(std::vector<float>(kCount / 3 + 1)));
    expect_closed("wrong length");
}

TEST_F(CompressionTest, PlainLengthBeyondTheLimitEndsTheLink) {
    begin(Compression::off);
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)),
               with_plain_length(wire::kMaxChunkBytes + 1, std::string(500, 'x')));
    expect_closed("an invalid plain length");
}

TEST_F(CompressionTest, PlainLengthBelowThePackedLengthEndsTheLink) {
    begin(Compression::off);
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)),
               with_plain_length(kCount / 3 * 4, std::string(kCount / 3 * 4, 'x')));
    expect_closed("an invalid plain length");
}

TEST_F(CompressionTest, InvalidElementSizeEndsTheLink) {
    begin(Compression::off);
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0), 3), packed(std::vector<float>(kCount / 3)));
    expect_closed("an invalid compression");
}

TEST_F(CompressionTest, CompressedOpeningEndsTheLink) {
    begin(Compression::off);
    send_frame(before(), in_planes(header(FrameKind::op_open, 0, 0)), packed(std::vector<float>(30)));
    expect_closed("an invalid compression");
}

TEST_F(CompressionTest, DamageIsDetectedBeforeDecompression) {
    begin(Compression::off);
    send_frame(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)), packed(std::vector<float>(kCount / 3)), 1);
    expect_closed("wrong checksum");
}

TEST_F(CompressionTest, ChunkMayArriveInSmallPieces) {
    begin(Compression::off);
    FrameHeader h;
    std::string payload;
    ASSERT_TRUE(next_chunk(h, payload));
    LinkScene::send(before(), in_planes(header(FrameKind::reduce_chunk, 1, 0)), packed(std::vector<float>(kCount / 3, 2.0F)));
    while (!before().outbox.empty())
        scene.deliver(before(), 3);
    ASSERT_TRUE(next_chunk(h, payload));
    EXPECT_EQ(plain(h, payload), std::vector<float>(kCount / 3, 3.0F));
}

TEST_F(CompressionTest, EndedOperationIsUntouchedByAnArrivingChunk) {
    begin(Compression::off);
    LinkScene::send(before(), in_planes(header(FrameKind::gather_chunk, 2, 0)), packed(std::vector<float>(kCount / 3, 2.0F)));
    scene.deliver(before(), sizeof(FrameHeader) + 20);
    scene.engine.end({ViewNumber{kEpoch}, Tag{7}, 0}, false);
    scene.deliver(before(), SIZE_MAX);
    EXPECT_TRUE(scene.links.up(kBefore));
    EXPECT_EQ(recv, std::vector<float>(kCount, 0.0F));
}

}  // namespace
}  // namespace pccl::fuzz

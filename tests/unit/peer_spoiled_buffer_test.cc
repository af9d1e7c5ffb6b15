// Programs that change or free buffers while they are sent, and paths that damage frames: how a peer distinguishes the two, and
// the consequences.
#include "fuzz/link_scene.h"

#include <sys/mman.h>

#include <gtest/gtest.h>

#include "base/log.h"

namespace pccl::fuzz {
namespace {

constexpr PeerId kNext{2}, kBefore{3};
constexpr std::uint64_t kEpoch = 5;
constexpr std::size_t kCount = 3000;  ///< one chunk of at most 1024 floats in each of three blocks
constexpr std::size_t kBytes = kCount * sizeof(float);

/// Separate pages, which a test can unmap.
class Pages {
public:
    explicit Pages(std::size_t bytes)
        : bytes_(bytes), data_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
    ~Pages() { ::munmap(data_, bytes_); }
    Pages(const Pages &) = delete;
    Pages &operator=(const Pages &) = delete;
    std::byte *data() { return static_cast<std::byte *>(data_); }
    float *floats() { return static_cast<float *>(data_); }
    void take_away() { ASSERT_EQ(::mprotect(data_, bytes_, PROT_NONE), 0); }

private:
    std::size_t bytes_;
    void *data_;
};

class SpoiledBuffer : public ::testing::Test {
protected:
    static void SetUpTestSuite() { set_log_level(LogLevel::off); }

    SpoiledBuffer() {
        scene.options.compression = Compression::off;  // frames carry the bytes of the buffers
        for (const PeerId other : {kNext, kBefore}) {
            scene.expect_link(other);
            Remote &remote = scene.connect(other);
            scene.greet(remote, 1, other);
            scene.deliver(remote, SIZE_MAX);
            FrameHeader accepted;
            scene.receive(remote);
            EXPECT_TRUE(scene.next_frame(remote, accepted, payload));
        }
        scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kNext, kBefore}, 0, true, {}, {}}, kSelf);
        scene.messages.set_members({kSelf, kNext, kBefore});
        std::fill_n(send.floats(), kCount, 1.0F);
    }

    Remote &next() { return scene.remotes[0]; }
    Remote &before() { return scene.remotes[1]; }
    OpId id() const { return {ViewNumber{kEpoch}, Tag{7}, 0}; }

    void start(op::Algorithm algorithm = op::Algorithm::ring) {
        prepare(algorithm);
        scene.engine.start(id(), request);
        scene.turn();
    }
    void prepare(op::Algorithm algorithm) {
        request.spec.count = kCount;
        request.spec.type = op::Type::f32;
        request.spec.algorithm = algorithm;
        request.set_buffers(send.data(), receive.data());
    }
    FrameHeader chunk(FrameKind kind, std::uint32_t index, std::uint16_t hop) {
        wire::Bytes encoded;
        wire::Writer write(encoded);
        write(request.spec);
        FrameHeader h;
        h.kind = kind;
        h.epoch = kEpoch;
        h.tag = 7;
        h.index = index;
        h.hop = hop;
        h.offset = kernel::checksum(encoded.data(), encoded.size());
        return h;
    }
    void send_frame(Remote &from, const FrameHeader &h, const std::string &bytes, std::uint64_t damage = 0) {
        LinkScene::send(from, h, bytes, damage);
        scene.deliver(from, SIZE_MAX);
    }
    /// Returns true and the next frame of this kind that the peer sent to `at`. False: there is none.
    bool next_of(Remote &at, FrameKind kind, FrameHeader &h) {
        scene.turn();
        scene.receive(at);
        while (scene.next_frame(at, h, payload)) {
            if (h.kind == kind) return true;
        }
        return false;
    }
    void ask_again(Remote &from, const FrameHeader &sent) {
        FrameHeader h;
        h.kind = FrameKind::ask_again;
        send_frame(from, h, {reinterpret_cast<const char *>(&sent), sizeof sent});
    }
    bool intact(const FrameHeader &h) const { return kernel::checksum(payload.data(), payload.size()) == h.checksum; }
    bool both_links_are_up() { return scene.links.up(kNext) && scene.links.up(kBefore); }
    void expect_own_fault(const std::string &words) {
        scene.turn();
        ASSERT_EQ(scene.own_faults.size(), 1U);
        EXPECT_EQ(scene.own_faults[0].op, id());
        EXPECT_EQ(scene.own_faults[0].code, pcclInvalidUsage);
        EXPECT_NE(scene.own_faults[0].why.find(words), std::string::npos) << scene.own_faults[0].why;
        EXPECT_TRUE(both_links_are_up());
    }
    void expect_down(PeerId other, const std::string &words) {
        scene.turn();
        ASSERT_EQ(scene.downs[other].size(), 1U);
        EXPECT_NE(scene.downs[other][0].find(words), std::string::npos) << scene.downs[other][0];
        EXPECT_TRUE(scene.own_faults.empty());
    }
    PostPtr post(Pages &memory, std::size_t bytes) {
        auto post = std::make_shared<Post>();
        post->to = kNext;
        post->tag = Tag{1};
        post->data = memory.data();
        post->bytes = bytes;
        scene.messages.post(post);
        FrameHeader h;
        EXPECT_TRUE(next_of(next(), FrameKind::post_offer, h));
        FrameHeader grant;
        grant.kind = FrameKind::post_grant;
        grant.epoch = 1;
        LinkScene::send(next(), grant, "");
        return post;
    }
    void expect_withdrawn(const PostPtr &post, const std::string &words) {
        FrameHeader h;
        ASSERT_TRUE(next_of(next(), FrameKind::post_withdraw, h));
        FrameHeader end;
        end.kind = FrameKind::post_end;
        end.epoch = 1;
        end.aux = static_cast<std::uint32_t>(protocol::PostEnd::withdrawn);
        send_frame(next(), end, "");
        const Status outcome = scene.office.await(*post, Time{});
        ASSERT_FALSE(outcome);
        EXPECT_EQ(outcome.code(), pcclInvalidUsage);
        EXPECT_NE(outcome.error().what.find(words), std::string::npos) << outcome.error().what;
        EXPECT_TRUE(both_links_are_up());
    }

    Pages send{kBytes}, receive{kBytes};
    ReduceRequest request;
    std::string payload;
    LinkScene scene;
};

// ------------------------------------------------------------------------------------------------------------------- receiving --

TEST_F(SpoiledBuffer, DamagedChunkIsRequestedAgain) {
    start();
    FrameHeader header = chunk(FrameKind::reduce_chunk, 1, 0), ask, sum;  // from the predecessor, where block 1 starts
    const std::string ones(4096, '\0');
    send_frame(before(), header, ones, 1);
    ASSERT_TRUE(next_of(before(), FrameKind::ask_again, ask));
    FrameHeader named;
    ASSERT_EQ(payload.size(), sizeof named);
    std::memcpy(&named, payload.data(), sizeof named);
    EXPECT_EQ(named.kind, FrameKind::reduce_chunk);
    EXPECT_EQ(named.checksum, kernel::checksum(ones.data(), ones.size()) + 1);
    EXPECT_TRUE(both_links_are_up());
    send_frame(before(), header, ones);
    while (next_of(next(), FrameKind::reduce_chunk, sum) && sum.index != 1) {
    }
    EXPECT_EQ(sum.hop, 1);
    EXPECT_TRUE(intact(sum));
    EXPECT_TRUE(both_links_are_up());
}

TEST_F(SpoiledBuffer, EarlyDamagedChunkIsRequestedAgain) {
    prepare(op::Algorithm::ring);
    FrameHeader header = chunk(FrameKind::reduce_chunk, 1, 0), ask;
    send_frame(before(), header, std::string(4096, '\0'), 1);
    EXPECT_TRUE(next_of(before(), FrameKind::ask_again, ask));
    EXPECT_TRUE(both_links_are_up());
}

TEST_F(SpoiledBuffer, PathThatDamagesAChunkTwiceIsGivenUp) {
    start();
    for (int i = 0; i < 2; ++i)
        send_frame(before(), chunk(FrameKind::reduce_chunk, 1, 0), std::string(4096, '\0'), 1);
    expect_down(kBefore, "wrong checksum");
}

TEST_F(SpoiledBuffer, SecondArrivalIsReceivedIntoLibraryMemory) {
    start();
    const FrameHeader header = chunk(FrameKind::gather_chunk, 2, 0);
    const std::string final(3808, '\1');
    send_frame(before(), header, final, 1);
    LinkScene::send(before(), header, final);
    scene.deliver(before(), sizeof header + 3000);
    std::fill_n(receive.floats(), kCount, 2.0F);  // the program writes there meanwhile
    scene.deliver(before(), SIZE_MAX);
    EXPECT_TRUE(both_links_are_up());
    EXPECT_EQ(std::memcmp(receive.floats() + 2048, final.data(), final.size()), 0);
}

TEST_F(SpoiledBuffer, FreedReceiveBufferFailsTheOperation) {
    start();
    const FrameHeader header = chunk(FrameKind::gather_chunk, 2, 0);  // the predecessor's own block
    LinkScene::send(before(), header, std::string(3808, '\1'));
    scene.deliver(before(), sizeof header);
    receive.take_away();
    scene.deliver(before(), SIZE_MAX);
    expect_own_fault("recvbuff of the all-reduce with tag 7 was freed");
}

// --------------------------------------------------------------------------------------------------------------------- sending --

TEST_F(SpoiledBuffer, IntactChunkIsSentAgain) {
    start();
    FrameHeader first, again;
    ASSERT_TRUE(next_of(next(), FrameKind::reduce_chunk, first));
    const std::string sent = payload;
    ask_again(next(), first);
    ASSERT_TRUE(next_of(next(), FrameKind::reduce_chunk, again));
    EXPECT_EQ(payload, sent);
    EXPECT_EQ(std::memcmp(&again, &first, sizeof first), 0);
    EXPECT_TRUE(scene.own_faults.empty());
    EXPECT_TRUE(both_links_are_up());
}

TEST_F(SpoiledBuffer, PathThatDamagesManyChunksIsGivenUp) {
    start();
    FrameHeader first;
    ASSERT_TRUE(next_of(next(), FrameKind::reduce_chunk, first));
    for (std::size_t i = 0; i <= wire::kMaxSentAgain; ++i)
        ask_again(next(), first);
    expect_down(kNext, "the path damages frames");
}

TEST_F(SpoiledBuffer, ModifiedSendBufferFailsTheOperation) {
    start();
    FrameHeader first;
    ASSERT_TRUE(next_of(next(), FrameKind::reduce_chunk, first));
    std::fill_n(send.floats(), kCount, 2.0F);
    ask_again(next(), first);
    expect_own_fault("sendbuff of the all-reduce with tag 7 was modified while it ran, by the program of peer 1");
    ask_again(next(), first);  // requested once more before the operation has ended: it is not reported twice
    EXPECT_EQ(scene.own_faults.size(), 1U);
}

TEST_F(SpoiledBuffer, ModifiedSendBufferOfOneHopFailsTheOperation) {
    start(op::Algorithm::one_hop);
    FrameHeader first;
    ASSERT_TRUE(next_of(next(), FrameKind::reduce_chunk, first));
    std::fill_n(send.floats(), kCount, 2.0F);
    ask_again(next(), first);
    expect_own_fault("sendbuff of the all-reduce with tag 7 was modified");
}

TEST_F(SpoiledBuffer, DirectExchangeSendsTheOriginalContent) {
    start(op::Algorithm::direct);
    FrameHeader first, again;
    ASSERT_TRUE(next_of(next(), FrameKind::direct_chunk, first));
    const std::string sent = payload;
    std::fill_n(send.floats(), kCount, 2.0F);
    ask_again(next(), first);
    ASSERT_TRUE(next_of(next(), FrameKind::direct_chunk, again));
    EXPECT_EQ(payload, sent);
    EXPECT_TRUE(scene.own_faults.empty());
}

TEST_F(SpoiledBuffer, FreedSendBufferFailsTheOperation) {
    start();
    FrameHeader first;
    ASSERT_TRUE(next_of(next(), FrameKind::reduce_chunk, first));
    send.take_away();
    ask_again(next(), first);
    expect_own_fault("sendbuff of the all-reduce with tag 7 was freed");
}

TEST_F(SpoiledBuffer, ModifiedReceiveBufferFailsTheOperation) {
    start();
    FrameHeader passed_on;
    send_frame(before(), chunk(FrameKind::gather_chunk, 2, 0), std::string(3808, '\1'));
    ASSERT_TRUE(next_of(next(), FrameKind::gather_chunk, passed_on));
    std::fill_n(receive.floats(), kCount, 2.0F);
    ask_again(next(), passed_on);
    expect_own_fault("recvbuff of the all-reduce with tag 7 was modified");
}

TEST_F(SpoiledBuffer, RequestForAFrameThatWasNotSentEndsTheLink) {
    start();
    FrameHeader first;
    ASSERT_TRUE(next_of(next(), FrameKind::reduce_chunk, first));
    ask_again(before(), first);
    expect_down(kBefore, "that was not sent to it");
    first.hop = 1;
    ask_again(next(), first);
    expect_down(kNext, "that was not sent to it");
}

TEST_F(SpoiledBuffer, RequestOfAWrongLengthOrKindEndsTheLink) {
    FrameHeader h;
    h.kind = FrameKind::ask_again;
    send_frame(next(), h, "short");
    expect_down(kNext, "wrong length");
    send_frame(before(), h, std::string(sizeof h, '\0'));
    expect_down(kBefore, "cannot have been sent");
}

TEST_F(SpoiledBuffer, RequestForAFrameOfAnOperationThatEndedIsIgnored) {
    start();
    FrameHeader first;
    ASSERT_TRUE(next_of(next(), FrameKind::reduce_chunk, first));
    scene.engine.end(id(), false);
    ask_again(next(), first);
    EXPECT_TRUE(both_links_are_up());
    EXPECT_TRUE(scene.own_faults.empty());
}

// -------------------------------------------------------------------------------------------------------------------- messages --

TEST_F(SpoiledBuffer, ModifiedMessageIsWithdrawn) {
    Pages memory(40000);
    const PostPtr posted = post(memory, 40000);
    scene.deliver(next(), SIZE_MAX);
    FrameHeader h;
    ASSERT_TRUE(next_of(next(), FrameKind::post_chunk, h));
    memory.data()[7] = std::byte{1};
    ask_again(next(), h);
    expect_withdrawn(posted, "the message to peer 2 was modified while it was sent");
}

TEST_F(SpoiledBuffer, FreedMessageIsWithdrawn) {
    Pages memory(40000);
    const PostPtr posted = post(memory, 40000);
    scene.deliver(next(), SIZE_MAX);
    FrameHeader h;
    ASSERT_TRUE(next_of(next(), FrameKind::post_chunk, h));
    memory.take_away();
    ask_again(next(), h);
    expect_withdrawn(posted, "the message to peer 2 was freed while it was sent");
}

TEST_F(SpoiledBuffer, DamagedMessageIsRequestedAgainAndDelivered) {
    FrameHeader offer, chunk, ask, end;
    offer.kind = FrameKind::post_offer;
    chunk.kind = FrameKind::post_chunk;
    offer.epoch = chunk.epoch = 1;
    offer.tag = chunk.tag = 1;
    offer.offset = 40000;
    offer.aux = 40000;
    send_frame(next(), offer, "");
    send_frame(next(), chunk, std::string(40000, 'm'), 1);
    ASSERT_TRUE(next_of(next(), FrameKind::ask_again, ask));
    send_frame(next(), chunk, std::string(40000, 'm'));
    ASSERT_TRUE(next_of(next(), FrameKind::post_end, end));
    EXPECT_EQ(end.aux, static_cast<std::uint32_t>(protocol::PostEnd::delivered));
    EXPECT_TRUE(both_links_are_up());
}

// ---------------------------------------------------------------------------------------------------------------- shared state --

/// This peer holds a tensor that other peers pull.
class SpoiledState : public SpoiledBuffer {
protected:
    void SetUp() override {
        std::memset(tensor.data(), 5, kTensorBytes);
        auto list = kernel::chunk_checksums(tensor.data(), kTensorBytes);
        hash = kernel::content_hash(list);
        auto session = std::make_shared<SyncSession>();
        session->tensors.push_back({{tensor.data(), kTensorBytes}, std::move(list), hash, 1, "weights"});
        scene.transfer.offer(std::move(session));
        wire::SyncPlan plan;
        plan.sync = 3;
        scene.transfer.pull(plan);
    }
    static FrameHeader request(std::uint32_t chunk, bool doubted) {
        FrameHeader h;
        h.kind = FrameKind::state_ask_chunk;
        h.epoch = 3;
        h.aux = chunk;
        h.offset = doubted;
        return h;
    }
    /// Requests the last chunk.
    void ask(bool doubted) {
        send_frame(next(), request(kChunks - 1, doubted), {reinterpret_cast<const char *>(hash.bytes.data()), hash.bytes.size()});
    }

    static constexpr std::uint32_t kChunks = 16;  ///< more than the socket's buffer holds
    static constexpr std::size_t kTensorBytes = kChunks * kernel::kHashChunkBytes;
    Pages tensor{kTensorBytes};
    kernel::ContentHash hash;
};

TEST_F(SpoiledState, IntactChunkIsSentAgain) {
    FrameHeader h;
    for (const bool doubted : {false, true}) {
        ask(doubted);
        ASSERT_TRUE(next_of(next(), FrameKind::state_chunk, h));
        EXPECT_TRUE(intact(h));
    }
    EXPECT_TRUE(scene.spoiled.empty());
}

TEST_F(SpoiledState, ModifiedTensorIsReportedAndNotSent) {
    tensor.data()[kTensorBytes - 1] = std::byte{6};
    ask(true);
    EXPECT_EQ(scene.spoiled, std::vector<std::string>{"weights"});
    FrameHeader h;
    EXPECT_FALSE(next_of(next(), FrameKind::state_chunk, h));
    ask(false);
    EXPECT_FALSE(next_of(next(), FrameKind::state_chunk, h));
    EXPECT_TRUE(both_links_are_up());
}

TEST_F(SpoiledState, TensorThatIsFreedWhileItIsWrittenLeavesTheLinkUp) {
    FrameHeader h;
    for (std::uint32_t chunk = 0; chunk < kChunks; ++chunk)
        LinkScene::send(next(), request(chunk, false), {reinterpret_cast<const char *>(hash.bytes.data()), hash.bytes.size()});
    ASSERT_EQ(::send(next().fd, next().outbox.data(), next().outbox.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(next().outbox.size()));
    next().outbox.clear();
    scene.turn();  // a part of the chunks has been sent, and the socket is full
    tensor.take_away();
    std::size_t intact_chunks = 0;
    for (std::size_t i = 0; i < kChunks; ++i) {
        ASSERT_TRUE(next_of(next(), FrameKind::state_chunk, h)) << i;
        intact_chunks += intact(h);
    }
    EXPECT_LT(intact_chunks, kChunks);
    EXPECT_TRUE(both_links_are_up());
    ask(true);
    EXPECT_EQ(scene.spoiled, std::vector<std::string>{"weights"});
}

TEST_F(SpoiledState, FreedTensorIsReported) {
    tensor.take_away();
    ask(true);
    EXPECT_EQ(scene.spoiled, std::vector<std::string>{"weights"});
}

}  // namespace
}  // namespace pccl::fuzz

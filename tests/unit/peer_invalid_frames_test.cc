// An authenticated peer sends invalid frames over its data lanes. Its link ends with an error that gives the reason. The links to
// other peers, the callers' buffers and the memory of this process are unaffected.
#include "fuzz/link_scene.h"

#include <gtest/gtest.h>

#include "base/log.h"

namespace pccl::fuzz {
namespace {

constexpr PeerId kFaulty{2}, kCorrect{3};
constexpr std::uint64_t kEpoch = 5;

class InvalidFrames : public ::testing::Test {
protected:
    static void SetUpTestSuite() { set_log_level(LogLevel::off); }

    InvalidFrames() {
        for (const PeerId other : {kFaulty, kCorrect}) {
            scene.expect_link(other);
            Remote &remote = scene.connect(other);
            scene.greet(remote, 1, other);
            scene.deliver(remote, SIZE_MAX);
        }
        scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kFaulty, kCorrect}, 0, true, {}, {}}, kSelf);
        scene.turn();
    }

    Remote &faulty() { return scene.remotes[0]; }
    Remote &correct() { return scene.remotes[1]; }
    /// Opens another lane of the same link.
    Remote &lane_of(PeerId other) {
        Remote &remote = scene.connect(other);
        scene.greet(remote, 1, other);
        scene.deliver(remote, SIZE_MAX);
        return remote;
    }
    static FrameHeader header(FrameKind kind) {
        FrameHeader h;
        h.kind = kind;
        h.epoch = kEpoch;
        h.tag = 7;
        return h;
    }
    void send(Remote &from, const FrameHeader &h, const std::string &payload, std::uint64_t damage = 0,
              std::uint64_t header_damage = 0) {
        LinkScene::send(from, h, payload, damage, header_damage);
        scene.deliver(from, SIZE_MAX);
    }
    /// The link of the faulty peer ended with an error that contains `words`, and the other link did not end.
    void expect_closed(const std::string &words) {
        scene.turn();
        ASSERT_EQ(scene.downs[kFaulty].size(), 1u);
        EXPECT_NE(scene.downs[kFaulty][0].find(words), std::string::npos) << scene.downs[kFaulty][0];
        EXPECT_FALSE(scene.links.up(kFaulty));
        EXPECT_TRUE(scene.downs[kCorrect].empty());
        EXPECT_TRUE(scene.links.up(kCorrect));
    }
    /// Posts an operation in a ring of three. Its chunks come from the correct peer, which is the predecessor.
    ReduceRequest &post() {
        request_.spec.count = buffer_.size();
        request_.spec.type = op::Type::f32;
        request_.spec.algorithm = op::Algorithm::ring;
        request_.set_buffers(buffer_.data(), buffer_.data());
        request_.begin_undo();
        scene.engine.start({ViewNumber{kEpoch}, Tag{7}, 0}, request_);
        return request_;
    }
    FrameHeader chunk_header(FrameKind kind) {
        FrameHeader h = header(kind);
        wire::Bytes encoded;
        wire::Writer write(encoded);
        write(request_.spec);
        h.offset = kernel::checksum(encoded.data(), encoded.size());
        return h;
    }

    std::vector<float> buffer_ = std::vector<float>(3000, 1.0f);
    ReduceRequest request_;
    LinkScene scene;
};

TEST_F(InvalidFrames, HeaderWithAWrongChecksumEndsTheLink) {
    send(faulty(), header(FrameKind::op_open), "abc", 0, 1);
    expect_closed("header with a wrong checksum");
}

TEST_F(InvalidFrames, PayloadWithAWrongChecksumEndsTheLink) {
    send(faulty(), header(FrameKind::op_open), "abc", 1);
    expect_closed("wrong checksum");
}

TEST_F(InvalidFrames, LengthBeyondTheLimitEndsTheLink) {
    FrameHeader h = header(FrameKind::reduce_chunk);
    h.bytes = wire::kMaxChunkBytes + 1;
    h.header_checksum = kernel::checksum(&h, wire::kHeaderChecked);
    faulty().outbox.assign(reinterpret_cast<const char *>(&h), sizeof h);
    scene.deliver(faulty(), SIZE_MAX);
    expect_closed("beyond the limit");
}

TEST_F(InvalidFrames, ChunkThatIsNotOfThePredecessorEndsTheLink) {
    post();
    send(faulty(), chunk_header(FrameKind::reduce_chunk), std::string(4096, '\0'));
    expect_closed("not the predecessor");
}

TEST_F(InvalidFrames, OpeningOfANonMemberEndsTheLink) {
    scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kCorrect}, 0, true, {}, {}}, kSelf);
    send(faulty(), header(FrameKind::op_open), "abc");
    expect_closed("not a member");
}

TEST_F(InvalidFrames, ChunkThatDoesNotExistEndsTheLink) {
    scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kCorrect, kFaulty}, 0, true, {}, {}}, kSelf);
    post();
    FrameHeader h = chunk_header(FrameKind::reduce_chunk);
    h.index = 99;
    send(faulty(), h, std::string(4096, '\0'));
    expect_closed("does not exist");
}

TEST_F(InvalidFrames, ChunkOfTheWrongLengthChangesNoBuffer) {
    scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kCorrect, kFaulty}, 0, true, {}, {}}, kSelf);
    post();
    FrameHeader h = chunk_header(FrameKind::reduce_chunk);
    h.index = 1;  // the predecessor sends block 1 first
    send(faulty(), h, std::string(4, '\0'));
    expect_closed("wrong length");
    EXPECT_EQ(buffer_, std::vector<float>(3000, 1.0f));
}

TEST_F(InvalidFrames, UnexpectedAcceptEndsTheLink) {
    send(faulty(), header(FrameKind::link_accept), "");
    expect_closed("an unexpected link_accept");
}

TEST_F(InvalidFrames, ConnectionInAnotherPeersNameIsClosed) {
    for (const std::uint32_t attempt : {0u, 1u}) {
        Remote &remote = scene.connect(kFaulty);
        wire::Bytes payload;
        wire::Writer write(payload);
        Secret guessed = kToken;
        guessed[15] ^= 1;
        write(wire::LinkHello{kRun, kCorrect, kSelf, attempt, guessed});
        send(remote, header(FrameKind::link_hello), {reinterpret_cast<const char *>(payload.data()), payload.size()});
        char byte = 0;
        EXPECT_EQ(::recv(remote.fd, &byte, 1, 0), 0) << "not closed";
    }
    EXPECT_TRUE(scene.links.up(kCorrect));
    EXPECT_TRUE(scene.downs.empty());
}

TEST_F(InvalidFrames, FrameOfAFutureViewIsHeldForThirtySeconds) {
    FrameHeader h = header(FrameKind::op_open);
    h.epoch = kEpoch + 1000;
    send(faulty(), h, "abc");
    const auto check = [&](Time now, Time master_since) {
        scene.links.for_each([&](Link &link) { link.check_held(now, master_since); });
        scene.turn();
    };
    const Time now = monotonic_now();
    check(now + std::chrono::seconds(29), Time{});
    EXPECT_TRUE(scene.links.up(kFaulty));
    check(now + std::chrono::seconds(60), now + std::chrono::seconds(40));  // there was no control connection meanwhile
    EXPECT_TRUE(scene.links.up(kFaulty));
    check(now + std::chrono::seconds(32), Time{});
    expect_closed("has not arrived within 30s");
}

TEST_F(InvalidFrames, FramesOfUnpostedOperationsAreHeldUpToALimit) {
    const std::string payload(std::size_t{1} << 20, 'x');
    FrameHeader h = header(FrameKind::reduce_chunk);
    std::size_t sent = 0;
    for (; scene.links.up(kFaulty) && sent < 200; ++sent) {
        h.seq = static_cast<std::uint32_t>(sent);
        send(faulty(), h, payload);
    }
    EXPECT_LE(sent, wire::kMaxEagerHeld / payload.size() + 1);
    expect_closed("not posted here");
}

TEST_F(InvalidFrames, EarlyOpeningsAreFreedWithTheirOperations) {
    // Models a program that uses a new tag for every step, with a neighbour that always calls first.
    wire::Bytes encoded;
    wire::Writer write(encoded);
    ReduceRequest &request = post();
    write(request.spec);
    FrameHeader h = header(FrameKind::op_open);
    for (std::uint64_t tag = 100; tag < 110; ++tag) {
        h.tag = tag;
        send(faulty(), h, {reinterpret_cast<const char *>(encoded.data()), encoded.size()});
        send(faulty(), h, {reinterpret_cast<const char *>(encoded.data()), encoded.size()});
    }
    EXPECT_EQ(scene.links.up(kFaulty)->eager_credit().frames_held(), 10u);
    scene.engine.end({ViewNumber{kEpoch}, Tag{7}, 0}, true);
    for (std::uint64_t tag = 100; tag < 110; ++tag) {
        const OpId id{ViewNumber{kEpoch}, Tag{tag}, 0};
        scene.engine.start(id, request);
        scene.engine.end(id, true);
    }
    EXPECT_EQ(scene.links.up(kFaulty)->eager_credit().frames_held(), 0u);
}

TEST_F(InvalidFrames, PeerThatRequestsWithoutReadingIsGivenUp) {
    FrameHeader h = header(FrameKind::state_ask_list);
    std::size_t asked = 0;
    for (; scene.links.up(kFaulty) && asked < 2'000'000; ++asked) {
        LinkScene::send(faulty(), h, std::string(16, '\0'));
        if (asked % 2000 != 0) continue;
        while (!faulty().outbox.empty()) {  // writes without reading the replies
            const ssize_t sent = ::send(faulty().fd, faulty().outbox.data(), faulty().outbox.size(), MSG_NOSIGNAL);
            if (sent > 0) faulty().outbox.erase(0, static_cast<std::size_t>(sent));
            scene.turn();
            if (sent < 0 && errno != EAGAIN) faulty().outbox.clear();
        }
    }
    EXPECT_LT(asked, 2'000'000u);
    expect_closed("MiB of replies are unread");
}

/// Shared state of two chunks. The elected content is all 'b'; this peer holds 'a'.
class InvalidState : public InvalidFrames {
protected:
    static constexpr std::size_t kBytes = 2 * kernel::kHashChunkBytes;
    const std::string elected = std::string(kBytes, 'b');
    std::string mine = std::string(kBytes, 'a');
    const std::vector<std::uint64_t> list = kernel::chunk_checksums(elected.data(), kBytes);
    std::shared_ptr<SyncSession> session = std::make_shared<SyncSession>();

    void offer() {
        auto sums = kernel::chunk_checksums(mine.data(), kBytes);
        const auto hash = kernel::content_hash(sums);
        session->tensors.push_back({{mine.data(), kBytes}, std::move(sums), hash});
        scene.transfer.offer(session);
    }
    void pull(std::uint64_t sync, const std::vector<std::uint64_t> &wanted) {
        wire::SyncPlan plan;
        plan.sync = sync;
        plan.in_place = true;
        plan.pull = {{0, kernel::content_hash(wanted).bytes, {kFaulty, kCorrect}}};
        scene.pulled.reset();
        scene.transfer.pull(plan);
        scene.turn();
    }
    FrameHeader state_header(FrameKind kind, std::uint32_t chunk, std::uint64_t sync = 1) {
        FrameHeader h;
        h.kind = kind;
        h.epoch = sync;
        h.aux = chunk;
        return h;
    }
    void send_list(Remote &from, const std::vector<std::uint64_t> &words, std::uint64_t sync = 1) {
        send(from, state_header(FrameKind::state_list, 0, sync),
             {reinterpret_cast<const char *>(words.data()), words.size() * 8});
    }
    void send_chunk(Remote &from, std::uint32_t chunk, char fill, std::uint64_t sync = 1) {
        send(from, state_header(FrameKind::state_chunk, chunk, sync), std::string(kernel::kHashChunkBytes, fill));
    }
};

TEST_F(InvalidState, WrongChunkIsRequestedFromAnotherHolder) {
    offer();
    pull(1, list);
    send_list(faulty(), list);
    send_chunk(faulty(), 0, 'x');
    send_chunk(faulty(), 0, 'x');  // the path may have damaged the first one
    EXPECT_FALSE(scene.pulled);
    send_chunk(correct(), 0, 'b');
    send_chunk(correct(), 1, 'b');
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    EXPECT_EQ(mine, elected);
}

TEST_F(InvalidState, WrongListIsRequestedFromAnotherHolder) {
    offer();
    pull(1, list);
    auto wrong = list;
    wrong[1] ^= 1;
    send_list(faulty(), wrong);
    send_list(correct(), list);
    send_chunk(correct(), 0, 'b');
    send_chunk(correct(), 1, 'b');
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    EXPECT_EQ(mine, elected);
}

TEST_F(InvalidState, LateChunkDoesNotOverwriteACorrectOne) {
    offer();
    Remote &second = lane_of(kFaulty);
    pull(1, list);
    send_list(faulty(), list);
    // Half of a wrong chunk has arrived over one lane when a refusal arrives over the other lane.
    LinkScene::send(second, state_header(FrameKind::state_chunk, 0), std::string(kernel::kHashChunkBytes, 'x'));
    scene.deliver(second, kernel::kHashChunkBytes / 2);
    send(faulty(), state_header(FrameKind::state_refuse, 0), {});
    send_chunk(correct(), 0, 'b');
    send_chunk(correct(), 1, 'b');
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    scene.deliver(second, SIZE_MAX);
    EXPECT_TRUE(mine == elected) << "the rest of the wrong chunk was written";
}

TEST_F(InvalidState, ChunkThatArrivesTwiceIsReceivedOnce) {
    offer();
    Remote &second = lane_of(kFaulty);
    pull(1, list);
    send_list(faulty(), list);
    LinkScene::send(second, state_header(FrameKind::state_chunk, 1), std::string(kernel::kHashChunkBytes, 'x'));
    scene.deliver(second, kernel::kHashChunkBytes / 2);
    send_chunk(faulty(), 1, 'b');  // drained, because the first one is still arriving
    send_chunk(faulty(), 0, 'b');
    EXPECT_FALSE(scene.pulled);
    scene.deliver(second, SIZE_MAX);  // the rest of the wrong chunk
    send_chunk(correct(), 1, 'b');
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    EXPECT_TRUE(mine == elected);
}

TEST_F(InvalidState, PartlyOverwrittenContentIsPulledAgain) {
    const auto old = kernel::chunk_checksums(mine.data(), kBytes);
    const std::string before = mine;
    offer();
    pull(1, list);
    send_list(faulty(), list);
    LinkScene::send(faulty(), state_header(FrameKind::state_chunk, 0), std::string(kernel::kHashChunkBytes, 'b'));
    scene.deliver(faulty(), kernel::kHashChunkBytes / 2);
    // After a loss, a new election chooses the content that this peer had.
    pull(2, old);
    send_list(faulty(), old, 2);
    EXPECT_FALSE(scene.pulled) << "a partly overwritten chunk counts as complete";
    send_chunk(faulty(), 0, 'a', 2);
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    EXPECT_TRUE(mine == before);
}

}  // namespace
}  // namespace pccl::fuzz

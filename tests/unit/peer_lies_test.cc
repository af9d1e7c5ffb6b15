// A peer that is who it says, and lies: over its data lanes it sends what cannot be. That connection ends with words that say
// why, and the links to others, the callers' buffers and the memory of this process are unaffected.
#include "fuzz/link_scene.h"

#include <gtest/gtest.h>

#include "base/log.h"

namespace pccl::fuzz {
namespace {

constexpr PeerId kLiar{2}, kHonest{3};
constexpr std::uint64_t kEpoch = 5;

class Lies : public ::testing::Test {
protected:
    static void SetUpTestSuite() { set_log_level(LogLevel::off); }

    Lies() {
        for (const PeerId other : {kLiar, kHonest}) {
            scene.expect_link(other);
            Remote &remote = scene.connect(other);
            scene.greet(remote, 1, other);
            scene.deliver(remote, SIZE_MAX);
        }
        scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kLiar, kHonest}, 0, true, {}, {}}, kSelf);
        scene.turn();
    }

    Remote &liar() { return scene.remotes[0]; }
    Remote &honest() { return scene.remotes[1]; }
    /// A further lane of the same link.
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
    void tell(Remote &from, const FrameHeader &h, const std::string &payload, std::uint64_t damage = 0,
              std::uint64_t header_damage = 0) {
        LinkScene::send(from, h, payload, damage, header_damage);
        scene.deliver(from, SIZE_MAX);
    }
    /// The liar's link ended, for a reason with these words, and the other's did not.
    void expect_closed(const std::string &words) {
        scene.turn();
        ASSERT_EQ(scene.downs[kLiar].size(), 1u);
        EXPECT_NE(scene.downs[kLiar][0].find(words), std::string::npos) << scene.downs[kLiar][0];
        EXPECT_FALSE(scene.links.up(kLiar));
        EXPECT_TRUE(scene.downs[kHonest].empty());
        EXPECT_TRUE(scene.links.up(kHonest));
    }
    /// An operation in a ring of three: chunks come from the honest one, who is the predecessor.
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

TEST_F(Lies, AWrongChecksumOfAHeader) {
    tell(liar(), header(FrameKind::op_open), "abc", 0, 1);
    expect_closed("header with a wrong checksum");
}

TEST_F(Lies, AWrongChecksumOfAPayload) {
    tell(liar(), header(FrameKind::op_open), "abc", 1);
    expect_closed("wrong checksum");
}

TEST_F(Lies, ALengthBeyondTheLimit) {
    FrameHeader h = header(FrameKind::reduce_chunk);
    h.bytes = wire::kMaxChunkBytes + 1;
    h.header_checksum = kernel::checksum(&h, wire::kHeaderChecked);
    liar().outbox.assign(reinterpret_cast<const char *>(&h), sizeof h);
    scene.deliver(liar(), SIZE_MAX);
    expect_closed("beyond the limit");
}

TEST_F(Lies, AChunkFromWhoIsNotThePredecessor) {
    post();
    tell(liar(), chunk_header(FrameKind::reduce_chunk), std::string(4096, '\0'));
    expect_closed("not the predecessor");
}

TEST_F(Lies, AnOpeningOrAChunkFromWhoIsNoMember) {
    scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kHonest}, 0, true, {}, {}}, kSelf);
    tell(liar(), header(FrameKind::op_open), "abc");
    expect_closed("not a member");
}

TEST_F(Lies, AChunkThatDoesNotExist) {
    scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kHonest, kLiar}, 0, true, {}, {}}, kSelf);
    post();
    FrameHeader h = chunk_header(FrameKind::reduce_chunk);
    h.index = 99;
    tell(liar(), h, std::string(4096, '\0'));
    expect_closed("does not exist");
}

TEST_F(Lies, AChunkOfTheWrongLengthTouchesNoBuffer) {
    scene.engine.start_epoch({ViewNumber{kEpoch}, {kSelf, kHonest, kLiar}, 0, true, {}, {}}, kSelf);
    post();
    FrameHeader h = chunk_header(FrameKind::reduce_chunk);
    h.index = 1;  // what the predecessor contributes first goes to block 1
    tell(liar(), h, std::string(4, '\0'));
    expect_closed("wrong length");
    EXPECT_EQ(buffer_, std::vector<float>(3000, 1.0f));
}

TEST_F(Lies, AGreetingInTheMiddleOrAnAcceptOutOfPlace) {
    tell(liar(), header(FrameKind::link_accept), "");
    expect_closed("out of place");
}

TEST_F(Lies, ItComesUnderAnothersName) {
    for (const std::uint32_t attempt : {0u, 1u}) {
        Remote &stranger = scene.connect(kLiar);
        wire::Bytes payload;
        wire::Writer write(payload);
        Secret guessed = kToken;
        guessed[15] ^= 1;
        write(wire::LinkHello{kRun, kHonest, kSelf, attempt, guessed});
        tell(stranger, header(FrameKind::link_hello), {reinterpret_cast<const char *>(payload.data()), payload.size()});
        char byte = 0;
        EXPECT_EQ(::recv(stranger.fd, &byte, 1, 0), 0) << "not closed";
    }
    EXPECT_TRUE(scene.links.up(kHonest));
    EXPECT_TRUE(scene.downs.empty());
}

TEST_F(Lies, AViewThatNeverComesIsWaitedForOnlySoLong) {
    FrameHeader h = header(FrameKind::op_open);
    h.epoch = kEpoch + 1000;
    tell(liar(), h, "abc");
    const auto check = [&](Time now, Time master_since) {
        scene.links.for_each([&](Link &link) { link.check_held(now, master_since); });
        scene.turn();
    };
    const Time now = monotonic_now();
    check(now + std::chrono::seconds(29), Time{});
    EXPECT_TRUE(scene.links.up(kLiar));
    check(now + std::chrono::seconds(60), now + std::chrono::seconds(40));  // the master was away meanwhile
    EXPECT_TRUE(scene.links.up(kLiar));
    check(now + std::chrono::seconds(32), Time{});
    expect_closed("a view that does not come");
}

TEST_F(Lies, OperationsThatNobodyPostsAreHeldUpToALimit) {
    const std::string payload(std::size_t{1} << 20, 'x');
    FrameHeader h = header(FrameKind::reduce_chunk);
    std::size_t sent = 0;
    for (; scene.links.up(kLiar) && sent < 200; ++sent) {
        h.seq = static_cast<std::uint32_t>(sent);
        tell(liar(), h, payload);
    }
    EXPECT_LE(sent, wire::kMaxEagerHeld / payload.size() + 1);
    expect_closed("not posted here");
}

TEST_F(Lies, OpeningsThatCameEarlyAreForgottenWithTheirOperations) {
    // As a program does that uses a fresh tag for each of very many steps, with a neighbour that is always the first to call.
    wire::Bytes encoded;
    wire::Writer write(encoded);
    ReduceRequest &request = post();
    write(request.spec);
    FrameHeader h = header(FrameKind::op_open);
    for (std::uint64_t tag = 100; tag < 110; ++tag) {
        h.tag = tag;
        tell(liar(), h, {reinterpret_cast<const char *>(encoded.data()), encoded.size()});
        tell(liar(), h, {reinterpret_cast<const char *>(encoded.data()), encoded.size()});
    }
    EXPECT_EQ(scene.links.up(kLiar)->eager_credit().frames_held(), 10u);
    scene.engine.end({ViewNumber{kEpoch}, Tag{7}, 0}, true);
    for (std::uint64_t tag = 100; tag < 110; ++tag) {
        const OpId id{ViewNumber{kEpoch}, Tag{tag}, 0};
        scene.engine.start(id, request);
        scene.engine.end(id, true);
    }
    EXPECT_EQ(scene.links.up(kLiar)->eager_credit().frames_held(), 0u);
}

TEST_F(Lies, WhoAsksAndNeverReadsIsGivenUp) {
    FrameHeader h = header(FrameKind::state_ask_list);
    std::size_t asked = 0;
    for (; scene.links.up(kLiar) && asked < 2'000'000; ++asked) {
        LinkScene::send(liar(), h, std::string(16, '\0'));
        if (asked % 2000 != 0) continue;
        while (!liar().outbox.empty()) {  // written without reading what comes back
            const ssize_t sent = ::send(liar().fd, liar().outbox.data(), liar().outbox.size(), MSG_NOSIGNAL);
            if (sent > 0) liar().outbox.erase(0, static_cast<std::size_t>(sent));
            scene.turn();
            if (sent < 0 && errno != EAGAIN) liar().outbox.clear();
        }
    }
    EXPECT_LT(asked, 2'000'000u);
    expect_closed("asks for more than it reads");
}

/// Shared state of two chunks, elected content all 'b', while this peer holds 'a'.
class StateLies : public Lies {
protected:
    static constexpr std::size_t kBytes = 2 * kernel::kHashChunkBytes;
    const std::string truth = std::string(kBytes, 'b');
    std::string mine = std::string(kBytes, 'a');
    const std::vector<std::uint64_t> list = kernel::chunk_checksums(truth.data(), kBytes);
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
        plan.pull = {{0, kernel::content_hash(wanted).bytes, {kLiar, kHonest}}};
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
    void give_list(Remote &from, const std::vector<std::uint64_t> &words, std::uint64_t sync = 1) {
        tell(from, state_header(FrameKind::state_list, 0, sync),
             {reinterpret_cast<const char *>(words.data()), words.size() * 8});
    }
    void give_chunk(Remote &from, std::uint32_t chunk, char fill, std::uint64_t sync = 1) {
        tell(from, state_header(FrameKind::state_chunk, chunk, sync), std::string(kernel::kHashChunkBytes, fill));
    }
};

TEST_F(StateLies, WrongBytesAreNoticedAndAskedForElsewhere) {
    offer();
    pull(1, list);
    give_list(liar(), list);
    give_chunk(liar(), 0, 'x');
    give_chunk(liar(), 0, 'x');  // once may have been the path's fault
    EXPECT_FALSE(scene.pulled);
    give_chunk(honest(), 0, 'b');
    give_chunk(honest(), 1, 'b');
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    EXPECT_EQ(mine, truth);
}

TEST_F(StateLies, AFalseListIsNoticedAndAskedForElsewhere) {
    offer();
    pull(1, list);
    auto wrong = list;
    wrong[1] ^= 1;
    give_list(liar(), wrong);
    give_list(honest(), list);
    give_chunk(honest(), 0, 'b');
    give_chunk(honest(), 1, 'b');
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    EXPECT_EQ(mine, truth);
}

TEST_F(StateLies, WhatALiarHasOnItsWayDoesNotOverwriteWhatAnotherGave) {
    offer();
    Remote &second = lane_of(kLiar);
    pull(1, list);
    give_list(liar(), list);
    // Half of a false chunk is here, over one lane, when the other lane brings a refusal.
    LinkScene::send(second, state_header(FrameKind::state_chunk, 0), std::string(kernel::kHashChunkBytes, 'x'));
    scene.deliver(second, kernel::kHashChunkBytes / 2);
    tell(liar(), state_header(FrameKind::state_refuse, 0), {});
    give_chunk(honest(), 0, 'b');
    give_chunk(honest(), 1, 'b');
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    scene.deliver(second, SIZE_MAX);
    EXPECT_TRUE(mine == truth) << "the rest of the false chunk was written";
}

TEST_F(StateLies, AChunkThatComesTwiceAtOnceIsTakenOnce) {
    offer();
    Remote &second = lane_of(kLiar);
    pull(1, list);
    give_list(liar(), list);
    LinkScene::send(second, state_header(FrameKind::state_chunk, 1), std::string(kernel::kHashChunkBytes, 'x'));
    scene.deliver(second, kernel::kHashChunkBytes / 2);
    give_chunk(liar(), 1, 'b');  // drained: the first is on its way
    give_chunk(liar(), 0, 'b');
    EXPECT_FALSE(scene.pulled);
    scene.deliver(second, SIZE_MAX);  // false
    give_chunk(honest(), 1, 'b');
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    EXPECT_TRUE(mine == truth);
}

TEST_F(StateLies, ContentThatAnEarlierPlanHalfOverwroteIsNotTakenForWhatItWas) {
    const auto old = kernel::chunk_checksums(mine.data(), kBytes);
    const std::string before = mine;
    offer();
    pull(1, list);
    give_list(liar(), list);
    LinkScene::send(liar(), state_header(FrameKind::state_chunk, 0), std::string(kernel::kHashChunkBytes, 'b'));
    scene.deliver(liar(), kernel::kHashChunkBytes / 2);
    // A loss: elected again, and now it is the content that this peer had.
    pull(2, old);
    give_list(liar(), old, 2);
    EXPECT_FALSE(scene.pulled) << "the half that was overwritten counts as whole";
    give_chunk(liar(), 0, 'a', 2);
    ASSERT_TRUE(scene.pulled && scene.pulled->second);
    EXPECT_TRUE(mine == before);
}

}  // namespace
}  // namespace pccl::fuzz

// Messages between peers over real links: what goes with the offer and what waits for room, what a full mailbox holds up and what not,
// and what comes from peers that lie.
#include "fuzz/link_scene.h"

#include <gtest/gtest.h>

#include "base/log.h"

namespace pccl::fuzz {
namespace {

constexpr PeerId kOther{2}, kThird{3};
constexpr std::uint64_t kChunk = 4096;

class ExchangeTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() { set_log_level(LogLevel::off); }

    ExchangeTest() {
        for (const PeerId other : {kOther, kThird}) connect(other);
        scene.exchange.set_members({kSelf, kOther, kThird});
    }
    Remote &connect(PeerId other) {
        scene.expect_link(other);
        Remote &remote = scene.connect(other);
        scene.greet(remote, scene.attempts[other], other);
        scene.deliver(remote, SIZE_MAX);
        FrameHeader accepted;
        std::string payload;
        scene.receive(remote);
        EXPECT_TRUE(scene.next_frame(remote, accepted, payload));
        return remotes[other] = &remote, remote;
    }
    Remote &of(PeerId other) { return *remotes.at(other); }

    static FrameHeader header(FrameKind kind, std::uint64_t number, std::uint64_t aux = 0, std::uint64_t bytes = 0) {
        FrameHeader h;
        h.kind = kind;
        h.epoch = number;
        h.tag = 7;
        h.aux = static_cast<std::uint32_t>(aux);
        h.offset = bytes;
        return h;
    }
    void tell(PeerId from, const FrameHeader &h, const std::string &payload = "") {
        LinkScene::send(of(from), h, payload);
        scene.deliver(of(from), SIZE_MAX);
    }
    void offer(PeerId from, std::uint64_t number, std::uint64_t bytes) { tell(from, header(FrameKind::post_offer, number, kChunk, bytes)); }
    /// The next frame that the peer sent to that one, which must be of this kind.
    FrameHeader expect(PeerId at, FrameKind kind) {
        FrameHeader h;
        scene.receive(of(at));
        EXPECT_TRUE(scene.next_frame(of(at), h, said)) << "nothing was said";
        EXPECT_EQ(static_cast<int>(h.kind), static_cast<int>(kind));
        return h;
    }
    bool silent(PeerId at) {
        scene.receive(of(at));
        return of(at).inbox.empty();
    }
    PostPtr post(PeerId to, const std::string &text) {
        const std::string &data = kept_.emplace_back(text);
        auto post = std::make_shared<Post>();
        post->to = to;
        post->tag = Tag{7};
        post->data = reinterpret_cast<const std::byte *>(data.data());
        post->bytes = data.size();
        scene.exchange.post(post);
        scene.turn();
        return post;
    }
    pcclResult_t outcome(Post &post) { return scene.office.await(post, Time{}).code(); }
    std::string take() {
        Message message;
        if (!scene.office.take(Tag{7}, SIZE_MAX, Time{}, message)) return "nothing";
        scene.exchange.room_made();
        return {reinterpret_cast<const char *>(message.data.get()), message.bytes};
    }
    /// The liar's link ended, with these words, and nobody else's did.
    void expect_closed(const std::string &words) {
        scene.turn();
        ASSERT_EQ(scene.downs[kOther].size(), 1u);
        EXPECT_NE(scene.downs[kOther][0].find(words), std::string::npos) << scene.downs[kOther][0];
        EXPECT_TRUE(scene.downs[kThird].empty());
        EXPECT_EQ(take(), "nothing");
    }

    std::map<PeerId, Remote *> remotes;
    std::string said;
    std::deque<std::string> kept_;  ///< what posts were made of; outlives the scene
    LinkScene scene;
};

TEST_F(ExchangeTest, ASmallMessageGoesWithItsOffer) {
    const auto sent = post(kOther, "hello");
    const auto offered = expect(kOther, FrameKind::post_offer);
    EXPECT_EQ(said, "hello");
    EXPECT_EQ(offered.offset, 5u);
    EXPECT_EQ(outcome(*sent), pcclTimeout);
    tell(kOther, header(FrameKind::post_end, offered.epoch));
    EXPECT_EQ(outcome(*sent), pcclSuccess);

    tell(kOther, header(FrameKind::post_offer, 1, kChunk, 3), "you");
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), "you");
}

TEST_F(ExchangeTest, ChunksOfAMessageTravelCompressedAndAreTakenSo) {
    constexpr PeerId kFourth{4};
    scene.options.compression = Compression::on;
    connect(kFourth);
    scene.exchange.set_members({kSelf, kOther, kThird, kFourth});
    std::string data(600'000, '?');  // as float32, of the same size roughly
    for (std::size_t i = 0; i < data.size(); ++i)
        if (i % 4 < 3) data[i] = static_cast<char>(i * i % 251);
    const auto sent = post(kFourth, data);
    const auto offered = expect(kFourth, FrameKind::post_offer);
    tell(kOther, header(FrameKind::post_offer, 1, offered.aux, data.size()));  // what goes to one comes back from another, as it came
    expect(kOther, FrameKind::post_grant);
    tell(kFourth, header(FrameKind::post_grant, offered.epoch));
    for (std::size_t i = 0; i * offered.aux < data.size(); ++i) {
        const auto chunk = expect(kFourth, FrameKind::post_chunk);
        EXPECT_EQ(chunk.planes, 4);
        EXPECT_LT(chunk.bytes, std::min<std::size_t>(offered.aux, data.size() - i * offered.aux));
        FrameHeader back = header(FrameKind::post_chunk, 1, chunk.aux);
        back.planes = chunk.planes;
        tell(kOther, back, said);
    }
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), data);
}

TEST_F(ExchangeTest, ALargeMessageWaitsForRoom) {
    const std::string data(600'000, 'x');
    const auto sent = post(kOther, data);
    const auto offered = expect(kOther, FrameKind::post_offer);
    EXPECT_EQ(said, "");
    EXPECT_TRUE(silent(kOther));
    tell(kOther, header(FrameKind::post_grant, offered.epoch));
    std::string whole(data.size(), '\0');
    for (std::size_t i = 0; i * offered.aux < data.size(); ++i) {
        const auto part = expect(kOther, FrameKind::post_chunk);
        whole.replace(std::size_t{part.aux} * offered.aux, said.size(), said);
    }
    EXPECT_EQ(whole, data);
    tell(kOther, header(FrameKind::post_end, offered.epoch));
    EXPECT_EQ(outcome(*sent), pcclSuccess);
}

TEST_F(ExchangeTest, PartsMayComeInAnyOrder) {
    offer(kOther, 1, 2 * kChunk + 1);
    expect(kOther, FrameKind::post_grant);
    tell(kOther, header(FrameKind::post_chunk, 1, 2), "c");
    tell(kOther, header(FrameKind::post_chunk, 1, 0), std::string(kChunk, 'a'));
    EXPECT_TRUE(silent(kOther));
    EXPECT_EQ(take(), "nothing");
    tell(kOther, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'b'));
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), std::string(kChunk, 'a') + std::string(kChunk, 'b') + "c");
}

TEST_F(ExchangeTest, AFullMailboxMakesSendersWaitAndNothingElse) {
    scene.office.set_limits({3 * kChunk, 10});
    tell(kOther, header(FrameKind::post_offer, 1, kChunk, 2 * kChunk), std::string(2 * kChunk, 'a'));
    expect(kOther, FrameKind::post_end);
    tell(kThird, header(FrameKind::post_offer, 1, kChunk, 2 * kChunk), std::string(2 * kChunk, 'b'));
    EXPECT_TRUE(silent(kThird));
    const auto other_way = post(kThird, "meanwhile");
    expect(kThird, FrameKind::post_offer);
    EXPECT_EQ(take(), std::string(2 * kChunk, 'a'));
    expect(kThird, FrameKind::post_grant);
    tell(kThird, header(FrameKind::post_chunk, 1, 0), std::string(kChunk, 'b'));
    tell(kThird, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'b'));
    EXPECT_EQ(expect(kThird, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), std::string(2 * kChunk, 'b'));
}

TEST_F(ExchangeTest, TheNumberOfMessagesIsBoundedToo) {
    scene.office.set_limits({1000, 1});
    tell(kOther, header(FrameKind::post_offer, 1, kChunk, 0));
    expect(kOther, FrameKind::post_end);
    tell(kThird, header(FrameKind::post_offer, 1, kChunk, 0));
    EXPECT_TRUE(silent(kThird));
    EXPECT_EQ(take(), "");
    expect(kThird, FrameKind::post_end);
}

TEST_F(ExchangeTest, OneThatNeverFitsIsRefused) {
    scene.office.set_limits({kChunk, 10});
    offer(kOther, 1, kChunk + 1);
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, static_cast<unsigned>(protocol::PostEnd::too_large));
    const auto sent = post(kOther, "a");
    const auto offered = expect(kOther, FrameKind::post_offer);
    tell(kOther, header(FrameKind::post_end, offered.epoch, static_cast<unsigned>(protocol::PostEnd::too_large)));
    EXPECT_EQ(outcome(*sent), pcclInvalidArgument);
}

TEST_F(ExchangeTest, APartialMessageGoesWithItsLinkAndItsRoomIsAnothers) {
    scene.office.set_limits({2 * kChunk, 10});
    offer(kOther, 1, 2 * kChunk);
    expect(kOther, FrameKind::post_grant);
    tell(kOther, header(FrameKind::post_chunk, 1, 0), std::string(kChunk, 'a'));
    offer(kThird, 1, 2 * kChunk);
    EXPECT_TRUE(silent(kThird));
    LinkScene::close(of(kOther));
    scene.turn();
    expect(kThird, FrameKind::post_grant);
}

TEST_F(ExchangeTest, OverTheNextLinkItIsToldWhatBecameOfIt) {
    tell(kOther, header(FrameKind::post_offer, 1, kChunk, 1), "a");
    connect(kOther);
    tell(kOther, header(FrameKind::post_offer, 1, kChunk, 1), "a");
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), "a");
    EXPECT_EQ(take(), "nothing");
}

TEST_F(ExchangeTest, OverTheNextLinkItIsOfferedAgain) {
    const auto sent = post(kOther, "a");
    const auto first = expect(kOther, FrameKind::post_offer);
    connect(kOther);
    EXPECT_EQ(outcome(*sent), pcclTimeout);
    EXPECT_EQ(expect(kOther, FrameKind::post_offer).epoch, first.epoch);
    tell(kOther, header(FrameKind::post_end, first.epoch));
    EXPECT_EQ(outcome(*sent), pcclSuccess);
}

TEST_F(ExchangeTest, AfterItsTimeItIsWithdrawn) {
    const std::string data(100'000, 'x');
    auto sent = std::make_shared<Post>();
    sent->to = kOther;
    sent->data = reinterpret_cast<const std::byte *>(data.data());
    sent->bytes = data.size();
    sent->deadline = Time{};
    scene.exchange.post(sent);
    const auto offered = expect(kOther, FrameKind::post_offer);
    scene.exchange.tick(Time{});
    EXPECT_EQ(expect(kOther, FrameKind::post_withdraw).epoch, offered.epoch);
    EXPECT_EQ(outcome(*sent), pcclTimeout);
    tell(kOther, header(FrameKind::post_end, offered.epoch, static_cast<unsigned>(protocol::PostEnd::withdrawn)));
    EXPECT_EQ(outcome(*sent), pcclRankConnectionFailed);

    offer(kOther, 1, 2 * kChunk);
    expect(kOther, FrameKind::post_grant);
    tell(kOther, header(FrameKind::post_chunk, 1, 0), std::string(kChunk, 'a'));
    tell(kOther, header(FrameKind::post_withdraw, 1));
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, static_cast<unsigned>(protocol::PostEnd::withdrawn));
    tell(kOther, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'a'));
    EXPECT_EQ(take(), "nothing");
}

TEST_F(ExchangeTest, WhatWhoIsGoneMayHaveReceivedCountsAsDelivered) {
    const auto whole = post(kOther, "a"), behind_it = post(kOther, "b"), offered = post(kThird, std::string(2 * wire::kMaxInlineMessage, 'c'));
    scene.lose(kOther);
    scene.lose(kThird);
    EXPECT_EQ(outcome(*whole), pcclSuccess);
    EXPECT_EQ(outcome(*behind_it), pcclRankConnectionLost);
    EXPECT_EQ(outcome(*offered), pcclRankConnectionLost);
    EXPECT_EQ(outcome(*post(kOther, "c")), pcclRankConnectionLost);
}

TEST_F(ExchangeTest, WhatWasWholeIsReceivedFromWhoIsGone) {
    tell(kOther, header(FrameKind::post_offer, 1, kChunk, 1), "a");
    scene.lose(kOther);
    EXPECT_EQ(take(), "a");
}

TEST_F(ExchangeTest, TheEndOfTheMembershipEndsAllPostsAndEmptiesTheMailbox) {
    tell(kOther, header(FrameKind::post_offer, 1, kChunk, 1), "a");
    const auto sent = post(kOther, "b");
    scene.exchange.end(pcclMasterConnectionFailed, "gone");
    EXPECT_EQ(outcome(*sent), pcclMasterConnectionFailed);
    Message message;
    EXPECT_EQ(scene.office.take(Tag{7}, SIZE_MAX, std::nullopt, message).code(), pcclMasterConnectionFailed);
}

TEST_F(ExchangeTest, AnOfferWithAFalseLength) {
    tell(kOther, header(FrameKind::post_offer, 1, kChunk, 100), "abc");
    expect_closed("with another length");
}
TEST_F(ExchangeTest, AnOfferInTooManyChunks) {
    offer(kOther, 1, UINT64_MAX);
    expect_closed("too many chunks");
}
TEST_F(ExchangeTest, AnOfferInNoChunks) {
    tell(kOther, header(FrameKind::post_offer, 1, 0, 100));
    expect_closed("too many chunks");
}
TEST_F(ExchangeTest, TwoOffersAtOnce) {
    offer(kOther, 1, 100'000);
    offer(kOther, 2, 100'000);
    expect_closed("before the last one was over");
}
TEST_F(ExchangeTest, APartWithoutRoom) {
    tell(kOther, header(FrameKind::post_chunk, 1, 0), "abc");
    expect_closed("no room for");
}
TEST_F(ExchangeTest, APartThatDoesNotExist) {
    offer(kOther, 1, 2 * kChunk);
    tell(kOther, header(FrameKind::post_chunk, 1, 2), "abc");
    expect_closed("does not exist");
}
TEST_F(ExchangeTest, APartOfTheWrongLength) {
    offer(kOther, 1, 2 * kChunk);
    tell(kOther, header(FrameKind::post_chunk, 1, 1), "abc");
    expect_closed("wrong length");
}
TEST_F(ExchangeTest, APartThatComesTwice) {
    offer(kOther, 1, 2 * kChunk);
    tell(kOther, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'a'));
    tell(kOther, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'b'));
    expect_closed("came before");
}
TEST_F(ExchangeTest, RoomForWhatWasNotOffered) {
    tell(kOther, header(FrameKind::post_grant, 1));
    expect_closed("was not offered");
}
TEST_F(ExchangeTest, AnEndBeforeItWasSent) {
    const std::string data(100'000, 'x');
    const auto sent = post(kOther, data);
    tell(kOther, header(FrameKind::post_end, 1));
    expect_closed("cannot have had");
    EXPECT_EQ(outcome(*sent), pcclTimeout);
}
TEST_F(ExchangeTest, AnEndThatIsNone) {
    post(kOther, "a");
    tell(kOther, header(FrameKind::post_end, 1, protocol::kPostEnds));
    expect_closed("of no message");
}
TEST_F(ExchangeTest, AWordWithAPayload) {
    tell(kOther, header(FrameKind::post_withdraw, 1), "a");
    expect_closed("with a payload");
}

}  // namespace
}  // namespace pccl::fuzz

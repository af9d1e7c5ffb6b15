// Messages between peers over real links: small messages travel with their offer, larger ones wait for room, a full mailbox
// delays only its own senders, and invalid frames end the link.
#include "fuzz/link_scene.h"

#include <gtest/gtest.h>

#include "base/log.h"

namespace pccl::fuzz {
namespace {

constexpr PeerId kOther{2}, kThird{3};
constexpr std::uint64_t kChunk = 4096;

class MessageTransferTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() { set_log_level(LogLevel::off); }

    MessageTransferTest() {
        for (const PeerId other : {kOther, kThird})
            connect(other);
        scene.messages.set_members({kSelf, kOther, kThird});
    }
    Remote &connect(PeerId other) {
        scene.expect_link(other);
        Remote &remote = scene.connect(other);
        scene.greet(remote, scene.attempts[other], other);
        scene.deliver(remote, SIZE_MAX);
        FrameHeader accepted;
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
    void send(PeerId from, const FrameHeader &h, const std::string &bytes = "") {
        LinkScene::send(of(from), h, bytes);
        scene.deliver(of(from), SIZE_MAX);
    }
    void offer(PeerId from, std::uint64_t number, std::uint64_t bytes) {
        send(from, header(FrameKind::post_offer, number, kChunk, bytes));
    }
    /// Returns the next frame that was sent to `at`, which must be of this kind. Its payload is in `payload`.
    FrameHeader expect(PeerId at, FrameKind kind) {
        FrameHeader h;
        scene.receive(of(at));
        EXPECT_TRUE(scene.next_frame(of(at), h, payload)) << "no frame was sent";
        EXPECT_EQ(static_cast<int>(h.kind), static_cast<int>(kind));
        return h;
    }
    bool sent_nothing(PeerId at) {
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
        scene.messages.post(post);
        scene.turn();
        return post;
    }
    pcclResult_t outcome(Post &post) { return scene.office.await(post, Time{}).code(); }
    std::string take() {
        Message message;
        if (!scene.office.take(Tag{7}, SIZE_MAX, Time{}, message)) return "nothing";
        scene.messages.room_made();
        return {reinterpret_cast<const char *>(message.data.get()), message.bytes};
    }
    /// Only the link to kOther ended, with an error that contains `words`.
    void expect_closed(const std::string &words) {
        scene.turn();
        ASSERT_EQ(scene.downs[kOther].size(), 1u);
        EXPECT_NE(scene.downs[kOther][0].find(words), std::string::npos) << scene.downs[kOther][0];
        EXPECT_TRUE(scene.downs[kThird].empty());
        EXPECT_EQ(take(), "nothing");
    }

    std::map<PeerId, Remote *> remotes;
    std::string payload;
    std::deque<std::string> kept_;  ///< the data of posts; outlives the scene
    LinkScene scene;
};

TEST_F(MessageTransferTest, SmallMessageTravelsWithItsOffer) {
    const auto sent = post(kOther, "hello");
    const auto offered = expect(kOther, FrameKind::post_offer);
    EXPECT_EQ(payload, "hello");
    EXPECT_EQ(offered.offset, 5u);
    EXPECT_EQ(outcome(*sent), pcclTimeout);
    send(kOther, header(FrameKind::post_end, offered.epoch));
    EXPECT_EQ(outcome(*sent), pcclSuccess);

    send(kOther, header(FrameKind::post_offer, 1, kChunk, 3), "you");
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), "you");
}

TEST_F(MessageTransferTest, MessageChunksAreSentAndReceivedCompressed) {
    constexpr PeerId kFourth{4};
    scene.options.compression = Compression::on;
    connect(kFourth);
    scene.messages.set_members({kSelf, kOther, kThird, kFourth});
    std::string data(600'000, '?');  // float32 values of similar magnitude
    for (std::size_t i = 0; i < data.size(); ++i)
        if (i % 4 < 3) data[i] = static_cast<char>(i * i % 251);
    const auto sent = post(kFourth, data);
    const auto offered = expect(kFourth, FrameKind::post_offer);
    send(kOther, header(FrameKind::post_offer, 1, offered.aux,
                        data.size()));  // the chunks that go to kFourth come back unchanged from kOther
    expect(kOther, FrameKind::post_grant);
    send(kFourth, header(FrameKind::post_grant, offered.epoch));
    for (std::size_t i = 0; i * offered.aux < data.size(); ++i) {
        const auto chunk = expect(kFourth, FrameKind::post_chunk);
        EXPECT_EQ(chunk.planes, 4);
        EXPECT_LT(chunk.bytes, std::min<std::size_t>(offered.aux, data.size() - i * offered.aux));
        FrameHeader back = header(FrameKind::post_chunk, 1, chunk.aux);
        back.planes = chunk.planes;
        send(kOther, back, payload);
    }
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), data);
}

TEST_F(MessageTransferTest, LargeMessageWaitsForAGrant) {
    const std::string data(600'000, 'x');
    const auto sent = post(kOther, data);
    const auto offered = expect(kOther, FrameKind::post_offer);
    EXPECT_EQ(payload, "");
    EXPECT_TRUE(sent_nothing(kOther));
    send(kOther, header(FrameKind::post_grant, offered.epoch));
    std::string whole(data.size(), '\0');
    for (std::size_t i = 0; i * offered.aux < data.size(); ++i) {
        const auto part = expect(kOther, FrameKind::post_chunk);
        whole.replace(std::size_t{part.aux} * offered.aux, payload.size(), payload);
    }
    EXPECT_EQ(whole, data);
    send(kOther, header(FrameKind::post_end, offered.epoch));
    EXPECT_EQ(outcome(*sent), pcclSuccess);
}

TEST_F(MessageTransferTest, ChunksMayArriveInAnyOrder) {
    offer(kOther, 1, 2 * kChunk + 1);
    expect(kOther, FrameKind::post_grant);
    send(kOther, header(FrameKind::post_chunk, 1, 2), "c");
    send(kOther, header(FrameKind::post_chunk, 1, 0), std::string(kChunk, 'a'));
    EXPECT_TRUE(sent_nothing(kOther));
    EXPECT_EQ(take(), "nothing");
    send(kOther, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'b'));
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), std::string(kChunk, 'a') + std::string(kChunk, 'b') + "c");
}

TEST_F(MessageTransferTest, FullMailboxDelaysOnlyItsSenders) {
    scene.office.set_limits({3 * kChunk, 10});
    send(kOther, header(FrameKind::post_offer, 1, kChunk, 2 * kChunk), std::string(2 * kChunk, 'a'));
    expect(kOther, FrameKind::post_end);
    send(kThird, header(FrameKind::post_offer, 1, kChunk, 2 * kChunk), std::string(2 * kChunk, 'b'));
    EXPECT_TRUE(sent_nothing(kThird));
    const auto other_way = post(kThird, "meanwhile");
    expect(kThird, FrameKind::post_offer);
    EXPECT_EQ(take(), std::string(2 * kChunk, 'a'));
    expect(kThird, FrameKind::post_grant);
    send(kThird, header(FrameKind::post_chunk, 1, 0), std::string(kChunk, 'b'));
    send(kThird, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'b'));
    EXPECT_EQ(expect(kThird, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), std::string(2 * kChunk, 'b'));
}

TEST_F(MessageTransferTest, NumberOfMessagesIsBounded) {
    scene.office.set_limits({1000, 1});
    send(kOther, header(FrameKind::post_offer, 1, kChunk, 0));
    expect(kOther, FrameKind::post_end);
    send(kThird, header(FrameKind::post_offer, 1, kChunk, 0));
    EXPECT_TRUE(sent_nothing(kThird));
    EXPECT_EQ(take(), "");
    expect(kThird, FrameKind::post_end);
}

TEST_F(MessageTransferTest, MessageLargerThanTheMailboxIsRefused) {
    scene.office.set_limits({kChunk, 10});
    offer(kOther, 1, kChunk + 1);
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, static_cast<unsigned>(protocol::PostEnd::too_large));
    const auto sent = post(kOther, "a");
    const auto offered = expect(kOther, FrameKind::post_offer);
    send(kOther, header(FrameKind::post_end, offered.epoch, static_cast<unsigned>(protocol::PostEnd::too_large)));
    EXPECT_EQ(outcome(*sent), pcclInvalidArgument);
}

TEST_F(MessageTransferTest, PartialMessageReleasesItsRoomWhenItsLinkEnds) {
    scene.office.set_limits({2 * kChunk, 10});
    offer(kOther, 1, 2 * kChunk);
    expect(kOther, FrameKind::post_grant);
    send(kOther, header(FrameKind::post_chunk, 1, 0), std::string(kChunk, 'a'));
    offer(kThird, 1, 2 * kChunk);
    EXPECT_TRUE(sent_nothing(kThird));
    LinkScene::close(of(kOther));
    scene.turn();
    expect(kThird, FrameKind::post_grant);
}

TEST_F(MessageTransferTest, RepeatedOfferIsAnsweredOverTheNextLink) {
    send(kOther, header(FrameKind::post_offer, 1, kChunk, 1), "a");
    connect(kOther);
    send(kOther, header(FrameKind::post_offer, 1, kChunk, 1), "a");
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, 0u);
    EXPECT_EQ(take(), "a");
    EXPECT_EQ(take(), "nothing");
}

TEST_F(MessageTransferTest, UnansweredOfferIsRepeatedOverTheNextLink) {
    const auto sent = post(kOther, "a");
    const auto first = expect(kOther, FrameKind::post_offer);
    connect(kOther);
    EXPECT_EQ(outcome(*sent), pcclTimeout);
    EXPECT_EQ(expect(kOther, FrameKind::post_offer).epoch, first.epoch);
    send(kOther, header(FrameKind::post_end, first.epoch));
    EXPECT_EQ(outcome(*sent), pcclSuccess);
}

TEST_F(MessageTransferTest, MessageIsWithdrawnAtItsDeadline) {
    const std::string data(100'000, 'x');
    auto sent = std::make_shared<Post>();
    sent->to = kOther;
    sent->data = reinterpret_cast<const std::byte *>(data.data());
    sent->bytes = data.size();
    sent->deadline = Time{};
    scene.messages.post(sent);
    const auto offered = expect(kOther, FrameKind::post_offer);
    scene.messages.tick(Time{});
    EXPECT_EQ(expect(kOther, FrameKind::post_withdraw).epoch, offered.epoch);
    EXPECT_EQ(outcome(*sent), pcclTimeout);
    send(kOther, header(FrameKind::post_end, offered.epoch, static_cast<unsigned>(protocol::PostEnd::withdrawn)));
    EXPECT_EQ(outcome(*sent), pcclRankConnectionFailed);

    offer(kOther, 1, 2 * kChunk);
    expect(kOther, FrameKind::post_grant);
    send(kOther, header(FrameKind::post_chunk, 1, 0), std::string(kChunk, 'a'));
    send(kOther, header(FrameKind::post_withdraw, 1));
    EXPECT_EQ(expect(kOther, FrameKind::post_end).aux, static_cast<unsigned>(protocol::PostEnd::withdrawn));
    send(kOther, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'a'));
    EXPECT_EQ(take(), "nothing");
}

TEST_F(MessageTransferTest, MessageThatMayHaveArrivedCountsAsDelivered) {
    const auto whole = post(kOther, "a"), second = post(kOther, "b"),
               offered = post(kThird, std::string(2 * wire::kMaxInlineMessage, 'c'));
    scene.lose(kOther);
    scene.lose(kThird);
    EXPECT_EQ(outcome(*whole), pcclSuccess);
    EXPECT_EQ(outcome(*second), pcclRankConnectionLost);
    EXPECT_EQ(outcome(*offered), pcclRankConnectionLost);
    EXPECT_EQ(outcome(*post(kOther, "c")), pcclRankConnectionLost);
}

TEST_F(MessageTransferTest, CompleteMessageOfALostPeerIsReceived) {
    send(kOther, header(FrameKind::post_offer, 1, kChunk, 1), "a");
    scene.lose(kOther);
    EXPECT_EQ(take(), "a");
}

TEST_F(MessageTransferTest, EndOfMembershipEndsPostsAndEmptiesTheMailbox) {
    send(kOther, header(FrameKind::post_offer, 1, kChunk, 1), "a");
    const auto sent = post(kOther, "b");
    scene.messages.end(pcclMasterConnectionFailed, "gone");
    EXPECT_EQ(outcome(*sent), pcclMasterConnectionFailed);
    Message message;
    EXPECT_EQ(scene.office.take(Tag{7}, SIZE_MAX, std::nullopt, message).code(), pcclMasterConnectionFailed);
}

TEST_F(MessageTransferTest, OfferWithAWrongLengthEndsTheLink) {
    send(kOther, header(FrameKind::post_offer, 1, kChunk, 100), "abc");
    expect_closed("a payload of the wrong length");
}
TEST_F(MessageTransferTest, OfferInTooManyChunksEndsTheLink) {
    offer(kOther, 1, UINT64_MAX);
    expect_closed("too many chunks");
}
TEST_F(MessageTransferTest, OfferInEmptyChunksEndsTheLink) {
    send(kOther, header(FrameKind::post_offer, 1, 0, 100));
    expect_closed("too many chunks");
}
TEST_F(MessageTransferTest, SecondOfferBeforeTheFirstEndedEndsTheLink) {
    offer(kOther, 1, 100'000);
    offer(kOther, 2, 100'000);
    expect_closed("before the last one ended");
}
TEST_F(MessageTransferTest, ChunkWithoutAGrantEndsTheLink) {
    send(kOther, header(FrameKind::post_chunk, 1, 0), "abc");
    expect_closed("without a grant");
}
TEST_F(MessageTransferTest, ChunkThatDoesNotExistEndsTheLink) {
    offer(kOther, 1, 2 * kChunk);
    send(kOther, header(FrameKind::post_chunk, 1, 2), "abc");
    expect_closed("does not exist");
}
TEST_F(MessageTransferTest, ChunkOfTheWrongLengthEndsTheLink) {
    offer(kOther, 1, 2 * kChunk);
    send(kOther, header(FrameKind::post_chunk, 1, 1), "abc");
    expect_closed("wrong length");
}
TEST_F(MessageTransferTest, ChunkThatArrivesTwiceEndsTheLink) {
    offer(kOther, 1, 2 * kChunk);
    send(kOther, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'a'));
    send(kOther, header(FrameKind::post_chunk, 1, 1), std::string(kChunk, 'b'));
    expect_closed("arrived before");
}
TEST_F(MessageTransferTest, GrantWithoutAnOfferEndsTheLink) {
    send(kOther, header(FrameKind::post_grant, 1));
    expect_closed("was not offered");
}
TEST_F(MessageTransferTest, EndOfAMessageThatWasNotSentEndsTheLink) {
    const std::string data(100'000, 'x');
    const auto sent = post(kOther, data);
    send(kOther, header(FrameKind::post_end, 1));
    expect_closed("impossible for its message");
    EXPECT_EQ(outcome(*sent), pcclTimeout);
}
TEST_F(MessageTransferTest, EndWithAnUnknownCodeEndsTheLink) {
    post(kOther, "a");
    send(kOther, header(FrameKind::post_end, 1, protocol::kPostEnds));
    expect_closed("a message that does not exist");
}
TEST_F(MessageTransferTest, ControlFrameWithAPayloadEndsTheLink) {
    send(kOther, header(FrameKind::post_withdraw, 1), "a");
    expect_closed("with a payload");
}

}  // namespace
}  // namespace pccl::fuzz

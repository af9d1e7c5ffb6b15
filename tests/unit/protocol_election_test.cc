// The rules for the election of a shared state, case by case.
#include "protocol/election.h"

#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

using wire::OfferState;
using wire::Strategy;

class ElectionTest : public testing::Test {
protected:
    /// Peer ids count from 1. The content of a tensor is one number.
    OfferState &offer(std::uint64_t revision, std::vector<std::uint8_t> contents, Strategy strategy = Strategy::enforce_popular) {
        auto &made = *offers_.emplace_back(std::make_unique<OfferState>());
        made.revision = revision;
        made.strategy = strategy;
        for (std::size_t i = 0; i < contents.size(); ++i) {
            wire::TensorOffer tensor;
            tensor.name = "t" + std::to_string(i);
            tensor.count = 4;
            tensor.hash.fill(contents[i]);
            made.tensors.push_back(tensor);
        }
        ballots_.push_back({PeerId{offers_.size()}, &made, false, false});
        return made;
    }
    void synced(std::uint64_t revision, std::vector<std::size_t> members) {
        history_.synced = true;
        history_.revision = revision;
        history_.schema = offers_.front()->tensors;
        for (const std::size_t i : members)
            ballots_[i - 1].in_last_sync = true;
    }
    Election held() { return elect(history_, ballots_); }

    static std::vector<std::uint64_t> who(const std::vector<Violation> &violations) {
        std::vector<std::uint64_t> ids;
        for (const auto &v : violations)
            ids.push_back(v.peer.value);
        return ids;
    }
    static std::vector<std::uint64_t> who(const std::vector<Receiver> &receivers) {
        std::vector<std::uint64_t> ids;
        for (const auto &r : receivers)
            ids.push_back(r.peer.value);
        return ids;
    }
    static std::vector<std::uint64_t> who(const std::vector<PeerId> &peers) {
        std::vector<std::uint64_t> ids;
        for (const PeerId p : peers)
            ids.push_back(p.value);
        return ids;
    }
    using Ids = std::vector<std::uint64_t>;

    std::vector<std::unique_ptr<OfferState>> offers_;
    std::vector<Ballot> ballots_;
    SyncHistory history_;
};

TEST_F(ElectionTest, EqualContentsNeedNoTransfer) {
    offer(5, {1, 2});
    offer(5, {1, 2});
    const auto election = held();
    EXPECT_TRUE(election.violations.empty());
    EXPECT_TRUE(election.failure);
    EXPECT_EQ(election.revision, 5u);
    EXPECT_TRUE(election.receivers.empty());
}

TEST_F(ElectionTest, MostCommonContentWins) {
    offer(0, {9, 2});
    offer(0, {1, 2});
    offer(0, {1, 2});
    const auto election = held();
    ASSERT_EQ(who(election.receivers), Ids{1});
    ASSERT_EQ(election.receivers[0].pull.size(), 1u);
    EXPECT_EQ(election.receivers[0].pull[0].index, 0u);
    EXPECT_EQ(who(election.receivers[0].pull[0].sources), (Ids{2, 3}));
    EXPECT_FALSE(election.receivers[0].in_place);
}

TEST_F(ElectionTest, LowestIdDecidesAmongEquallyCommonContents) {
    offer(0, {1});
    offer(0, {2});
    EXPECT_EQ(who(held().receivers), Ids{2});
}

TEST_F(ElectionTest, PeerDifferingInAnotherTensorIsASource) {
    offer(0, {1, 2});
    offer(0, {1, 2});
    offer(0, {1, 7});
    offer(0, {8, 2});
    const auto election = held();
    ASSERT_EQ(who(election.receivers), (Ids{3, 4}));
    EXPECT_EQ(who(election.receivers[1].pull[0].sources), (Ids{1, 2, 3}));
}

TEST_F(ElectionTest, FirstSynchronizationTakesTheHighestRevision) {
    offer(3, {1});
    offer(7, {2});
    offer(3, {1});
    const auto election = held();
    EXPECT_EQ(election.revision, 7u);
    EXPECT_EQ(who(election.receivers), (Ids{1, 3}));
}

TEST_F(ElectionTest, ReceiveOnlyNeitherWinsNorSends) {
    offer(9, {1}, Strategy::receive_only);
    offer(2, {2});
    offer(2, {1}, Strategy::receive_only);
    const auto election = held();
    EXPECT_EQ(election.revision, 2u);
    ASSERT_EQ(who(election.receivers), (Ids{1, 3}));
    EXPECT_EQ(who(election.receivers[0].pull[0].sources), Ids{2});
}

TEST_F(ElectionTest, AllReceiveOnlyIsAFailure) {
    offer(0, {1}, Strategy::receive_only);
    offer(0, {1}, Strategy::receive_only);
    EXPECT_EQ(held().failure.code(), pcclNoSharedStateAvailable);
}

TEST_F(ElectionTest, SendOnlyBeatsTheMajorityAndIsNeverOverwritten) {
    offer(0, {1});
    offer(0, {1});
    offer(0, {5}, Strategy::send_only);
    const auto election = held();
    EXPECT_EQ(who(election.receivers), (Ids{1, 2}));
}

TEST_F(ElectionTest, DifferentSendOnlyPeersAreRemoved) {
    offer(0, {1});
    offer(0, {2}, Strategy::send_only);
    offer(0, {3}, Strategy::send_only);
    EXPECT_EQ(who(held().violations), (Ids{2, 3}));
}

TEST_F(ElectionTest, EqualSendOnlyPeersAreAccepted) {
    offer(0, {1});
    offer(0, {2}, Strategy::send_only);
    offer(0, {2}, Strategy::send_only);
    EXPECT_EQ(who(held().receivers), Ids{1});
}

TEST_F(ElectionTest, NextRevisionIsTheLastPlusOne) {
    offer(4, {1});
    offer(4, {1});
    offer(5, {1});
    synced(3, {1, 2, 3});
    EXPECT_EQ(who(held().violations), Ids{3});
}

TEST_F(ElectionTest, MemberBehindReceivesWithoutLosingItsContent) {
    offer(4, {1, 2});
    offer(4, {1, 2});
    offer(3, {7, 2});
    synced(3, {1, 2, 3});
    const auto election = held();
    EXPECT_TRUE(election.violations.empty());
    EXPECT_EQ(election.revision, 4u);
    ASSERT_EQ(who(election.receivers), Ids{3});
    ASSERT_EQ(election.receivers[0].pull.size(), 1u);
    EXPECT_EQ(who(election.receivers[0].pull[0].sources), (Ids{1, 2}));
    EXPECT_FALSE(election.receivers[0].in_place) << "if the holders are lost, only its content is left";
}

TEST_F(ElectionTest, MemberFarBehindReceives) {
    offer(4, {1});
    offer(0, {7});
    synced(3, {1, 2});
    EXPECT_EQ(who(held().receivers), Ids{2});
}

TEST_F(ElectionTest, ExpectedRevisionBeatsAMajorityBehind) {
    offer(3, {7});
    offer(3, {7});
    offer(4, {1});
    synced(3, {1, 2, 3});
    const auto election = held();
    EXPECT_EQ(election.revision, 4u);
    EXPECT_EQ(who(election.receivers), (Ids{1, 2}));
}

TEST_F(ElectionTest, MemberWithEqualContentReceivesTheRevisionOnly) {
    offer(4, {1});
    offer(3, {1});
    synced(3, {1, 2});
    const auto election = held();
    EXPECT_EQ(election.revision, 4u);
    EXPECT_TRUE(election.receivers.empty());
}

TEST_F(ElectionTest, MemberBehindReceivesTensorsThatMayDiffer) {
    offer(4, {1, 5});
    offer(3, {1, 6});
    for (auto &o : offers_)
        o->tensors[1].allow_content_inequality = true;
    synced(3, {1, 2});
    const auto election = held();
    ASSERT_EQ(who(election.receivers), Ids{2});
    EXPECT_EQ(election.receivers[0].pull[0].index, 1u);
}

TEST_F(ElectionTest, NewestRevisionWinsIfNoMemberCounts) {
    offer(3, {1});
    offer(3, {1});
    offer(3, {2});
    offer(2, {2});
    synced(3, {1, 2, 3, 4});
    const auto election = held();
    EXPECT_TRUE(election.violations.empty());
    EXPECT_TRUE(election.failure);
    EXPECT_EQ(election.revision, 3u);
    EXPECT_EQ(who(election.receivers), (Ids{3, 4}));
}

TEST_F(ElectionTest, MemberBehindIsElectedOnceTheHoldersAreLost) {
    offer(3, {1});
    offer(0, {2});
    ballots_[1].tainted = true;  // a newcomer that had begun to receive
    synced(3, {1});
    const auto election = held();
    EXPECT_EQ(election.revision, 3u);
    EXPECT_EQ(who(election.receivers), Ids{2});
}

TEST_F(ElectionTest, NewcomerBehindIsNotElectedByReceiveOnlyMembers) {
    offer(4, {1}, Strategy::receive_only);
    offer(0, {2});
    synced(3, {1});
    EXPECT_EQ(held().failure.code(), pcclNoSharedStateAvailable);
}

TEST_F(ElectionTest, SendOnlyBehindTheGroupIsRemoved) {
    offer(4, {1});
    offer(3, {1}, Strategy::send_only);
    synced(3, {1, 2});
    EXPECT_EQ(who(held().violations), Ids{2});
}

TEST_F(ElectionTest, SendOnlyWithoutCountingServesReceiveOnlyMembers) {
    offer(3, {1}, Strategy::send_only);
    offer(3, {2}, Strategy::receive_only);
    synced(3, {1, 2});
    const auto election = held();
    EXPECT_EQ(election.revision, 3u);
    EXPECT_EQ(who(election.receivers), Ids{2});
}

TEST_F(ElectionTest, ReceiveOnlyMemberBehindReceivesInPlace) {
    offer(4, {1});
    offer(3, {2}, Strategy::receive_only);
    synced(3, {1, 2});
    ASSERT_EQ(who(held().receivers), Ids{2});
    EXPECT_TRUE(held().receivers[0].in_place);
}

TEST_F(ElectionTest, FirstSynchronizationTakesTheRevisionOfSendOnly) {
    offer(7, {1});
    offer(3, {2}, Strategy::send_only);
    const auto election = held();
    EXPECT_EQ(election.revision, 3u);
    EXPECT_EQ(who(election.receivers), Ids{1});
}

TEST_F(ElectionTest, JumpIsRefusedWhileAMemberOffersAnOlderRevision) {
    offer(9, {1});
    offer(3, {1});
    synced(3, {1, 2});
    EXPECT_EQ(who(held().violations), Ids{1});
}

TEST_F(ElectionTest, MembersCanJumpTogetherButNotAlone) {
    offer(9, {1});
    offer(4, {1});
    synced(3, {1, 2});
    EXPECT_EQ(who(held().violations), Ids{1});
    offers_[1]->revision = 9;
    EXPECT_TRUE(held().violations.empty());
    EXPECT_EQ(held().revision, 9u);
}

TEST_F(ElectionTest, NewcomerBehindReceivesEverythingInPlace) {
    offer(4, {1, 2});
    offer(0, {3, 2});
    synced(3, {1});
    const auto election = held();
    ASSERT_EQ(who(election.receivers), Ids{2});
    EXPECT_TRUE(election.receivers[0].in_place);
    ASSERT_EQ(election.receivers[0].pull.size(), 1u);
}

TEST_F(ElectionTest, NewcomerAheadIsRemoved) {
    offer(4, {1});
    offer(5, {1});
    synced(3, {1});
    EXPECT_EQ(who(held().violations), Ids{2});
}

TEST_F(ElectionTest, SendOnlyNewcomerBehindIsRemoved) {
    offer(4, {1});
    offer(0, {1}, Strategy::send_only);
    synced(3, {1});
    EXPECT_EQ(who(held().violations), Ids{2});
}

TEST_F(ElectionTest, LosingAllLastMembersRestartsTheHistory) {
    offer(0, {1});
    offer(2, {1});
    synced(50, {});
    const auto election = held();
    EXPECT_TRUE(election.violations.empty());
    EXPECT_EQ(election.revision, 2u);
}

TEST_F(ElectionTest, PeerWithAnotherSchemaIsRemoved) {
    offer(0, {1, 2});
    offer(0, {1, 2});
    offer(0, {1});
    EXPECT_EQ(who(held().violations), Ids{3});
    offers_[2]->tensors = offers_[0]->tensors;
    offers_[2]->tensors[1].count = 5;
    EXPECT_EQ(who(held().violations), Ids{3});
    offers_[2]->tensors[1].count = 4;
    offers_[2]->tensors[1].type = op::Type::f32;
    EXPECT_EQ(who(held().violations), Ids{3});
}

TEST_F(ElectionTest, LastSchemaWinsAgainstAMajorityOfNewcomers) {
    offer(4, {1});
    offer(0, {1, 2});
    offer(0, {1, 2});
    synced(3, {1});
    EXPECT_EQ(who(held().violations), (Ids{2, 3}));
}

TEST_F(ElectionTest, TensorsThatMayDifferAreSentOnlyToPeersBehind) {
    offer(4, {1, 5});
    offer(4, {1, 6});
    offer(0, {1, 7});
    for (auto &o : offers_)
        o->tensors[1].allow_content_inequality = true;
    synced(3, {1, 2});
    const auto election = held();
    ASSERT_EQ(who(election.receivers), Ids{3});
    ASSERT_EQ(election.receivers[0].pull.size(), 1u);
    EXPECT_EQ(election.receivers[0].pull[0].index, 1u);
    EXPECT_EQ(who(election.receivers[0].pull[0].sources), Ids{1});
}

TEST_F(ElectionTest, PeerWithOverwrittenContentPullsEverything) {
    offer(0, {1, 2});
    offer(0, {3, 2});
    ballots_[0].tainted = true;
    const auto election = held();
    ASSERT_EQ(who(election.receivers), Ids{1});
    EXPECT_EQ(election.receivers[0].pull.size(), 2u);
    EXPECT_EQ(who(election.receivers[0].pull[0].sources), Ids{2});
}

TEST_F(ElectionTest, OnlyPartlyOverwrittenContentIsAFailure) {
    offer(0, {1});
    ballots_[0].tainted = true;
    EXPECT_EQ(held().failure.code(), pcclNoSharedStateAvailable);
}

}  // namespace
}  // namespace pccl::protocol

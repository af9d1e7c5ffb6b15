// The peer or path that a snapshot blames, and the number of log lines about it.
#include "protocol/diagnosis.h"

#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

using namespace std::chrono_literals;
using Kind = Finding::Kind;

constexpr std::uint64_t kMb = 1 << 20;
const OpId kOp{ViewNumber{3}, Tag{7}, 0};

class DiagnosisTest : public testing::Test {
protected:
    DiagnosisTest() {
        for (std::uint64_t i = 1; i <= 4; ++i)
            snapshot.members.push_back(
                {PeerId{i}, GroupId{0}, "peer " + std::to_string(i) + " at 10.0.0." + std::to_string(i) + ":1", 0s, false});
    }

    /// The peers in `waiting` have been in a call for the given times. All other peers have not made it.
    void wait(const std::string &call, std::map<std::uint64_t, Duration> waiting) {
        Snapshot::Wait wait{call, {}, {}, snapshot.members.size()};
        for (auto &member : snapshot.members) {
            if (const auto found = waiting.find(member.id.value); found != waiting.end()) {
                wait.waiting.emplace_back(member.id, found->second);
                member.waits = true;
            } else {
                wait.missing.push_back(member.id);
            }
        }
        snapshot.waits.push_back(wait);
    }
    static wire::LinkProgress link(std::uint64_t to) {
        wire::LinkProgress link;
        link.other = PeerId{to};
        return link;
    }
    static wire::OpProgress op(std::uint32_t idle_ms, std::uint64_t waits_for) {
        wire::OpProgress op;
        op.op = kOp;
        op.awaited = true;
        op.open_ms = op.idle_ms = idle_ms;
        op.waits_for = {PeerId{waits_for}};
        return op;
    }
    std::vector<Finding> find() { return diagnosis.findings(now, snapshot, {5s, 5s, 10s, 10s}); }
    /// "kind who other" for each finding.
    std::vector<std::string> blamed() {
        static constexpr const char *kKinds[] = {"hung", "dead path", "straggler", "slow link", "no progress"};
        std::vector<std::string> all;
        for (const auto &finding : find()) {
            std::string text = kKinds[static_cast<int>(finding.kind)];
            text.append(" ").append(std::to_string(finding.who.value));
            if (finding.other.value != 0) text.append(" ").append(std::to_string(finding.other.value));
            all.push_back(text);
        }
        return all;
    }

    using Blamed = std::vector<std::string>;
    Diagnosis diagnosis;
    Snapshot snapshot;
    Time now{100s};
};

TEST_F(DiagnosisTest, NoPeerIsBlamedIfNoneWaits) { EXPECT_EQ(blamed(), Blamed{}); }

TEST_F(DiagnosisTest, PeerThatDoesNotCallIsTheStraggler) {
    wait("pcclAllReduce with tag 7", {{1, 12s}, {2, 30s}, {4, 11s}});
    const auto found = find();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].what, "peer 3 at 10.0.0.3:1 holds the others up");
    EXPECT_EQ(found[0].lasting, 12s) << "the time for which half of the members have waited";
    EXPECT_NE(
        found[0].evidence.find("has not called pcclAllReduce with tag 7, in which 3 of 4 members wait, half of them for 12s"),
        std::string::npos)
        << found[0].evidence;
    EXPECT_NE(found[0].evidence.find("held up: peer 1, peer 2, peer 4"), std::string::npos) << found[0].evidence;
}

TEST_F(DiagnosisTest, StragglerIsNotReportedBeforeTheLimit) {
    wait("pcclAllReduce with tag 7", {{1, 9s}, {2, 9s}, {4, 60s}});
    EXPECT_EQ(blamed(), Blamed{});
}

TEST_F(DiagnosisTest, PeerFarAheadDoesNotMakeOthersStragglers) {
    wait("pcclAllReduce with tag 7", {{1, 300s}});
    EXPECT_EQ(blamed(), Blamed{});
}

TEST_F(DiagnosisTest, ChainIsFollowedToThePeerThatDoesNotWait) {
    wait("pcclUpdateTopology", {{1, 20s}, {2, 20s}});                  // peers 3 and 4 are missing, but peer 3
    wait("pcclAllReduce with tag 7", {{1, 20s}, {2, 20s}, {3, 20s}});  // waits for peer 4 itself
    const auto found = find();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].who, PeerId{4});
    EXPECT_NE(found[0].evidence.find("held up: peer 1, peer 2, peer 3"), std::string::npos) << found[0].evidence;
}

TEST_F(DiagnosisTest, SilentPeerIsHungAndNotAStraggler) {
    wait("pcclAllReduce with tag 7", {{1, 30s}, {2, 30s}, {4, 30s}});
    snapshot.members[2].silent = 6s;
    EXPECT_EQ(blamed(), Blamed{"hung 3"});
}

TEST_F(DiagnosisTest, FindingShowsIfTheHostOfAHungPeerAnswers) {
    wait("pcclAllReduce with tag 7", {{1, 30s}, {2, 30s}, {4, 30s}});
    snapshot.members[2].silent = 6s;
    wire::LinkProgress to = link(3);
    to.outstanding = 4242;
    to.stalled_ms = 5900;
    diagnosis.report(now, PeerId{1}, {{op(5900, 4)}, {to}});
    EXPECT_NE(find()[0].evidence.find("its process does not run"), std::string::npos) << find()[0].evidence;
    to.unanswered_ms = 5900;
    diagnosis.report(now, PeerId{1}, {{op(5900, 4)}, {to}});
    EXPECT_NE(find()[0].evidence.find("4242 bytes from peer 1 have not been acknowledged for 5.9s: its host is down"),
              std::string::npos)
        << find()[0].evidence;
}

TEST_F(DiagnosisTest, IdleLinkGivesNoEvidenceOfAHungPeer) {
    snapshot.members[2].silent = 6s;
    diagnosis.report(now, PeerId{1}, {{op(5900, 4)}, {link(3)}});
    EXPECT_EQ(find()[0].evidence, "it has been silent for 6s; held up: peer 1");
}

TEST_F(DiagnosisTest, UnacknowledgedBytesShowADeadPath) {
    wire::LinkProgress to = link(2);
    to.outstanding = 300;
    to.unanswered_ms = 5100;
    diagnosis.report(now, PeerId{1}, {{op(5000, 4)}, {to, link(3)}});
    EXPECT_EQ(blamed(), Blamed{"dead path 1 2"});
    now = now + Duration(3s);  // the report is out of date
    EXPECT_EQ(blamed(), Blamed{});
}

TEST_F(DiagnosisTest, ReceiverThatDoesNotReadIsNotADeadPath) {
    wire::LinkProgress to = link(2);
    to.outstanding = 300000;
    to.stalled_ms = 9000;
    diagnosis.report(now, PeerId{1}, {{op(100, 4)}, {to}});
    EXPECT_EQ(blamed(), Blamed{});
}

TEST_F(DiagnosisTest, IdleOperationIsReportedWithItsChain) {
    snapshot.entered = {kOp};
    for (std::uint64_t i = 1; i <= 4; ++i)
        diagnosis.report(now, PeerId{i}, {{op(i == 2 ? 10500 : 12000, i == 1 ? 4 : i - 1)}, {}});
    const auto found = find();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].kind, Kind::no_progress);
    EXPECT_EQ(found[0].evidence,
              "all members have called it, and no byte has moved for 10.5s: peer 1 waits for peer 4; peer 2 waits for peer 1; "
              "peer 3 waits for peer 2; peer 4 waits for peer 3");
    diagnosis.report(now, PeerId{3}, {{op(900, 2)}, {}});  // bytes move again
    EXPECT_EQ(blamed(), Blamed{});
}

class SlowLinks : public DiagnosisTest {
protected:
    struct Rate {
        double backlogged;
        std::uint64_t bytes_per_s;
        double receiver = 0, buffer = 0;
    };
    /// Reports one second of a ring. `rates[i]` describes the link from peer i + 1 to the next peer.
    void second(const std::vector<Rate> &rates) {
        now = now + Duration(1s);
        for (std::size_t i = 0; i < 4; ++i) {
            auto &link = links[i];
            link.other = PeerId{(i + 1) % 4 + 1};
            link.sent += 10 * kMb;
            link.looks += 40;
            link.backlogged += static_cast<std::uint32_t>(40 * rates[i].backlogged);
            link.busy_us += 1000000;
            link.receiver_limited_us += static_cast<std::uint64_t>(1e6 * rates[i].receiver);
            link.buffer_limited_us += static_cast<std::uint64_t>(1e6 * rates[i].buffer);
            link.bytes_per_s = rates[i].bytes_per_s;
            diagnosis.report(now, PeerId{i + 1}, {{op(0, 1)}, {link}});
        }
    }
    wire::LinkProgress links[4];
};

TEST_F(SlowLinks, LinkThatIsAlwaysBackloggedIsSlow) {
    for (int i = 0; i < 3; ++i) {
        second({{0.1, 100 * kMb}, {1, 10 * kMb}, {0, 120 * kMb}, {0.2, 90 * kMb}});
        EXPECT_EQ(blamed(), Blamed{});
    }
    second({{0.1, 100 * kMb}, {1, 10 * kMb}, {0, 120 * kMb}, {0.2, 90 * kMb}});
    const auto found = find();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].what, "the link from peer 2 at 10.0.0.2:1 to peer 3 is slow");
    EXPECT_NE(found[0].evidence.find("83 Mbit/s while the other links of its group carry 838 Mbit/s"), std::string::npos)
        << found[0].evidence;
    EXPECT_NE(found[0].evidence.find("the path itself is slow"), std::string::npos);
}

TEST_F(SlowLinks, SlowReceiverAndSmallBufferAreNotASlowPath) {
    for (const bool receiver : {true, false}) {
        for (int i = 0; i < 4; ++i) {
            second(
                {{0.1, 100 * kMb}, {1, 10 * kMb, receiver ? 0.9 : 0.0, receiver ? 0.0 : 0.9}, {0, 120 * kMb}, {0.2, 90 * kMb}});
            (void)find();
        }
        EXPECT_NE(find()[0].evidence.find(receiver ? "its receiver reads too slowly" : "socket buffer is too small"),
                  std::string::npos);
    }
}

TEST_F(SlowLinks, EqualLinksAreNotSlow) {
    for (int i = 0; i < 100; ++i) {
        second({{1, 90 * kMb}, {0.9, 100 * kMb}, {1, 110 * kMb}, {0.8, 80 * kMb}});
        EXPECT_EQ(blamed(), Blamed{});
        second({{0.3, 40 * kMb}, {0.9, 60 * kMb}, {0.1, 110 * kMb}, {0, 80 * kMb}});  // uneven load, and about equal capacity
        EXPECT_EQ(blamed(), Blamed{});
    }
}

TEST_F(SlowLinks, ShortBacklogIsNotSlow) {
    for (int i = 0; i < 20; ++i) {
        const bool bad = i % 4 < 2;
        second({{0.1, 100 * kMb}, {bad ? 1 : 0.1, (bad ? 10 : 100) * kMb}, {0, 120 * kMb}, {0.2, 90 * kMb}});
        EXPECT_EQ(blamed(), Blamed{});
    }
}

class AlarmLines : public testing::Test {
protected:
    std::vector<std::string> pass(Duration time, bool present) {
        std::vector<std::string> all;
        for (const Time end = now + time; now < end; now = now + Duration(1s)) {
            std::vector<Finding> findings;
            if (present) findings.push_back({Kind::straggler, PeerId{3}, {}, 12s, "peer 3 holds the others up", "evidence"});
            for (const auto &line : alarms.update(now, findings)) {
                EXPECT_EQ(line.about, PeerId{3});
                all.push_back(line.text);
            }
        }
        return all;
    }
    using Lines = std::vector<std::string>;
    Alarms alarms;
    Time now{100s};
};

TEST_F(AlarmLines, AppearAtTheBeginningAndAtTheEnd) {
    EXPECT_EQ(pass(20s, true), Lines{"peer 3 holds the others up: evidence"});
    EXPECT_EQ(pass(20s, false), Lines{"over after 20s: peer 3 holds the others up"});
}

TEST_F(AlarmLines, BecomeRarerWhileTheFindingLasts) {
    EXPECT_EQ(pass(1h, true).size(), 7u);
}  // after 0, 30, 90, 210, 450, 930, 1890 s

TEST_F(AlarmLines, StayFewForAFindingThatComesAndGoes) {
    std::size_t lines = 0;
    for (int step = 0; step < 360; ++step)
        lines += pass(5s, true).size() + pass(5s, false).size();
    EXPECT_LE(lines, 14u);
    (void)pass(3h, false);
    EXPECT_EQ(pass(1s, true).size(), 1u) << "after three hours without it, it is a new finding";
}

}  // namespace
}  // namespace pccl::protocol

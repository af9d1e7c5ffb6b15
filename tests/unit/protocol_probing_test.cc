#include "protocol/probing.h"

#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

using namespace std::chrono_literals;
using Probe = Probing::Probe;

const auto kAll = [](const Probe &) { return true; };
const std::vector<PeerId> kPeers{PeerId{1}, PeerId{2}, PeerId{3}};

TEST(Probing, EveryDirectionIsProbedOnce) {
    Probing probing;
    probing.start({kPeers}, kAll);
    std::set<Probe> seen;
    for (int round = 0; probing.rounds_left(); ++round) {
        for (const Probe &probe : probing.next_round(Time{1s}, kAll))
            EXPECT_TRUE(seen.insert(probe).second);
        probing.check_invariants();
        for (const Probe &probe : std::set(seen))
            probing.report(probing.round(), probe);
        EXPECT_FALSE(probing.outstanding());
    }
    EXPECT_EQ(seen.size(), 6U);
    EXPECT_TRUE(probing.running());
}

TEST(Probing, MeasuredPairsAreLeftOut) {
    Probing probing;
    probing.start({kPeers}, [](const Probe &probe) { return probe.from == PeerId{2}; });
    std::size_t probes = 0;
    while (probing.rounds_left()) {
        const auto round = probing.next_round(Time{1s}, kAll);
        probes += round.size();
        for (const Probe &probe : round)
            EXPECT_TRUE(probing.report(probing.round(), probe));
    }
    EXPECT_EQ(probes, 2U);
}

TEST(Probing, ReportOfAnotherRoundIsIgnored) {
    Probing probing;
    probing.start({kPeers}, kAll);
    const auto round = probing.next_round(Time{1s}, kAll);
    EXPECT_FALSE(probing.report(probing.round() + 1, round[0]));
    EXPECT_TRUE(probing.report(probing.round(), round[0]));
    EXPECT_FALSE(probing.report(probing.round(), round[0]));
}

TEST(Probing, RoundExpiresAtItsDeadline) {
    Probing probing;
    probing.start({kPeers}, kAll);
    probing.next_round(Time{1s}, kAll);
    EXPECT_EQ(probing.deadline(), Time{1s});
    EXPECT_FALSE(probing.expire(Time{999ms}));
    EXPECT_TRUE(probing.expire(Time{1s}));
    EXPECT_FALSE(probing.outstanding());
    EXPECT_FALSE(probing.deadline());
}

TEST(Probing, ProbesOfALostMemberAreForgotten) {
    Probing probing;
    probing.start({kPeers}, kAll);
    probing.next_round(Time{1s}, kAll);
    probing.drop_impossible([](const Probe &probe) { return probe.from != PeerId{1} && probe.to != PeerId{1}; });
    EXPECT_TRUE(probing.outstanding());
    probing.drop_impossible([](const Probe &) { return false; });
    EXPECT_FALSE(probing.outstanding());
    probing.stop();
    EXPECT_FALSE(probing.running());
}

}  // namespace
}  // namespace pccl::protocol

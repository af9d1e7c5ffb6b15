// Once both are measured, a link compresses if its path is slower than the rate at which the codec saves bytes.
#include "peer/compression_gate.h"

#include <gtest/gtest.h>

namespace pccl::peer {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kChunk = 64 << 10;

class Gate : public testing::Test {
protected:
    CompressionGate gate{Compression::automatic, 20ms};
    const std::size_t kind = CompressionGate::kind_of(4, false);
    Time now{1s};
    LinkWork work;
    int tried = 0;

    /// The path delivers at this rate for this time; the gate observes it every 25 ms. `codec`: the share of the time that the
    /// thread spends in the codec.
    void deliver(double bytes_per_s, Duration time, bool path_limited = true, double codec = 0) {
        for (Duration passed{}; passed < time; passed += 25ms) {
            work.busy = true;
            work.path_limited = path_limited;
            gate.observe(now, work);
            now = now + Duration(25ms);
            work.delivered += static_cast<std::uint64_t>(bytes_per_s * 0.025);
            work.codec += Duration(static_cast<Duration::rep>(codec * 25000));
        }
    }
    void rest(Duration time) {
        work.busy = work.path_limited = false;
        gate.observe(now, work);
        now = now + time;
    }
    /// Offers chunks to a codec with this rate and this ratio of compressed to plain bytes. Counts the chunks that it compresses.
    void send(double codec_bytes_per_s, double leaves, int chunks = 20) {
        for (int i = 0; i < chunks; ++i) {
            if (!gate.wants(kind, now)) continue;
            ++tried;
            gate.learn(kind, kChunk, static_cast<std::size_t>(kChunk * leaves),
                       Duration(static_cast<Duration::rep>(kChunk * 1e6 / codec_bytes_per_s)), now);
        }
    }
};

TEST_F(Gate, StaysShutWhileThePathIsUnknown) {
    send(1e9, 0.5);
    EXPECT_EQ(tried, 0);
    deliver(1e7, 1s, false);  // slow, but not because of the path
    send(1e9, 0.5);
    EXPECT_EQ(tried, 0);
    EXPECT_EQ(gate.path_rate(), 0);
}

TEST_F(Gate, OpensOnASlowPathAfterAFewChunks) {
    deliver(1.2e7, 200ms);
    send(1e9, 0.85, 3);
    EXPECT_FALSE(gate.open(kind));
    send(1e9, 0.85, 1);
    EXPECT_TRUE(gate.open(kind));
    EXPECT_FALSE(gate.open(CompressionGate::kind_of(4, true))) << "shared state is another kind";
    EXPECT_FALSE(gate.open(CompressionGate::kind_of(1, false)));
}

TEST_F(Gate, StaysShutOnAPathFasterThanTheCodec) {
    deliver(1.2e8, 200ms);  // the codec saves 0.15 GB/s: less than twice this rate
    send(1e9, 0.85);
    EXPECT_FALSE(gate.open(kind));
    EXPECT_EQ(tried, 4);
}

TEST_F(Gate, MakesNoTrialOnAVeryFastPath) {
    deliver(3e9, 200ms);
    send(1e9, 0.1);
    EXPECT_EQ(tried, 0);
}

TEST_F(Gate, TriesIncompressibleDataAtGrowingIntervals) {
    deliver(1.2e7, 200ms);
    for (int second = 0; second < 120; ++second) {
        send(1e9, 1.0);
        deliver(1.2e7, 1s);
    }
    EXPECT_FALSE(gate.open(kind));
    EXPECT_GE(tried / 4, 5);  // at 0, 1, 3, 7, 15, 31, 63 s
    EXPECT_LE(tried / 4, 8);
}

TEST_F(Gate, OpensWhenDataBecomeCompressible) {
    deliver(1.2e7, 200ms);
    send(1e9, 1.0);
    EXPECT_FALSE(gate.open(kind));
    deliver(1.2e7, 2s);
    send(1e9, 0.7);
    EXPECT_TRUE(gate.open(kind));
}

TEST_F(Gate, ShutsWhenDataBecomeIncompressible) {
    deliver(1.2e7, 200ms);
    send(1e9, 0.7);
    ASSERT_TRUE(gate.open(kind));
    send(1e9, 1.0, 2000);
    EXPECT_FALSE(gate.open(kind));
}

TEST_F(Gate, ShutsWhenThePathBecomesFastAndOpensWhenItIsSlowAgain) {
    deliver(1.2e7, 200ms);
    send(1e9, 0.7);
    ASSERT_TRUE(gate.open(kind));
    deliver(1e9, 1s);
    EXPECT_FALSE(gate.open(kind));
    deliver(1.2e7, 2s);
    send(1e9, 0.7);
    EXPECT_TRUE(gate.open(kind));
}

TEST_F(Gate, DoesNotToggleBetweenItsThresholds) {
    deliver(1.4e8, 200ms);  // the codec saves 0.3 GB/s: 2.1 times this rate
    send(1e9, 0.7);
    ASSERT_TRUE(gate.open(kind));
    deliver(2.0e8, 2s);  // 1.5 times
    send(1e9, 0.7);
    EXPECT_TRUE(gate.open(kind));
    deliver(2.8e8, 2s);  // 1.07 times
    EXPECT_FALSE(gate.open(kind));
}

TEST_F(Gate, ShutsWhenTheProcessorIsTheLimit) {
    deliver(5e7, 200ms);
    send(1e9, 0.7);
    ASSERT_TRUE(gate.open(kind));
    deliver(4e7, 1s, false, 0.6);  // the path waits for something else
    EXPECT_TRUE(gate.open(kind));
    deliver(4e7, 1s, false, 0.95);  // less than the path can deliver
    EXPECT_FALSE(gate.open(kind));
}

TEST_F(Gate, StaysOpenWhenABusyProcessorBeatsThePath) {
    deliver(5e7, 200ms);
    send(1e9, 0.1);
    ASSERT_TRUE(gate.open(kind));
    deliver(8e7, 1s, false, 0.95);
    EXPECT_TRUE(gate.open(kind));
}

TEST_F(Gate, DoesNotMeasureOverIdleOrStoppedTime) {
    deliver(1.2e7, 200ms);
    const double rate = gate.path_rate();
    rest(10s);
    deliver(1.2e7, 200ms);
    EXPECT_NEAR(gate.path_rate(), rate, rate / 20);
    now = now + Duration(5s);  // the process was stopped
    work.delivered += 1 << 30;
    deliver(1.2e7, 200ms);
    EXPECT_NEAR(gate.path_rate(), rate, rate / 20);
}

TEST_F(Gate, ObeysTheModesOnAndOff) {
    CompressionGate off{Compression::off, 20ms}, on{Compression::on, 20ms};
    EXPECT_FALSE(off.measures() || on.measures());
    for (std::size_t k = 0; k < CompressionGate::kKinds; ++k) {
        EXPECT_FALSE(off.wants(k, now));
        EXPECT_TRUE(on.wants(k, now));
    }
}

TEST(GateKinds, AreAllDifferent) {
    std::size_t seen = 0;
    for (const unsigned planes : {1u, 2u, 4u, 8u}) {
        for (const bool state : {false, true}) {
            ASSERT_LT(CompressionGate::kind_of(planes, state), CompressionGate::kKinds);
            seen |= std::size_t{1} << CompressionGate::kind_of(planes, state);
        }
    }
    EXPECT_EQ(seen, 0xffu);
}

}  // namespace
}  // namespace pccl::peer

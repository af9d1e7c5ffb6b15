// Compression of chunks in transit: results are the same bits with every combination of settings, bytes are saved where data are
// compressible, and inside one machine only peers that were configured to compress do so.
#include "harness/reduce.h"

namespace pccl::itest {
namespace {

constexpr int kAuto = 0, kOff = 1, kOn = 2;

/// Peers with these settings, joined one after the other, so that the ring has the same order and sums the same bits in every
/// world.
void join(World &world, const std::vector<int> &choices) {
    for (const int choice : choices) {
        PeerOptions options;
        options.compression = choice;
        world.spawn(options);
        world.join_all(static_cast<int>(world.size()));
    }
}

std::uint64_t sum(const std::vector<Json> &answers, const char *key) {
    std::uint64_t total = 0;
    for (const Json &answer : answers)
        total += answer.at(key).get<std::uint64_t>();
    return total;
}

TEST(Compression, ResultsAreTheSameBitsForEverySetting) {
    World plain, packed, mixed;
    join(plain, {kOff, kOff, kOff});
    join(packed, {kOn, kOn, kOn});
    join(mixed, {kOn, kOff, kOn});
    std::vector<Json> requests;
    for (const char *algorithm : {"ring", "direct", "one-hop"}) {
        const int count = std::string(algorithm) == "direct" ? 5003 : 100003;
        for (const char *type : {"uint8", "int32", "bfloat16", "float", "double"}) {
            for (const char *op : {"avg", "max"})
                requests.push_back(
                    {{"count", count}, {"type", type}, {"op", op}, {"algorithm", algorithm}, {"pattern", "normal:40,3"}});
        }
    }
    for (const char *quant : {"minmax:u8", "zps:i16", "blockscale:i8", "blockscale:i4:64:pow2", "zps:u4", "blockscale:u2"}) {
        for (const char *algorithm : {"ring", "one-hop"})
            requests.push_back(
                {{"count", 100003}, {"quant", quant}, {"op", "avg"}, {"algorithm", algorithm}, {"pattern", "heavy:1,1"}});
    }
    for (Json &request : requests) {
        for (const bool in_place : {false, true}) {
            request["in_place"] = in_place;
            const auto without = plain.call_each("reduce", ranked(3, request));
            const auto with = packed.call_each("reduce", ranked(3, request));
            const auto some = mixed.call_each("reduce", ranked(3, request));
            for (const auto &answers : {without, with, some}) {
                ASSERT_TRUE(all_same(answers, "hash")) << request;
                ASSERT_EQ(answers[0].at("hash"), without[0].at("hash")) << request;
            }
            ASSERT_EQ(sum(without, "saved"), 0u) << request;
            const bool is_noise = request.value("quant", "") == "zps:i16";  // the two bytes of a code are not separated
            if (!is_noise) {
                ASSERT_GT(sum(with, "saved"), 0u) << request;
            }
            ASSERT_EQ(sum(with, "tx") + sum(with, "saved"), sum(without, "tx")) << request;
            ASSERT_EQ(sum(with, "rx"), sum(with, "tx")) << request;
        }
    }
}

TEST(Compression, IncompressibleDataIsSentPlain) {
    World world;
    join(world, {kOn, kOn});
    const auto answers =
        world.call_each("reduce", ranked(2, {{"count", 8 << 20}, {"type", "uint8"}, {"pattern", "uniform:0,255.99"}}));
    EXPECT_TRUE(all_same(answers, "hash"));
    EXPECT_EQ(sum(answers, "saved"), 0u);  // noise, whose sums are noise
}

TEST(Compression, SharedStateArrivesUnchanged) {
    for (const std::vector<int> &choices : {std::vector<int>{kOn, kOn, kOn}, std::vector<int>{kOn, kOff, kOff}}) {
        World world;
        join(world, choices);
        const auto tensors = [](std::uint64_t seed) {
            Json list = Json::array();
            for (const char *type : {"uint8", "bfloat16", "float", "double"})
                list.push_back({{"name", type}, {"type", type}, {"count", 1000003}, {"seed", seed}, {"pattern", "normal:0,20"}});
            list.push_back({{"name", "noise"}, {"count", 100003}, {"seed", seed}});
            return Json{{"tensors", list}};
        };
        ASSERT_TRUE(all_have_code(world.call_each("define", {tensors(1), tensors(1), tensors(2)}), pcclSuccess));
        const auto answers = world.call_all("sync");
        EXPECT_TRUE(all_have_code(answers, pcclSuccess));
        EXPECT_TRUE(all_same(answers, "hashes"));
        EXPECT_EQ(answers[2].at("rx"), 1000003 * 15 + 100003 * 4) << "the bytes of tensors, before compression";
    }
}

TEST(Compression, StaysOffInsideOneMachine) {
    World world;
    join(world, {kAuto, kAuto});
    const Json request = {{"count", 16 << 20}, {"pattern", "constant:1.5"}, {"times", 5}};
    const auto answers = world.call_each("reduce", ranked(2, request), Millis(60000));
    EXPECT_TRUE(all_right(answers));
    EXPECT_EQ(sum(answers, "saved"), 0u);
}

}  // namespace
}  // namespace pccl::itest

// The algorithm that is chosen for each operation, size and path.
#include "collective/algorithm.h"

#include <gtest/gtest.h>

namespace pccl::collective {
namespace {

using op::Algorithm;

op::OperationSpec floats(std::size_t count, Algorithm asked = Algorithm::automatic) {
    op::OperationSpec what;
    what.count = count;
    what.type = op::Type::f32;
    what.algorithm = asked;
    return what;
}

Algorithm choose(const op::OperationSpec &what, std::size_t members = 4, bool full_mesh = true) {
    return choose_algorithm(what, members, full_mesh, {});
}

TEST(Algorithm, SmallAllReducesAreDirectIfAllAreConnected) {
    EXPECT_EQ(choose(floats(1)), Algorithm::direct);
    EXPECT_EQ(choose(floats(8192)), Algorithm::direct);
    EXPECT_EQ(choose(floats(8193)), Algorithm::ring);
    EXPECT_EQ(choose(floats(1), 4, false), Algorithm::ring);
    EXPECT_EQ(choose(floats(1), 65), Algorithm::ring);
}

TEST(Algorithm, SmallReduceScattersAndAllGathersTakeOneHop) {
    for (const auto collective : {op::Collective::reduce_scatter, op::Collective::all_gather}) {
        const auto part = [&](std::size_t count, Algorithm asked = Algorithm::automatic) {
            auto what = floats(count, asked);
            what.collective = collective;
            return what;
        };
        EXPECT_EQ(choose(part(8192)), Algorithm::one_hop);
        EXPECT_EQ(choose(part(8193)), Algorithm::ring);
        EXPECT_EQ(choose(part(1), 4, false), Algorithm::ring);
        EXPECT_EQ(choose(part(1), 65), Algorithm::ring);
        EXPECT_EQ(choose(part(1, Algorithm::direct)), Algorithm::one_hop) << "no member needs all contributions";
        auto packed = part(1 << 20);
        packed.quantization.algorithm = op::Quant::block_scale;
        EXPECT_EQ(choose(packed), collective == op::Collective::reduce_scatter ? Algorithm::one_hop : Algorithm::ring);
    }
}

TEST(Algorithm, RequestedAlgorithmIsUsedWhereItWorks) {
    EXPECT_EQ(choose(floats(1, Algorithm::ring)), Algorithm::ring);
    EXPECT_EQ(choose(floats(std::size_t{1} << 18, Algorithm::direct)), Algorithm::direct);
    EXPECT_NE(choose(floats((std::size_t{1} << 18) + 1, Algorithm::direct)), Algorithm::direct);
    EXPECT_EQ(choose(floats(1, Algorithm::direct), 4, false), Algorithm::ring);
    EXPECT_EQ(choose(floats(1000000, Algorithm::direct)), Algorithm::one_hop);
    EXPECT_EQ(choose(floats(1, Algorithm::one_hop)), Algorithm::one_hop);
    EXPECT_EQ(choose(floats(1, Algorithm::one_hop), 4, false), Algorithm::ring);
    EXPECT_EQ(choose(floats(1, Algorithm::one_hop), 257), Algorithm::ring);
}

TEST(Algorithm, BlockScalesAreRoundedOnceIfAllAreConnected) {
    auto what = floats(1000);
    what.quantization = {op::Quant::block_scale, op::Type::i4, 32, {}};
    EXPECT_EQ(choose(what), Algorithm::one_hop);
    EXPECT_EQ(choose(what, 4, false), Algorithm::ring);
    EXPECT_EQ(choose(what, 2), Algorithm::ring);
    what.algorithm = Algorithm::ring;
    EXPECT_EQ(choose(what), Algorithm::ring);
}

TEST(Algorithm, CodesOfLessThanAByteAreRoundedOnceWithEveryFormat) {
    auto what = floats(1000000);
    for (const auto algorithm : {op::Quant::min_max, op::Quant::zero_point_scale}) {
        for (const auto type : {op::Type::u4, op::Type::u2}) {
            what.quantization = {algorithm, type, 0, {}};
            EXPECT_EQ(choose(what), Algorithm::one_hop);
            EXPECT_EQ(choose(what, 2), Algorithm::ring);
        }
        what.quantization.type = op::Type::u8;
        EXPECT_EQ(choose(what), Algorithm::ring);
    }
}

TEST(Algorithm, OneHopIsUsedOnLongPathsWhereItIsFaster) {
    const auto choose_on = [](std::size_t bytes, std::size_t members, Path path) {
        return choose_algorithm(floats(bytes / 4), members, true, path);
    };
    EXPECT_EQ(choose_on(1 << 20, 8, {}), Algorithm::ring) << "nothing is known of the path";
    EXPECT_EQ(choose_on(1 << 20, 8, {50000, 1000}), Algorithm::one_hop);
    EXPECT_EQ(choose_on(1 << 20, 8, {50000, 0}), Algorithm::one_hop);
    EXPECT_EQ(choose_on(1 << 20, 8, {50, 10000}), Algorithm::ring) << "short path";
    EXPECT_EQ(choose_on(4 << 20, 8, {50000, 1000}), Algorithm::one_hop);
    EXPECT_EQ(choose_on(5 << 20, 8, {50000, 1000}), Algorithm::ring) << "large buffer";
    EXPECT_EQ(choose_on(4 << 20, 4, {2000, 100}), Algorithm::ring) << "the delay is small compared with the transfer";
    EXPECT_EQ(choose_on(2 << 20, 2, {50000, 1000}), Algorithm::ring) << "with two members, each is the other's neighbour";
}

TEST(Algorithm, DirectIsUsedOnLongPathsWhereItIsFaster) {
    const auto choose_on = [](std::size_t bytes, std::size_t members, Path path) {
        return choose_algorithm(floats(bytes / 4), members, true, path);
    };
    EXPECT_EQ(choose_on(1 << 20, 2, {50000, 1000}), Algorithm::direct);
    EXPECT_EQ(choose_on((1 << 20) + 4, 2, {50000, 1000}), Algorithm::ring) << "too large for the buffer of contributions";
    EXPECT_EQ(choose_on(1 << 20, 2, {1000, 1}), Algorithm::direct) << "between two members it sends no more than a ring";
    EXPECT_EQ(choose_on(64 << 10, 2, {999, 1000}), Algorithm::ring) << "short path";
    EXPECT_EQ(choose_on(256 << 10, 4, {50000, 1000}), Algorithm::direct);
    EXPECT_NE(choose_on(512 << 10, 4, {50000, 1000}), Algorithm::direct) << "three contributions are too large for the buffer";
    EXPECT_NE(choose_on(256 << 10, 4, {50000, 100}), Algorithm::direct)
        << "the additional bytes take longer than the saved delay";
    EXPECT_NE(choose_on(256 << 10, 65, {50000, 1000}), Algorithm::direct);
    EXPECT_EQ(choose_algorithm(floats(65536), 2, false, {50000, 1000}), Algorithm::ring) << "not all are connected";
}

TEST(Algorithm, BytesInFlightFillThePathWithinLimits) {
    EXPECT_EQ(bytes_in_flight({50, 40000}), 0u);
    EXPECT_EQ(bytes_in_flight({50'000, 1000}), 9'375'000u);
    EXPECT_EQ(bytes_in_flight({50'000, 0}), 9'375'000u);
    EXPECT_EQ(bytes_in_flight({200'000, 10'000}), std::size_t{16} << 20);
}

TEST(Algorithm, ChunksOfCodesAreLargerOnShortPaths) {
    auto what = floats(1 << 20);
    const std::size_t plain = max_chunk_bytes(what, {50, 40000}), over_a_long_path = max_chunk_bytes(what, {50'000, 1000});
    EXPECT_LT(over_a_long_path, plain);
    what.quantization = {op::Quant::min_max, op::Type::u16, 0, {}};
    EXPECT_EQ(max_chunk_bytes(what, {50, 40000}), plain);
    for (const auto type : {op::Type::u8, op::Type::i8, op::Type::i4, op::Type::u4, op::Type::u2}) {
        what.quantization.type = type;
        EXPECT_EQ(max_chunk_bytes(what, {50, 40000}), 4 * plain);
        EXPECT_EQ(max_chunk_bytes(what, {50'000, 1000}), over_a_long_path);
    }
}

TEST(Algorithm, QuantizedOperationsAreNeverDirect) {
    auto what = floats(1000);
    what.quantization.algorithm = op::Quant::min_max;
    EXPECT_NE(choose(what), Algorithm::direct);
    what.algorithm = Algorithm::direct;
    EXPECT_NE(choose(what), Algorithm::direct);
}

TEST(Algorithm, CountsBeyondAnyMemoryDoNotOverflow) {
    auto what = floats(std::size_t{1} << 60, Algorithm::direct);
    what.type = op::Type::f64;
    EXPECT_NE(choose(what, 2), Algorithm::direct);
}

}  // namespace
}  // namespace pccl::collective

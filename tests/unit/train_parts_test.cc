// The parts of a trainer: stability, layout, memory, files, configuration.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "train/config.h"
#include "train/layout.h"
#include "train/outer_state.h"
#include "train/stability.h"

namespace pccl::train {
namespace {

using testing::HasSubstr;

/// Whether an error of 1 has shrunk after many steps of the recurrence.
bool shrinks(pcclOuterOptimizer_t optimizer, double rate, double momentum, double fresh) {
    double y = 1.0, before = 1.0, v = 0.0;
    for (int i = 0; i < 20'000; ++i) {
        const double g = fresh * y + (1.0 - fresh) * before;
        v = momentum * v + g;
        before = y;
        y -= rate * (optimizer == pcclOuterSgd ? g : optimizer == pcclOuterHeavyBall ? v : g + momentum * v);
        if (std::abs(y) > 1e100) return false;
    }
    return std::abs(y) < 0.5;
}

TEST(Stability, BoundMatchesTheRecurrence) {
    for (const auto optimizer : {pcclOuterSgd, pcclOuterHeavyBall, pcclOuterNesterov}) {
        for (const double momentum : {0.0, 0.5, 0.9}) {
            for (const double fresh : {1.0, 0.5, 0.25, 0.125, 0.0}) {
                const double u = optimizer == pcclOuterSgd ? 0.0 : momentum;
                const double rate = largest_stable_rate(optimizer, u, fresh);
                EXPECT_TRUE(shrinks(optimizer, 0.99 * rate, u, fresh)) << optimizer << " " << u << " " << fresh;
                EXPECT_FALSE(shrinks(optimizer, 1.01 * rate, u, fresh)) << optimizer << " " << u << " " << fresh;
            }
        }
    }
}

TEST(Stability, HasTheDocumentedValues) {
    EXPECT_NEAR(largest_stable_rate(pcclOuterNesterov, 0.9, 1.0), 1.357, 0.001);
    EXPECT_NEAR(largest_stable_rate(pcclOuterNesterov, 0.9, 0.0), 0.253, 0.001);
    EXPECT_NEAR(largest_stable_rate(pcclOuterHeavyBall, 0.9, 0.0), 0.100, 0.001);
    EXPECT_NEAR(largest_stable_rate(pcclOuterNesterov, 0.9, 0.25), 0.42, 0.005);
    EXPECT_NEAR(largest_stable_rate(pcclOuterSgd, 0.0, 0.0), 1.0, 0.001);
}

std::vector<Parameter> some_parameters(const std::vector<std::size_t> &counts) {
    static std::vector<float> memory(100'000);
    std::vector<Parameter> out;
    std::size_t at = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        std::string name = "p";
        name += std::to_string(i);
        out.push_back({name, memory.data() + at, counts[i], pcclFloat});
        at += counts[i];
    }
    return out;
}

TEST(Layout, EveryElementHasOneFragmentAndAUniquePlace) {
    const std::vector<std::size_t> counts = {1, 700, 3, 64, 2, 2, 1000, 5};
    const auto parameters = some_parameters(counts);
    for (const auto pattern : {pcclFragmentsStrided, pcclFragmentsSequential, pcclFragmentsEven}) {
        for (std::uint32_t n = 1; n <= counts.size(); ++n) {
            Layout layout;
            ASSERT_TRUE(make_layout(parameters, pattern, n, layout).ok());
            ASSERT_EQ(layout.fragments.size(), n);
            std::vector<std::vector<int>> seen;
            for (const std::size_t count : counts)
                seen.emplace_back(count, 0);
            std::vector<int> flat(layout.size, 0);
            for (const Fragment &fragment : layout.fragments) {
                EXPECT_GT(fragment.count, 0U) << pattern << " " << n;
                EXPECT_EQ(fragment.first % 16, 0U);
                std::size_t elements = 0;
                for (const Piece &piece : fragment.pieces) {
                    for (std::size_t i = 0; i < piece.count; ++i) {
                        ++seen[piece.parameter].at(piece.first + i);
                        ++flat.at(piece.flat + i);
                    }
                    EXPECT_GE(piece.flat, fragment.first);
                    elements += piece.count;
                }
                EXPECT_EQ(elements, fragment.count);
                EXPECT_EQ(flat.at(fragment.first + fragment.count), 0) << "no spare element";
            }
            for (const auto &tensor : seen)
                EXPECT_THAT(tensor, testing::Each(1)) << pattern << " " << n;
            EXPECT_EQ(*std::ranges::max_element(flat), 1);
        }
    }
}

TEST(Layout, NamesThePlaceOfEveryElement) {
    std::vector<float> a(5), b(40), c(3);
    const std::vector<Parameter> parameters = {
        {"a", a.data(), a.size(), pcclFloat}, {"b", b.data(), b.size(), pcclFloat}, {"c", c.data(), c.size(), pcclFloat}};
    Layout layout;
    ASSERT_TRUE(make_layout(parameters, pcclFragmentsEven, 3, layout).ok());
    for (const Fragment &fragment : layout.fragments) {
        for (const Piece &piece : fragment.pieces) {
            for (std::size_t i = 0; i < piece.count; ++i) {
                const Place place = place_in(fragment, piece.flat + i - fragment.first);
                EXPECT_EQ(place.parameter, piece.parameter);
                EXPECT_EQ(place.element, piece.first + i);
            }
        }
    }
}

TEST(Layout, EvenFragmentsHaveEqualSize) {
    Layout layout;
    ASSERT_TRUE(make_layout(some_parameters({50'000, 64, 640, 10}), pcclFragmentsEven, 4, layout).ok());
    for (const Fragment &fragment : layout.fragments)
        EXPECT_NEAR(static_cast<double>(fragment.count), 50'714 / 4.0, 4.0);
}

TEST(Layout, MoreFragmentsThanTensorsAreRefused) {
    Layout layout;
    EXPECT_THAT(make_layout(some_parameters({5, 5}), pcclFragmentsStrided, 3, layout).why, HasSubstr("1 to 2"));
    EXPECT_THAT(make_layout(some_parameters({5, 5}), pcclFragmentsEven, 11, layout).why, HasSubstr("1 to 10"));
    EXPECT_FALSE(make_layout(some_parameters({5, 5}), pcclFragmentsStrided, 0, layout).ok());
}

pcclTensorInfo_t info(const char *name, void *data, std::size_t count, pcclDataType_t type = pcclFloat) {
    pcclTensorInfo_t out{};
    out.name = name;
    out.data = data;
    out.count = count;
    out.datatype = type;
    return out;
}

TEST(Parameters, RefusalNamesTheReason) {
    std::vector<float> x(100);
    const auto words = [](std::vector<pcclTensorInfo_t> infos) {
        std::vector<Parameter> out;
        return read_parameters(infos.data(), infos.size(), out).why;
    };
    EXPECT_EQ(words({info("a", x.data(), 50), info("b", x.data() + 50, 50)}), "");
    EXPECT_THAT(words({}), HasSubstr("no parameters"));
    EXPECT_THAT(words({info("a", x.data(), 51), info("b", x.data() + 50, 50)}), HasSubstr("overlap"));
    EXPECT_THAT(words({info("b", x.data() + 50, 50), info("a", x.data(), 51)}), HasSubstr("overlap"));
    EXPECT_THAT(words({info("a", x.data(), 5), info("a", x.data() + 50, 5)}), HasSubstr("name of another"));
    EXPECT_THAT(words({info("a", x.data(), 5, pcclInt32)}), HasSubstr("not of pcclFloat"));
    EXPECT_THAT(words({info("a", nullptr, 5)}), HasSubstr("data is NULL"));
    EXPECT_THAT(words({info("a", x.data(), 0)}), HasSubstr("count is 0"));
    EXPECT_THAT(words({info("", x.data(), 5)}), HasSubstr("no name"));
    auto device = info("a", x.data(), 5);
    device.device_type = pcclDeviceCuda;
    EXPECT_THAT(words({device}), HasSubstr("CPU"));
}

class Files : public testing::Test {
protected:
    Files() {
        char pattern[] = "/tmp/pccl-train-XXXXXX";
        folder_ = mkdtemp(pattern);
    }
    ~Files() override { std::filesystem::remove_all(folder_); }
    std::string path(const char *name) const { return folder_ / name; }

    /// A state of three tensors, filled with consecutive numbers that begin at `first`.
    struct Held {
        explicit Held(float first, pcclFragments_t pattern = pcclFragmentsStrided, std::uint32_t fragments = 1,
                      bool momentum = true) {
            parameters = some_parameters({100, 7, 33});
            EXPECT_TRUE(make_layout(parameters, pattern, fragments, layout).ok());
            pcclTrainerConfig_t config;
            set_defaults(config, pcclMethodDiLoCo);
            EXPECT_TRUE(state.open(config, "", layout, {momentum, true, false}).ok());
            float next = first;
            for (const Parameter &p : parameters) {
                for (const Fragment &f : layout.fragments)
                    for (const Piece &piece : f.pieces)
                        if (parameters[piece.parameter].name == p.name)
                            for (std::size_t i = 0; i < piece.count; ++i) {
                                state.parameters[piece.flat + i] = next;
                                if (momentum) state.momentum[piece.flat + i] = -next;
                                next += 1.0F;
                            }
            }
            state.counters.outer_steps = 17;
            state.counters.inner_steps = 1700;
        }
        std::vector<Parameter> parameters;
        Layout layout;
        OuterState state;
    };

    std::filesystem::path folder_;
};

TEST_F(Files, ReadBackEqualsTheWrittenStateInEveryLayout) {
    const Held written(1.0F);
    ASSERT_TRUE(save_state(path("c"), written.state, written.layout, written.parameters, 42).ok());
    const std::uint64_t digest = written.state.digest();
    Held same(500.0F);
    std::uint64_t revision = 0;
    ASSERT_TRUE(load_state(path("c"), same.state, same.layout, same.parameters, revision).ok());
    EXPECT_EQ(same.state.digest(), digest);
    EXPECT_EQ(revision, 42U);

    Held other(500.0F, pcclFragmentsEven, 3);
    ASSERT_TRUE(load_state(path("c"), other.state, other.layout, other.parameters, revision).ok());
    ASSERT_TRUE(save_state(path("d"), other.state, other.layout, other.parameters, 42).ok());
    ASSERT_TRUE(load_state(path("d"), same.state, same.layout, same.parameters, revision).ok());
    EXPECT_EQ(same.state.digest(), digest);
    EXPECT_FALSE(std::filesystem::exists(path("c.new")));
}

TEST_F(Files, MissingMomentumIsZeroAndUnneededIsSkipped) {
    const Held without(1.0F, pcclFragmentsStrided, 1, false), with(1.0F);
    ASSERT_TRUE(save_state(path("without"), without.state, without.layout, without.parameters, 1).ok());
    ASSERT_TRUE(save_state(path("with"), with.state, with.layout, with.parameters, 1).ok());
    std::uint64_t revision = 0;
    Held a(9.0F), b(9.0F, pcclFragmentsStrided, 1, false);
    ASSERT_TRUE(load_state(path("without"), a.state, a.layout, a.parameters, revision).ok());
    EXPECT_THAT(std::vector<float>(a.state.momentum, a.state.momentum + a.state.size), testing::Each(0.0F));
    ASSERT_TRUE(load_state(path("with"), b.state, b.layout, b.parameters, revision).ok());
    EXPECT_EQ(b.state.digest(), without.state.digest());
}

TEST_F(Files, EveryDamageIsDetectedAndChangesNothing) {
    const Held written(1.0F);
    ASSERT_TRUE(save_state(path("c"), written.state, written.layout, written.parameters, 42).ok());
    std::ifstream in(path("c"), std::ios::binary);
    const std::string good((std::istreambuf_iterator<char>(in)), {});
    Held held(500.0F);
    const std::uint64_t before = held.state.digest();
    std::uint64_t revision = 7;
    const auto refused = [&](const std::string &bytes) {
        std::ofstream(path("bad"), std::ios::binary) << bytes;
        const auto outcome = load_state(path("bad"), held.state, held.layout, held.parameters, revision);
        return outcome.code == pcclInvalidArgument && outcome.why.find(path("bad")) != std::string::npos &&
               held.state.digest() == before && revision == 7;
    };
    for (std::size_t n = 0; n < good.size(); ++n)
        ASSERT_TRUE(refused(good.substr(0, n))) << "cut after " << n;
    ASSERT_TRUE(refused(good + "x"));
    for (std::size_t i = 0; i < good.size(); ++i) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
        ASSERT_TRUE(refused(bad)) << "byte " << i;
    }
    EXPECT_THAT(load_state(path("none"), held.state, held.layout, held.parameters, revision).why, HasSubstr("No such file"));
    auto renamed = held.parameters;
    renamed[1].name = "other";
    EXPECT_THAT(load_state(path("c"), held.state, held.layout, renamed, revision).why, HasSubstr("'p1'"));
    renamed = held.parameters;
    renamed[1].count = 8;
    EXPECT_THAT(load_state(path("c"), held.state, held.layout, renamed, revision).why,
                HasSubstr("7 elements in the file and 8 in the trainer"));
}

TEST_F(Files, NamesMatchWithoutWrapperParts) {
    Held written(1.0F), held(500.0F);
    written.parameters[0].name = "module._orig_mod.block.weight";
    written.parameters[1].name = "block.module.bias";
    held.parameters[0].name = "block.weight";
    held.parameters[1].name = "_fsdp_wrapped_module.block.bias";
    ASSERT_TRUE(save_state(path("c"), written.state, written.layout, written.parameters, 42).ok());
    std::uint64_t revision = 0;
    ASSERT_TRUE(load_state(path("c"), held.state, held.layout, held.parameters, revision).ok());
    EXPECT_EQ(held.state.digest(), written.state.digest());
    held.parameters[2].name = "module.block.weight";  // the unwrapped name is ambiguous
    EXPECT_THAT(load_state(path("c"), held.state, held.layout, held.parameters, revision).why,
                HasSubstr("'module._orig_mod.block.weight'"));
}

TEST_F(Files, FailedWriteLeavesTheOldFile) {
    const Held written(1.0F);
    EXPECT_EQ(save_state(path("none/c"), written.state, written.layout, written.parameters, 1).code, pcclInternalError);
    if (std::filesystem::exists("/dev/full")) {
        ASSERT_TRUE(save_state(path("c"), written.state, written.layout, written.parameters, 1).ok());
        std::filesystem::create_symlink("/dev/full", path("c.new"));
        EXPECT_THAT(save_state(path("c"), written.state, written.layout, written.parameters, 2).why, HasSubstr("No space"));
        Held held(5.0F);
        std::uint64_t revision = 0;
        EXPECT_TRUE(load_state(path("c"), held.state, held.layout, held.parameters, revision).ok());
        EXPECT_EQ(revision, 1U);
    }
}

TEST_F(Files, StateCanBeInAFileOrInTheCallersBuffer) {
    Layout layout;
    ASSERT_TRUE(make_layout(some_parameters({1000}), pcclFragmentsStrided, 1, layout).ok());
    pcclTrainerConfig_t config;
    set_defaults(config, pcclMethodDiLoCo);
    const Buffers which{true, true, false};
    {
        OuterState state;
        ASSERT_TRUE(state.open(config, path("state"), layout, which).ok());
        state.parameters[0] = 1.0F;
        EXPECT_EQ(std::filesystem::file_size(path("state")), OuterState::bytes(layout, which));
    }
    EXPECT_THAT(OuterState().open(config, path("none/state"), layout, which).why, HasSubstr("none/state"));
    std::vector<float> buffer(layout.size * 5 + 16);
    auto *aligned = reinterpret_cast<float *>((reinterpret_cast<std::uintptr_t>(buffer.data()) + 63) / 64 * 64);
    config.state_buffer = aligned;
    config.state_buffer_bytes = OuterState::bytes(layout, which);
    OuterState state;
    ASSERT_TRUE(state.open(config, "", layout, which).ok());
    EXPECT_EQ(state.parameters, aligned);
    config.state_buffer_bytes -= 1;
    EXPECT_THAT(OuterState().open(config, "", layout, which).why, HasSubstr("pcclTrainerStateBytes"));
    config.state_buffer = aligned + 1;
    EXPECT_THAT(OuterState().open(config, "", layout, which).why, HasSubstr("64"));
}

TEST(Config, OlderHeaderIsReadAndNewerOnlyWithDefaults) {
    struct {
        pcclTrainerConfig_t config;
        std::uint64_t more = 0;
    } newer;
    ASSERT_EQ(pcclTrainerConfigInitSized(&newer.config, sizeof newer, pcclMethodCO2), pcclSuccess);
    pcclTrainerConfig_t out;
    EXPECT_TRUE(read_config(&newer.config, out).ok());
    newer.more = 1;
    EXPECT_THAT(read_config(&newer.config, out).why, HasSubstr("newer library"));

    struct {
        pcclTrainerConfig_t config;
        unsigned char guard = 0xA5;
    } older;
    std::memset(static_cast<void *>(&older), 0xA5, sizeof older);
    const std::size_t size = offsetof(pcclTrainerConfig_t, newcomers);
    ASSERT_EQ(pcclTrainerConfigInitSized(&older.config, size, pcclMethodDiLoCo), pcclSuccess);
    for (std::size_t i = size; i < sizeof older; ++i)
        ASSERT_EQ(reinterpret_cast<unsigned char *>(&older)[i], 0xA5) << i;
    older.config.sync_every = 9;
    ASSERT_TRUE(read_config(&older.config, out).ok());
    EXPECT_EQ(out.sync_every, 9U);
    EXPECT_EQ(out.min_peers, 1U);
    older.config.struct_size = 0;
    EXPECT_FALSE(read_config(&older.config, out).ok());
}

TEST(Config, WarnsOfDivergingSettings) {
    const auto words = [](pcclMethod_t method, pcclOuterOptimizer_t optimizer, float rate, float momentum) {
        pcclTrainerConfig_t config;
        set_defaults(config, method);
        config.outer_optimizer = optimizer;
        config.outer_learning_rate = rate;
        config.outer_momentum = momentum;
        config.min_peers = 4;
        return warning(config);
    };
    for (const auto method : {pcclMethodLocal, pcclMethodDiLoCo, pcclMethodAsyncDiLoCo, pcclMethodEagerDiLoCo,
                              pcclMethodStreamingDiLoCo, pcclMethodCO2}) {
        pcclTrainerConfig_t config;
        set_defaults(config, method);
        EXPECT_EQ(warning(config), "") << method;
    }
    EXPECT_THAT(words(pcclMethodAsyncDiLoCo, pcclOuterNesterov, 0.7F, 0.9F), HasSubstr("below 0.253"));
    EXPECT_EQ(words(pcclMethodAsyncDiLoCo, pcclOuterNesterov, 0.2F, 0.9F), "");
    EXPECT_THAT(words(pcclMethodEagerDiLoCo, pcclOuterNesterov, 0.7F, 0.9F), HasSubstr("likely to diverge"));
    EXPECT_EQ(words(pcclMethodEagerDiLoCo, pcclOuterNesterov, 0.4F, 0.9F), "");
    EXPECT_EQ(words(pcclMethodDiLoCo, pcclOuterNesterov, 1.3F, 0.9F), "");
    EXPECT_THAT(words(pcclMethodDiLoCo, pcclOuterNesterov, 1.4F, 0.9F), HasSubstr("1.357"));
    EXPECT_THAT(words(pcclMethodCO2, pcclOuterHeavyBall, 1.0F, 0.6F), HasSubstr("below 0.8"));
}

TEST(Config, RefusalNamesTheField) {
    const auto words = [](pcclMethod_t method, const auto &change) {
        pcclTrainerConfig_t config, out;
        set_defaults(config, method);
        change(config);
        return read_config(&config, out).why;
    };
    using C = pcclTrainerConfig_t;
    EXPECT_THAT(words(pcclMethodDiLoCo, [](C &c) { c.sync_every = 0; }), HasSubstr("sync_every"));
    EXPECT_THAT(words(pcclMethodDiLoCo, [](C &c) { c.outer_momentum = 1.0F; }), HasSubstr("outer_momentum"));
    EXPECT_THAT(words(pcclMethodDiLoCo, [](C &c) { c.outer_learning_rate = -1.0F; }), HasSubstr("outer_learning_rate"));
    EXPECT_THAT(words(pcclMethodDiLoCo, [](C &c) { c.round_ms = 5; }), HasSubstr("weighted"));
    EXPECT_THAT(words(pcclMethodStreamingDiLoCo, [](C &c) { c.overlap_steps = 100; }), HasSubstr("overlap_steps"));
    EXPECT_THAT(words(pcclMethodStreamingDiLoCo, [](C &c) { c.mixing = 1.5F; }), HasSubstr("mixing"));
    EXPECT_THAT(words(pcclMethodStreamingDiLoCo, [](C &c) { c.fragments = 0; }), HasSubstr("fragments"));
    EXPECT_THAT(words(pcclMethodCO2, [](C &c) { c.outer_optimizer = pcclOuterSgd; }), HasSubstr("outer_optimizer"));
    EXPECT_THAT(words(pcclMethodCO2, [](C &c) { c.penalty = 0.5F; }), HasSubstr("penalty"));
    EXPECT_THAT(words(pcclMethodDiLoCo, [](C &c) { c.non_finite = static_cast<pcclNonFinite_t>(2); }), HasSubstr("non_finite"));
    EXPECT_THAT(words(pcclMethodDiLoCo, [](C &c) { c.method = static_cast<pcclMethod_t>(99); }), HasSubstr("method"));
}

}  // namespace
}  // namespace pccl::train

// All members of a ring in one thread, frame by frame. After losses at any moment, the survivors end with equal bits, and each
// element is the average of its contributors.
#include "peer/ring_op.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include "unit/peer_operation.h"

namespace pccl::peer {
namespace {

/// A kind of average.
struct Kind {
    const char *name;
    op::Type type;
    bool in_place;
    op::Quantization quantization = {};
    bool crowded = false;  ///< the buffer pool is crowded
};

/// Averages of any of four members are whole numbers of few bits, exact in every type.
double value(std::size_t member, std::size_t element) {
    return 12.0 * static_cast<double>((element / 7 + member * 5 + element % 3) % 8);
}

double load(op::Type type, const std::byte *at) {
    const auto as = [&](auto v) {
        std::memcpy(&v, at, sizeof v);
        return v;
    };
    switch (type) {
    case op::Type::f32: return static_cast<double>(as(float{}));
    case op::Type::i32: return as(std::int32_t{});
    case op::Type::bf16: return static_cast<double>(std::bit_cast<float>(std::uint32_t{as(std::uint16_t{})} << 16));
    default: return as(double{});
    }
}

void store(op::Type type, std::byte *at, double number) {
    const auto put = [&](auto v) { std::memcpy(at, &v, sizeof v); };
    switch (type) {
    case op::Type::f32: return put(static_cast<float>(number));
    case op::Type::i32: return put(static_cast<std::int32_t>(number));
    case op::Type::bf16: return put(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(number)) >> 16));
    default: return put(number);
    }
}

class Member {
public:
    Member(const Kind &kind, std::size_t index, std::size_t count)
        : send_(count * op::size_of(kind.type)), recv_(send_.size(), std::byte{0x5a}), kind_(kind), id{index + 1} {
        for (std::size_t i = 0; i < count; ++i)
            store(kind.type, &send_[i * op::size_of(kind.type)], value(index, i));
        before_ = send_;
        request.spec.count = count;
        request.spec.type = kind.type;
        request.spec.op = op::Op::avg;
        request.spec.quantization = kind.quantization;
        request.spec.on_peer_loss = op::LossPolicy::repair;
        request.set_buffers(send_.data(), kind.in_place ? send_.data() : recv_.data());
        request.begin_undo();
        if (kind.crowded) burden_ = pool_.get(BufferPool::kCrowded + 1);
    }

    void start(const std::vector<PeerId> &ring, std::size_t rank, const collective::RepairPlan &what) {
        const collective::RingPlan plan(what.open, op::size_of(kind_.type), ring.size(), rank, collective::RingPlan::kMinChunk);
        op = std::make_unique<RingOp>(OpId{}, request, 7, ring, plan, pool_, 0, what.missing);
        successor.emplace(io_, owner_, consumers_, wire::OpenLink{PeerId{}, 0, true, {}, 0, {}},
                          wire::LinkHello{{}, id, ring[(rank + 1) % ring.size()], 0, {}}, options_, Duration{});
        op->posted_at(*successor);
    }

    bool send_intact() const { return kind_.in_place || send_ == before_; }

private:  // the members below use these, so they must outlive them
    std::vector<std::byte> send_, recv_, before_;
    const Kind &kind_;
    BufferPool pool_;
    Buffer burden_;
    asio::io_context io_;
    SilentOwner owner_;
    FrameConsumers consumers_;
    Options options_;

public:
    PeerId id;
    ReduceRequest request;
    std::unique_ptr<RingOp> op;
    std::optional<Link> successor;
};

/// One all-reduce of several members through several epochs.
class AllReduce {
public:
    AllReduce(const Kind &kind, std::size_t members, std::size_t count, std::uint32_t seed)
        : kind_(kind), count_(count), random_(seed) {
        for (std::size_t i = 0; i < members; ++i)
            members_.push_back(std::make_unique<Member>(kind, i, count));
    }

    /// Continues from the final elements of the members. Returns the bytes of final elements that one member holds and another
    /// misses.
    std::size_t begin_epoch() {
        std::vector<PeerId> ring;
        std::vector<op::FinalRanges> held;
        for (const auto &member : members_) {
            ring.push_back(member->id);
            held.push_back(member->request.finals);
            EXPECT_TRUE(wire::well_formed(member->request.finals));
        }
        rings_[members_.size()] = ring;
        const auto plan = collective::plan_repair(count_, held, 1000);
        std::size_t missing = 0;
        for (const auto &piece : plan.missing)
            missing +=
                piece.span.count * static_cast<std::size_t>(std::ranges::count(piece.held, false)) * op::size_of(kind_.type);
        for (std::size_t rank = 0; rank < members_.size(); ++rank)
            members_[rank]->start(ring, rank, plan);
        return missing;
    }

    /// Delivers up to `frames` frames, from senders in random order, while any member has one. Returns the number delivered.
    std::size_t move(std::size_t frames) {
        std::size_t moved = 0;
        for (std::size_t idle = 0; moved < frames && idle < 50 * members_.size();) {
            const std::size_t from = random_() % members_.size();
            if (!move_one(from, 1))
                ++idle;
            else
                idle = 0, ++moved;
        }
        return moved;
    }

    /// Half of one more frame arrives from each member. Then a member is lost, and the others keep their final elements.
    void lose(std::size_t rank) {
        for (std::size_t from = 0; from < members_.size(); ++from)
            move_one(from, 0.5);
        members_.erase(members_.begin() + static_cast<std::ptrdiff_t>(rank));
        for (auto &member : members_) {
            member->op->suspend_for_repair();
            member->op.reset();
        }
    }

    void check() {
        const std::size_t size = op::size_of(kind_.type);
        for (const auto &member : members_) {
            ASSERT_TRUE(member->op->finished()) << to_string(member->id);
            member->op->record_finals();
            EXPECT_TRUE(member->send_intact());
            EXPECT_EQ(member->request.finals, members_.front()->request.finals);
            EXPECT_EQ(std::memcmp(member->request.result(0), members_.front()->request.result(0), count_ * size), 0)
                << "bits differ";
        }
        std::uint64_t next = 0;
        for (const auto &range : members_.front()->request.finals) {
            ASSERT_EQ(range.begin, next);
            next = range.begin + range.count;
            const auto &ring = rings_.at(range.members);
            for (std::uint64_t i = range.begin; i < next; ++i) {
                double sum = 0;
                for (const PeerId id : ring)
                    sum += value(id.value - 1, i);
                const double expected = sum / static_cast<double>(ring.size());
                const double tolerance = kind_.quantization.algorithm == op::Quant::none ? 0 : 84.0 / 255 * 4;
                ASSERT_NEAR(load(kind_.type, members_.front()->request.result(i)), expected, tolerance)
                    << "element " << i << ", in which " << range.members << " members took part";
            }
        }
        EXPECT_EQ(next, count_);
    }

    std::size_t members() const { return members_.size(); }
    Member &member(std::size_t rank) { return *members_[rank]; }
    std::uint64_t sent() const {
        std::uint64_t bytes = 0;
        for (const auto &member : members_)
            bytes += member->request.tx_bytes;
        return bytes;
    }
    std::mt19937 &random() { return random_; }

private:
    /// Delivers `part` of a frame's payload. The receiver takes a whole one.
    bool move_one(std::size_t from, double part) {
        Member &sender = *members_[from];
        OutFrame frame;
        if (!sender.op->produce(*sender.successor, frame)) return false;
        Member &receiver = *members_[(from + 1) % members_.size()];
        EXPECT_STREQ(receiver.op->reject_reason(sender.id, frame.header), nullptr);
        const Intake intake = receiver.op->prepare_receive(frame.header);
        EXPECT_EQ(intake.action, Intake::Action::take);
        EXPECT_EQ(kernel::checksum(frame.payload, frame.header.bytes), frame.header.checksum);
        std::memcpy(intake.into, frame.payload, static_cast<std::size_t>(frame.header.bytes * part));
        if (part == 1) {
            EXPECT_NE(receiver.op->receive(frame.header, intake.into, intake.keep), Received::damaged);
        }
        return true;
    }

    const Kind &kind_;
    std::size_t count_;
    std::mt19937 random_;
    std::vector<std::unique_ptr<Member>> members_;
    std::map<std::size_t, std::vector<PeerId>> rings_;
};

constexpr std::size_t kElements = 150000;

class Repair : public testing::TestWithParam<Kind> {
protected:
    std::size_t frames_without_loss() {
        AllReduce all(GetParam(), 4, kElements, 1);
        all.begin_epoch();
        const std::size_t frames = all.move(SIZE_MAX);
        all.check();
        return frames;
    }
};

TEST_P(Repair, SurvivorsEndWithEqualAveragesAfterALossAtAnyFrame) {
    const std::size_t whole = frames_without_loss();
    bool some_of_both = false;
    for (std::size_t lost_after = 0; lost_after <= whole; lost_after += 1 + whole / 40) {
        SCOPED_TRACE("lost after " + std::to_string(lost_after) + " of " + std::to_string(whole) + " frames");
        AllReduce all(GetParam(), 4, kElements, static_cast<std::uint32_t>(lost_after));
        all.begin_epoch();
        all.move(lost_after);
        all.lose(lost_after % 4);
        all.begin_epoch();
        all.move(SIZE_MAX);
        all.check();
        if (testing::Test::HasFatalFailure()) return;
        const auto took_part = collective::participation(all.member(0).request.finals);
        some_of_both = some_of_both || (took_part.fewest == 3 && took_part.elements < kElements);
    }
    EXPECT_TRUE(some_of_both) << "in no run was a part of the elements final";
}

TEST_P(Repair, SucceedsAfterSeveralLossesDownToOneMember) {
    const std::size_t whole = frames_without_loss();
    for (std::uint32_t seed = 1; seed <= 12; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        AllReduce all(GetParam(), 4, kElements, seed);
        const std::size_t left = 1 + seed % 3;
        while (all.members() > left) {
            all.begin_epoch();
            all.move(all.random()() % whole);
            all.lose(all.random()() % all.members());
        }
        all.begin_epoch();
        all.move(SIZE_MAX);
        all.check();
        if (testing::Test::HasFatalFailure()) return;
    }
}

TEST_P(Repair, FinishedMembersServeThoseThatMissChunks) {
    AllReduce all(GetParam(), 3, kElements, 5);
    all.begin_epoch();
    while (!all.member(0).op->finished() && all.move(1) == 1) {
    }
    ASSERT_TRUE(all.member(0).op->finished());
    all.lose(1);
    const std::uint64_t before = all.sent();
    const std::size_t missing = all.begin_epoch();
    EXPECT_TRUE(all.member(0).op->finished());
    all.move(SIZE_MAX);
    all.check();
    const std::uint64_t frames = missing / (1000 * op::size_of(GetParam().type)) + 1000;
    EXPECT_LE(all.sent() - before, missing + frames * wire::kFrameHeaderBytes) << "only missing elements are sent, each once";
}

constexpr op::Quantization kMinMax{.algorithm = op::Quant::min_max, .type = op::Type::u8};

INSTANTIATE_TEST_SUITE_P(Kinds, Repair,
                         testing::Values(Kind{"float", op::Type::f32, false}, Kind{"floatInPlace", op::Type::f32, true},
                                         Kind{"bfloat16", op::Type::bf16, false}, Kind{"bfloat16InPlace", op::Type::bf16, true},
                                         Kind{"int32InPlace", op::Type::i32, true},
                                         Kind{"quantized", op::Type::f32, false, kMinMax},
                                         Kind{"quantizedInPlace", op::Type::f32, true, kMinMax},
                                         Kind{"floatWithoutScratch", op::Type::f32, false, {}, true},
                                         Kind{"floatInPlaceWithoutScratch", op::Type::f32, true, {}, true}),
                         [](const auto &kind) { return std::string(kind.param.name); });

}  // namespace
}  // namespace pccl::peer

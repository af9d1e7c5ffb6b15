// All members of a ring in one thread, frame by frame: whoever is lost at whatever moment, those who are left end with the same bits,
// each element the average of those who took part in it.
#include "peer/ring_op.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include "kernel/hash.h"

namespace pccl::peer {
namespace {

class NobodyListens final : public LinkOwner {
    void on_link_up(Link &) override {}
    void on_link_down(Link &, const std::string &) override {}
};

/// What is averaged, and how.
struct Kind {
    const char *name;
    op::Type type;
    bool in_place;
    op::Quantization quantization = {};
    bool crowded = false;  ///< no scratch to spare
};

/// Averages of any of four members are whole numbers of few bits, exact in every type.
double value(std::size_t member, std::size_t element) { return 12.0 * static_cast<double>((element / 7 + member * 5 + element % 3) % 8); }

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
        for (std::size_t i = 0; i < count; ++i) store(kind.type, &send_[i * op::size_of(kind.type)], value(index, i));
        before_ = send_;
        request.send = send_.data();
        request.recv = kind.in_place ? send_.data() : recv_.data();
        request.what.count = count;
        request.what.type = kind.type;
        request.what.op = op::Op::avg;
        request.what.quantization = kind.quantization;
        request.what.on_peer_loss = op::LossPolicy::repair;
        if (kind.in_place) request.undo.begin(request.recv, request.bytes());
        if (kind.crowded) burden_ = pool_.get(BufferPool::kComfortable + 1);
    }

    void start(const std::vector<PeerId> &ring, std::size_t rank, const collective::RepairPlan &what) {
        const collective::RingPlan plan(what.open, op::size_of(kind_.type), ring.size(), rank, collective::RingPlan::kMinChunk);
        op = std::make_unique<RingOp>(OpId{}, request, 7, ring, plan, pool_, 0, what.lacking);
        successor.emplace(io_, owner_, consumers_, wire::OpenLink{PeerId{}, 0, true, {}, 0, {}},
                          wire::LinkHello{{}, id, ring[(rank + 1) % ring.size()], 0, {}}, options_, Duration{});
        op->posted_at(*successor);
    }

    bool send_intact() const { return kind_.in_place || send_ == before_; }

private:  // what the members below use, and so outlives them
    std::vector<std::byte> send_, recv_, before_;
    const Kind &kind_;
    BufferPool pool_;
    Buffer burden_;
    asio::io_context io_;
    NobodyListens owner_;
    FrameConsumers consumers_;
    Options options_;

public:
    PeerId id;
    ReduceRequest request;
    std::unique_ptr<RingOp> op;
    std::optional<Link> successor;
};

/// One all-reduce of a few members through several epochs.
class Story {
public:
    Story(const Kind &kind, std::size_t members, std::size_t count, std::uint32_t seed) : kind_(kind), count_(count), random_(seed) {
        for (std::size_t i = 0; i < members; ++i) members_.push_back(std::make_unique<Member>(kind, i, count));
    }

    /// Members go on from what they hold; returns bytes of final elements that one held and another lacked.
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
        std::size_t lacking = 0;
        for (const auto &piece : plan.lacking)
            lacking += piece.span.count * static_cast<std::size_t>(std::ranges::count(piece.held, false)) * op::size_of(kind_.type);
        for (std::size_t rank = 0; rank < members_.size(); ++rank) members_[rank]->start(ring, rank, plan);
        return lacking;
    }

    /// Moves frames, in a random order of senders, until so many are through or nobody has one. Returns how many moved.
    std::size_t move(std::size_t frames) {
        std::size_t moved = 0;
        for (std::size_t idle = 0; moved < frames && idle < 50 * members_.size();) {
            const std::size_t from = random_() % members_.size();
            if (!move_one(from, 1)) ++idle;
            else idle = 0, ++moved;
        }
        return moved;
    }

    /// One more frame from each, of which a part arrives; then the member is lost, and the others keep what is final.
    void lose(std::size_t rank) {
        for (std::size_t from = 0; from < members_.size(); ++from) move_one(from, 0.5);
        members_.erase(members_.begin() + static_cast<std::ptrdiff_t>(rank));
        for (auto &member : members_) {
            member->op->carry();
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
            EXPECT_EQ(std::memcmp(member->request.recv, members_.front()->request.recv, count_ * size), 0) << "the same bits";
        }
        std::uint64_t next = 0;
        for (const auto &range : members_.front()->request.finals) {
            ASSERT_EQ(range.begin, next);
            next = range.begin + range.count;
            const auto &ring = rings_.at(range.members);
            for (std::uint64_t i = range.begin; i < next; ++i) {
                double sum = 0;
                for (const PeerId id : ring) sum += value(id.value - 1, i);
                const double expected = sum / static_cast<double>(ring.size());
                const double tolerance = kind_.quantization.algorithm == op::Quant::none ? 0 : 84.0 / 255 * 4;
                ASSERT_NEAR(load(kind_.type, members_.front()->request.recv + i * size), expected, tolerance)
                    << "element " << i << ", in which " << range.members << " took part";
            }
        }
        EXPECT_EQ(next, count_);
    }

    std::size_t members() const { return members_.size(); }
    Member &member(std::size_t rank) { return *members_[rank]; }
    std::uint64_t sent() const {
        std::uint64_t bytes = 0;
        for (const auto &member : members_) bytes += member->request.tx_bytes;
        return bytes;
    }
    std::mt19937 &random() { return random_; }

private:
    /// `part` of a frame's payload arrives; a whole one is taken in.
    bool move_one(std::size_t from, double part) {
        Member &sender = *members_[from];
        OutFrame frame;
        if (!sender.op->produce(*sender.successor, frame)) return false;
        Member &receiver = *members_[(from + 1) % members_.size()];
        EXPECT_STREQ(receiver.op->objection(sender.id, frame.header), nullptr);
        const Intake intake = receiver.op->intake(frame.header);
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
    std::size_t frames_of_a_whole() {
        Story story(GetParam(), 4, kElements, 1);
        story.begin_epoch();
        const std::size_t frames = story.move(SIZE_MAX);
        story.check();
        return frames;
    }
};

TEST_P(Repair, WhoeverIsLostAtWhateverFrameTheOthersEndWithTheSameTrueAverages) {
    const std::size_t whole = frames_of_a_whole();
    bool some_of_both = false;
    for (std::size_t lost_after = 0; lost_after <= whole; lost_after += 1 + whole / 40) {
        SCOPED_TRACE("lost after " + std::to_string(lost_after) + " of " + std::to_string(whole) + " frames");
        Story story(GetParam(), 4, kElements, static_cast<std::uint32_t>(lost_after));
        story.begin_epoch();
        story.move(lost_after);
        story.lose(lost_after % 4);
        story.begin_epoch();
        story.move(SIZE_MAX);
        story.check();
        if (testing::Test::HasFatalFailure()) return;
        const auto took_part = collective::participation(story.member(0).request.finals);
        some_of_both = some_of_both || (took_part.fewest == 3 && took_part.elements < kElements);
    }
    EXPECT_TRUE(some_of_both) << "no run in which a part was final";
}

TEST_P(Repair, SeveralLossesOneAfterTheOtherComposeDownToTheLastMember) {
    const std::size_t whole = frames_of_a_whole();
    for (std::uint32_t seed = 1; seed <= 12; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Story story(GetParam(), 4, kElements, seed);
        const std::size_t left = 1 + seed % 3;
        while (story.members() > left) {
            story.begin_epoch();
            story.move(story.random()() % whole);
            story.lose(story.random()() % story.members());
        }
        story.begin_epoch();
        story.move(SIZE_MAX);
        story.check();
        if (testing::Test::HasFatalFailure()) return;
    }
}

TEST_P(Repair, AMemberThatHasEverythingServesThoseThatLackIt) {
    Story story(GetParam(), 3, kElements, 5);
    story.begin_epoch();
    while (!story.member(0).op->finished() && story.move(1) == 1) {
    }
    ASSERT_TRUE(story.member(0).op->finished());
    story.lose(1);
    const std::uint64_t before = story.sent();
    const std::size_t lacking = story.begin_epoch();
    EXPECT_TRUE(story.member(0).op->finished());
    story.move(SIZE_MAX);
    story.check();
    const std::uint64_t frames = lacking / (1000 * op::size_of(GetParam().type)) + 1000;
    EXPECT_LE(story.sent() - before, lacking + frames * wire::kFrameHeaderBytes) << "nothing but what is lacking, once";
}

constexpr op::Quantization kMinMax{.algorithm = op::Quant::min_max, .type = op::Type::u8};

INSTANTIATE_TEST_SUITE_P(Kinds, Repair,
                         testing::Values(Kind{"float", op::Type::f32, false}, Kind{"floatInPlace", op::Type::f32, true},
                                         Kind{"bfloat16", op::Type::bf16, false}, Kind{"bfloat16InPlace", op::Type::bf16, true},
                                         Kind{"int32InPlace", op::Type::i32, true}, Kind{"quantized", op::Type::f32, false, kMinMax},
                                         Kind{"quantizedInPlace", op::Type::f32, true, kMinMax},
                                         Kind{"floatWithoutScratch", op::Type::f32, false, {}, true},
                                         Kind{"floatInPlaceWithoutScratch", op::Type::f32, true, {}, true}),
                         [](const auto &kind) { return std::string(kind.param.name); });

}  // namespace
}  // namespace pccl::peer

// Messages from one peer to another, over links that break at any time and on which frames overtake each other. Each message is
// delivered once or not at all, and both sides know which, so the sum of the values that peers pass around is conserved.
#include "protocol/post.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace pccl::protocol {
namespace {

/// Two peers and the link between them. The first sends the second one message after the other. This class does the work of the
/// shell in the simplest way.
class Pair {
public:
    explicit Pair(unsigned seed) : random_(seed) {}

    std::map<std::uint64_t, PostEnd> outcomes;  ///< as the sender knows them
    std::vector<std::uint64_t> delivered;       ///< in order
    int invalid_frames = 0;

    void post() {
        const std::uint64_t number = sender_.add();
        parts_[number] = below(4);  // 0: it is sent with its offer
        send_next();
    }
    void withdraw() {
        if (sender_.empty()) return;
        const std::uint64_t number = below(3) == 0 ? sender_.head() + below(3) : sender_.head();
        if (outcomes.contains(number) || !parts_.contains(number)) return;
        if (sender_.withdraw(number)) settle(number, PostEnd::withdrawn);
        send_next();
    }
    /// One side notices that the link has broken. If both have noticed it, the link is made again.
    void break_or_make() {
        if (sender_up_ && receiver_up_) {
            (below(2) ? sender_up_ : receiver_up_) = false;
            if (!sender_up_)
                sender_down();
            else
                receiver_down();
        } else if (sender_up_ || receiver_up_) {
            if (sender_up_)
                sender_down();
            else
                receiver_down();
            sender_up_ = receiver_up_ = false;
            wire_.clear();
        } else {
            sender_up_ = receiver_up_ = true;
            sender_.link_up();
            send_next();
        }
    }
    void mend() {
        while (!sender_up_ || !receiver_up_)
            break_or_make();
    }
    /// The sender hands a part of the message to the link, or a frame arrives, in any order.
    bool move() {
        const bool sends = sending_ && sender_up_;
        if (wire_.empty() && !sends) return false;
        if (sends && (wire_.empty() || below(2))) {
            const std::uint64_t number = sender_.head();
            wire_.push_back({Kind::part, number, sent_++});
            if (sent_ == parts_[number]) {
                sending_ = false;
                sender_.handed_over();
            }
            return true;
        }
        const auto at = wire_.begin() + below(static_cast<unsigned>(wire_.size()));
        const Frame frame = *at;
        wire_.erase(at);
        if (frame.kind <= Kind::withdraw)
            receive_at_receiver(frame);
        else
            receive_at_sender(frame);
        return true;
    }
    bool idle() const { return sender_.empty(); }
    void set_room(bool room) {
        room_ = room;
        if (receiver_up_) consider();
    }
    unsigned below(unsigned limit) { return std::uniform_int_distribution<unsigned>(0, limit - 1)(random_); }

private:
    enum class Kind { offer, part, withdraw, grant, end };
    struct Frame {
        Kind kind;
        std::uint64_t number;
        unsigned detail = 0;
    };

    void put(Frame frame) {
        if (sender_up_ && receiver_up_) wire_.push_back(frame);
    }
    void send_next() {
        if (!sender_up_) return;
        switch (sender_.next()) {
        case PostSender::Action::nothing: return;
        case PostSender::Action::offer:
            if (parts_[sender_.head()] == 0) sender_.handed_over();
            return put({Kind::offer, sender_.head()});
        case PostSender::Action::withdraw: sending_ = false; return put({Kind::withdraw, sender_.head()});
        }
    }
    void settle(std::uint64_t number, PostEnd how) {
        EXPECT_TRUE(outcomes.emplace(number, how).second) << "a message has two outcomes";
    }
    void sender_down() {
        sending_ = false;
        if (const auto over = sender_.link_down()) settle(*over, PostEnd::withdrawn);
    }
    void receiver_down() {
        receiver_.link_down();
        waits_ = false;
        arrived_.clear();
    }
    void receive_at_sender(const Frame &frame) {
        if (!sender_up_) return;
        if (frame.kind == Kind::grant) {
            const PostVerdict verdict = sender_.granted(frame.number);
            invalid_frames += verdict == PostVerdict::invalid;
            if (verdict == PostVerdict::fresh) {
                sent_ = 0;
                sending_ = parts_[frame.number] > 0;
                EXPECT_TRUE(sending_);
            }
            return;
        }
        const PostVerdict verdict = sender_.ended(frame.number, static_cast<PostEnd>(frame.detail));
        invalid_frames += verdict == PostVerdict::invalid;
        if (verdict == PostVerdict::fresh) {
            settle(frame.number, static_cast<PostEnd>(frame.detail));
            sending_ = false;
        }
        send_next();
    }
    void send_end(std::uint64_t number) { put({Kind::end, number, static_cast<unsigned>(receiver_.last_end())}); }
    void finish(PostEnd how) {
        if (how == PostEnd::delivered) delivered.push_back(receiver_.current());
        receiver_.end(how);
        send_end(receiver_.current());
    }
    void consider() {
        if (!waits_ || !room_) return;
        waits_ = false;
        if (below(8) == 0) return finish(PostEnd::too_large);
        receiver_.granted();
        if (parts_[receiver_.current()] == 0) return finish(PostEnd::delivered);
        put({Kind::grant, receiver_.current()});
    }
    void receive_at_receiver(const Frame &frame) {
        if (!receiver_up_) return;
        PostVerdict verdict{};
        if (frame.kind == Kind::offer) {
            verdict = receiver_.offered(frame.number);
            if (verdict == PostVerdict::fresh) waits_ = true;
        } else if (frame.kind == Kind::withdraw) {
            verdict = receiver_.withdrawn(frame.number);
            if (verdict == PostVerdict::fresh) {
                waits_ = false;
                arrived_.clear();
                send_end(frame.number);
            }
        } else {
            verdict = receiver_.part(frame.number);
            if (verdict == PostVerdict::fresh && arrived_.insert(frame.detail).second &&
                arrived_.size() == parts_[frame.number]) {
                arrived_.clear();
                finish(PostEnd::delivered);
            }
        }
        invalid_frames += verdict == PostVerdict::invalid;
        if (verdict == PostVerdict::repeat) send_end(frame.number);
        consider();
    }

    std::mt19937 random_;
    PostSender sender_;
    PostReceiver receiver_;
    bool sender_up_ = false, receiver_up_ = false;
    std::vector<Frame> wire_;
    std::map<std::uint64_t, unsigned> parts_;
    bool sending_ = false;
    unsigned sent_ = 0;
    bool waits_ = false, room_ = true;
    std::set<unsigned> arrived_;
};

TEST(Post, TotalIsConservedOverRandomMessages) {
    int withdrawn = 0, delivered = 0;
    for (unsigned seed = 0; seed < 3000; ++seed) {
        SCOPED_TRACE(::testing::Message() << "seed " << seed);
        Pair pair(seed);
        const unsigned breaks = pair.below(4);
        for (int i = 0; i < 300; ++i) {
            const unsigned what = pair.below(40);
            if (what < 3)
                pair.post();
            else if (what < 4)
                pair.withdraw();
            else if (what < 5)
                pair.set_room(pair.below(2) != 0);
            else if (what < 5 + breaks)
                pair.break_or_make();
            else
                pair.move();
        }
        pair.set_room(true);
        for (int i = 0; i < 10000 && !pair.idle(); ++i) {
            pair.mend();
            pair.move();
        }
        ASSERT_TRUE(pair.idle()) << "a message without an outcome";
        while (pair.move()) {
        }
        ASSERT_EQ(pair.invalid_frames, 0);
        std::vector<std::uint64_t> known;
        for (const auto &[number, how] : pair.outcomes) {
            if (how == PostEnd::delivered) known.push_back(number);
            withdrawn += how == PostEnd::withdrawn;
        }
        ASSERT_EQ(pair.delivered, known);
        delivered += static_cast<int>(known.size());
    }
    EXPECT_GT(withdrawn, 1000);
    EXPECT_GT(delivered, 10000);
}

TEST(Post, LateWithdrawalIsADelivery) {
    PostSender sender;
    PostReceiver receiver;
    const auto number = sender.add();
    sender.link_up();
    ASSERT_EQ(sender.next(), PostSender::Action::offer);
    ASSERT_EQ(receiver.offered(number), PostVerdict::fresh);
    receiver.granted();
    ASSERT_EQ(sender.granted(number), PostVerdict::fresh);
    sender.handed_over();
    receiver.end(PostEnd::delivered);
    EXPECT_FALSE(sender.withdraw(number));
    ASSERT_EQ(sender.next(), PostSender::Action::withdraw);
    ASSERT_EQ(receiver.withdrawn(number), PostVerdict::repeat);
    EXPECT_EQ(sender.ended(number, receiver.last_end()), PostVerdict::fresh);
    EXPECT_TRUE(sender.empty());
}

TEST(Post, PossiblyDeliveredMessageWaitsForTheReceiver) {
    PostSender sender;
    const auto number = sender.add();
    sender.link_up();
    ASSERT_EQ(sender.next(), PostSender::Action::offer);
    sender.handed_over();
    ASSERT_FALSE(sender.link_down());
    EXPECT_FALSE(sender.withdraw(number));
    EXPECT_EQ(sender.next(), PostSender::Action::nothing);
    sender.link_up();
    EXPECT_EQ(sender.next(), PostSender::Action::withdraw);
    EXPECT_EQ(sender.ended(number, PostEnd::withdrawn), PostVerdict::fresh);
}

TEST(Post, IncompleteMessageIsWithdrawnWithoutTheReceiver) {
    PostSender sender;
    const auto first = sender.add(), second = sender.add();
    sender.link_up();
    ASSERT_EQ(sender.next(), PostSender::Action::offer);
    EXPECT_TRUE(sender.withdraw(second)) << "it waits behind the first";
    EXPECT_FALSE(sender.withdraw(first)) << "the receiver knows of it";
    EXPECT_EQ(sender.link_down(), first);
    EXPECT_TRUE(sender.empty());
}

TEST(Post, InvalidFramesAreRecognized) {
    PostSender sender;
    EXPECT_EQ(sender.granted(1), PostVerdict::invalid);
    EXPECT_EQ(sender.ended(1, PostEnd::delivered), PostVerdict::invalid);
    const auto number = sender.add();
    EXPECT_EQ(sender.ended(number, PostEnd::too_large), PostVerdict::invalid) << "it was not offered";
    sender.link_up();
    ASSERT_EQ(sender.next(), PostSender::Action::offer);
    EXPECT_EQ(sender.ended(number, PostEnd::delivered), PostVerdict::invalid) << "it was not sent";
    EXPECT_EQ(sender.ended(number, PostEnd::withdrawn), PostVerdict::invalid) << "it was not withdrawn";
    EXPECT_EQ(sender.granted(number), PostVerdict::fresh);
    EXPECT_EQ(sender.granted(number), PostVerdict::invalid);

    PostReceiver receiver;
    EXPECT_EQ(receiver.offered(0), PostVerdict::invalid);
    EXPECT_EQ(receiver.part(1), PostVerdict::invalid);
    EXPECT_EQ(receiver.offered(1), PostVerdict::fresh);
    EXPECT_EQ(receiver.part(1), PostVerdict::invalid) << "there was no room yet";
    EXPECT_EQ(receiver.offered(1), PostVerdict::invalid);
    EXPECT_EQ(receiver.offered(2), PostVerdict::invalid) << "the first message has not ended";
    EXPECT_EQ(receiver.withdrawn(2), PostVerdict::invalid);
}

}  // namespace
}  // namespace pccl::protocol

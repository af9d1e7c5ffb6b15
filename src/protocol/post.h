// Messages from one peer to another, one at a time, each delivered exactly once or not at all; both sides know which.
//
// The sender numbers its messages from 1. It offers one, sends it when the receiver has room, and offers the next when the
// receiver has reported how it ended. When the link breaks, the end of the message in flight is unknown. Over the next link the
// sender offers the same number again, and the receiver, which remembers how its last message ended, repeats that end instead of
// accepting the message twice. A sender that gives a message up withdraws it, and the answer reports whether that was in time.
// The sender can decide this without the receiver only while the link is down and the last byte of the message was not handed to
// the link: then the receiver does not have the whole message, and has dropped the part that arrived. A receiver that left the
// run cannot be asked. A message that it may have received counts as delivered, because it may have passed on the content.
// Numbers never decrease, so a number larger than the last one tells the receiver that the messages before it are over.
//
// Frames can overtake each other on a link, but no frame arrives after its link has ended.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace pccl::protocol {

/// How a message ended, as the receiver reports it.
enum class PostEnd : std::uint8_t { delivered = 0, withdrawn, too_large, no_memory };
inline constexpr unsigned kPostEnds = 4;

/// The meaning of a frame about a message.
enum class PostVerdict : std::uint8_t {
    fresh,    ///< it changed the state
    repeat,   ///< a repeated question: send the last answer again
    stale,    ///< about a message that is over
    invalid,  ///< no correct peer sends it
};

/// The sender's side of all messages to one peer.
class PostSender {
public:
    enum class Action : std::uint8_t { nothing, offer, withdraw };

    /// Adds a message at the end. Returns its number.
    std::uint64_t add();
    bool empty() const { return queue_.empty(); }
    /// The message that is being offered or sent.
    std::uint64_t head() const { return queue_.front().number; }

    void link_up() { link_ = true; }
    /// Returns the head if it was withdrawn and is over now, not delivered.
    std::optional<std::uint64_t> link_down();
    /// The frame to send about the head now; each once per link.
    Action next();

    /// fresh: the head can be sent.
    PostVerdict granted(std::uint64_t number);
    /// The last byte of the head was handed to the link.
    void handed_over() { queue_.front().handed_over = true; }
    /// fresh: the head is over, and the next message is the head.
    PostVerdict ended(std::uint64_t number, PostEnd how);
    /// Gives a message up. True: it is over and was not delivered. False: ended() or link_down() will report its end.
    bool withdraw(std::uint64_t number);
    /// The receiver can have the whole head; only it knows.
    bool may_be_delivered() const { return !queue_.empty() && queue_.front().handed_over; }

private:
    struct Message {
        std::uint64_t number = 0;
        bool handed_over = false;  ///< the receiver can have all of it
        bool withdrawn = false;
    };
    void pop();

    std::deque<Message> queue_;
    std::uint64_t last_ = 0;
    bool link_ = false;
    bool offered_ = false, withdrawal_sent_ = false, granted_ = false;  ///< for the head, on this link
};

/// The receiver's side of all messages from one peer.
class PostReceiver {
public:
    /// fresh: the caller must find room for it.
    PostVerdict offered(std::uint64_t number);
    /// fresh: it is over; the caller drops the part that arrived.
    PostVerdict withdrawn(std::uint64_t number);
    /// fresh: a part of the granted message. stale: drop it.
    PostVerdict part(std::uint64_t number) const;
    void granted() { granted_ = true; }
    void end(PostEnd how);
    void link_down() { open_ = granted_ = false; }

    std::uint64_t current() const { return current_; }
    bool open() const { return open_; }
    /// How the last message ended.
    PostEnd last_end() const { return last_end_; }

private:
    std::uint64_t last_ = 0;  ///< last message that ended here
    PostEnd last_end_ = PostEnd::delivered;
    std::uint64_t current_ = 0;
    bool open_ = false;  ///< offered on this link and not ended
    bool granted_ = false;
};

}  // namespace pccl::protocol

// One message at a time from one peer to another, delivered exactly once or not at all, and both know which.
//
// The sender numbers its messages from 1. It offers one, sends it when the receiver has room, and offers the next when the receiver has
// said how it ended. When the link breaks, what was on its way is unknown: over the next link the sender asks again about the same
// number, and the receiver, which remembers how the last one ended, says so once more instead of taking it twice. A sender that gives a
// message up withdraws it: the answer says whether that came in time. It may decide so alone only where the link is down and the last
// byte has not been handed to it: then the receiver cannot have it all, and has dropped what it had. A receiver that is gone for good can
// no longer be asked; what it may have had counts as delivered, since it may have passed on what it made of it. Numbers never go back, so
// a receiver takes a number beyond the one it knew as word that those before it are over.
//
// Frames may overtake each other on a link, but none outlives it.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace pccl::protocol {

/// How a message ended, as the receiver says it.
enum class PostEnd : std::uint8_t { delivered = 0, withdrawn, too_large, no_memory };
inline constexpr unsigned kPostEnds = 4;

/// What to make of a frame about a message.
enum class PostHeard : std::uint8_t {
    news,
    repeat,   ///< asked before: the answer is to be said again
    history,  ///< of a message that is over
    lie       ///< it cannot be
};

/// The sender's side, of all messages to one peer.
class PostSender {
public:
    enum class Say : std::uint8_t { nothing, offer, withdraw };

    /// A message behind the others. Its number.
    std::uint64_t add();
    bool empty() const { return queue_.empty(); }
    /// The message that is offered, or sent.
    std::uint64_t head() const { return queue_.front().number; }

    void link_up() { link_ = true; }
    /// The head, if it was withdrawn and is over now: it was not delivered.
    std::optional<std::uint64_t> link_down();
    /// What is to be said about the head now; each once per link.
    Say next();

    /// news: the head may be sent.
    PostHeard granted(std::uint64_t number);
    /// The last byte of the head is in the link's hands.
    void handed_over() { queue_.front().handed_over = true; }
    /// news: the head is over, and the next one is the head.
    PostHeard ended(std::uint64_t number, PostEnd how);
    /// Gives a message up. True: it is over, and was not delivered; else ended() or link_down() will tell.
    bool withdraw(std::uint64_t number);
    /// Whether the receiver may have the head, as only it could tell.
    bool may_be_delivered() const { return !queue_.empty() && queue_.front().handed_over; }
    bool withdrawing() const { return queue_.front().withdrawn; }

private:
    struct Message {
        std::uint64_t number = 0;
        bool handed_over = false;  ///< so the receiver may have it
        bool withdrawn = false;
    };
    void pop();

    std::deque<Message> queue_;
    std::uint64_t last_ = 0;
    bool link_ = false;
    bool offered_ = false, withdrawal_said_ = false, granted_ = false;  ///< of the head, on this link
};

/// The receiver's side, of all messages from one peer.
class PostReceiver {
public:
    /// news: there is room to be found for it.
    PostHeard offered(std::uint64_t number);
    /// news: it is over; what came of it is to be dropped.
    PostHeard withdrawn(std::uint64_t number);
    /// news: a part of the message that was granted. history: drop it.
    PostHeard part(std::uint64_t number) const;
    void granted() { granted_ = true; }
    void end(PostEnd how);
    void link_down() { open_ = granted_ = false; }

    std::uint64_t current() const { return current_; }
    bool open() const { return open_; }
    /// How the last one ended.
    PostEnd last_end() const { return last_end_; }

private:
    std::uint64_t last_ = 0;  ///< that ended here
    PostEnd last_end_ = PostEnd::delivered;
    std::uint64_t current_ = 0;
    bool open_ = false;     ///< offered on this link and not ended
    bool granted_ = false;
};

}  // namespace pccl::protocol

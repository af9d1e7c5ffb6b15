// State that the callers that exchange messages share with the I/O thread: the mailbox, and the outcomes of posts. Any thread.
//
// Room is reserved before a message is received, so that held messages and messages in flight together stay within the limits.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "peer/packed.h"

namespace pccl::peer {

/// A caller's message to another peer. The library reads `data` until the post is completed.
struct Post {
    PeerId to;
    Tag tag;
    const std::byte *data = nullptr;
    std::size_t bytes = 0;
    std::optional<Time> deadline;  ///< when the message is withdrawn
    std::uint64_t number = 0;      ///< counts the messages to that peer; I/O thread only
    std::string spoiled;           ///< the error text if the program has changed `data` while it was sent; I/O thread only

private:
    friend class PostOffice;
    bool completed = false;
    pcclResult_t code = pcclSuccess;
    std::string why;
};
using PostPtr = std::shared_ptr<Post>;

/// A received message.
struct Message {
    PeerId from;
    Tag tag;
    std::uint64_t number = 0;
    Buffer data;
    std::size_t bytes = 0;
};

class PostOffice {
public:
    struct Limits {
        std::uint64_t bytes = std::uint64_t{1} << 30;
        std::uint32_t messages = 4096;
    };

    // ---- for the I/O thread
    /// A membership begins or continues.
    void open();
    enum class Room { yes, later, never };
    /// `later`: there is no room at present. Without a membership there never is, because a peer that has left receives no
    /// messages. `never`: the message is larger than the mailbox.
    Room reserve(std::uint64_t bytes);
    /// Gives back room that was reserved.
    void release(std::uint64_t bytes);
    /// Puts a message into the room that was reserved for it.
    void deliver(Message message);
    void complete(Post &post, pcclResult_t code, const std::string &why);
    /// The membership has ended: empties the mailbox, and ends the waits of take() with this error.
    void end(pcclResult_t code, const std::string &why);

    // ---- for callers
    void set_limits(const Limits &limits);
    /// Ends all waits with an error.
    void abort();
    /// Error: pcclTimeout if the outcome is unknown at the deadline or abort() was called; otherwise the reason why the message
    /// failed.
    Status await(Post &post, std::optional<Time> deadline);
    bool completed(const Post &post) const;
    /// Waits for a message with that tag and takes the oldest one. A message larger than `capacity` stays in the mailbox: the
    /// result is pcclInvalidArgument, and `out` describes the message without its data.
    Status take(Tag tag, std::size_t capacity, std::optional<Time> deadline, Message &out);

private:
    bool wait(std::unique_lock<std::mutex> &lock, std::optional<Time> deadline);

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    Limits limits_;
    std::uint64_t bytes_ = 0, messages_ = 0;  ///< held or reserved
    std::map<Tag, std::deque<Message>> held_;
    std::uint64_t aborts_ = 0, ends_ = 0;
    bool over_ = true;  ///< there is no membership
    Error end_{pcclInvalidUsage, "not connected: call pcclConnect first"};
};

}  // namespace pccl::peer

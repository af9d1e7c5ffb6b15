// What the callers of the exchange and the I/O thread share: the mailbox, and the outcomes of posts. Any thread.
//
// Room is reserved before a message may come, so that what is held and what is on its way stay within the bounds together.
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
#include "peer/lane.h"

namespace pccl::peer {

/// A caller's message to another peer. Its bytes belong to the library until it is settled.
struct Post {
    PeerId to;
    Tag tag;
    const std::byte *data = nullptr;
    std::size_t bytes = 0;
    std::optional<Time> deadline;  ///< to be withdrawn then
    std::uint64_t number = 0;      ///< among those to that peer; the I/O thread's
    std::string spoiled;           ///< how the program changed its memory meanwhile, if it is known to have; the I/O thread's

private:
    friend class PostOffice;
    bool settled = false;
    pcclResult_t code = pcclSuccess;
    std::string why;
};
using PostPtr = std::shared_ptr<Post>;

/// A message that has come.
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

    // ---- the I/O thread
    /// A membership begins, or goes on.
    void open();
    enum class Room { yes, later, never };
    /// Without a membership there is none: who has left has received nothing more.
    Room reserve(std::uint64_t bytes);
    /// What was reserved is not needed.
    void release(std::uint64_t bytes);
    /// Into the room that was reserved for it.
    void deliver(Message message);
    void settle(Post &post, pcclResult_t code, const std::string &why);
    /// The membership is over: the mailbox is emptied, and who waits at it is told.
    void end(pcclResult_t code, const std::string &why);

    // ---- callers
    void set_limits(const Limits &limits);
    /// Wakes all who wait.
    void abort();
    /// Error: pcclTimeout if the outcome is not known by then, or abort() was called; else how it failed.
    Status await(Post &post, std::optional<Time> deadline);
    bool settled(const Post &post) const;
    /// The oldest message with that tag, once there is one. One that is larger than `capacity` stays: pcclInvalidArgument, and `out` is
    /// what it is, without its data.
    Status take(Tag tag, std::size_t capacity, std::optional<Time> deadline, Message &out);

private:
    bool wait(std::unique_lock<std::mutex> &lock, std::optional<Time> deadline);

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    Limits limits_;
    std::uint64_t bytes_ = 0, messages_ = 0;  ///< held and reserved
    std::map<Tag, std::deque<Message>> held_;
    std::uint64_t aborts_ = 0, ends_ = 0;
    bool over_ = true;  ///< no membership
    Error end_{pcclInvalidUsage, "not connected: call pcclConnect first"};
};

}  // namespace pccl::peer

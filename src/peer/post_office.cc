// See post_office.h.
#include "peer/post_office.h"

#include <algorithm>

#include "peer/wait_hook.h"

namespace pccl::peer {

void PostOffice::open() {
    const std::lock_guard lock(mutex_);
    over_ = false;
}

PostOffice::Room PostOffice::reserve(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (over_) return Room::later;
    if (bytes > limits_.bytes) return Room::never;
    if (bytes_ + bytes > limits_.bytes || messages_ >= limits_.messages) return Room::later;
    bytes_ += bytes;
    ++messages_;
    return Room::yes;
}

void PostOffice::release(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes_ -= bytes;
    --messages_;
}

void PostOffice::deliver(Message message) {
    const std::lock_guard lock(mutex_);
    held_[message.tag].push_back(std::move(message));
    changed_.notify_all();
}

void PostOffice::complete(Post &post, pcclResult_t code, const std::string &why) {
    const std::lock_guard lock(mutex_);
    post.why = why;
    post.code = code;
    post.completed = true;
    changed_.notify_all();
}

void PostOffice::end(pcclResult_t code, const std::string &why) {
    const std::lock_guard lock(mutex_);
    end_ = {code == pcclSuccess ? pcclRankConnectionLost : code, why};
    for (const auto &[tag, messages] : held_) {
        for (const auto &message : messages)
            bytes_ -= message.bytes;
        messages_ -= messages.size();
    }
    held_.clear();
    ++ends_;
    over_ = true;
    changed_.notify_all();
}

void PostOffice::set_limits(const Limits &limits) {
    const std::lock_guard lock(mutex_);
    limits_ = limits;
}

void PostOffice::abort() {
    const std::lock_guard lock(mutex_);
    ++aborts_;
    changed_.notify_all();
}

/// False: the deadline has passed.
bool PostOffice::wait(std::unique_lock<std::mutex> &lock, std::optional<Time> deadline) {
    const WaitHook hook = wait_hook();
    if (!deadline && !hook.function) {
        changed_.wait(lock);
        return true;
    }
    const Time now = monotonic_now();
    if (deadline && now >= *deadline) return false;
    Duration limit = hook.function ? Duration(kWaitHookInterval) : *deadline - now;
    if (deadline) limit = std::min<Duration>(limit, *deadline - now);
    if (changed_.wait_for(lock, limit) == std::cv_status::no_timeout || !hook.function) return true;
    lock.unlock();
    hook.function(hook.context);
    lock.lock();
    return true;
}

bool PostOffice::completed(const Post &post) const {
    const std::lock_guard lock(mutex_);
    return post.completed;
}

Status PostOffice::await(Post &post, std::optional<Time> deadline) {
    std::unique_lock lock(mutex_);
    const std::uint64_t aborts = aborts_;
    while (!post.completed) {
        if (aborts_ != aborts)
            return Error{pcclTimeout,
                         "the wait for a message's outcome ended: pcclAbort was called. The message may still be delivered"};
        if (!wait(lock, deadline))
            return Error{pcclTimeout, "timed out: the outcome of the message to " + to_string(post.to) + " is not known yet"};
    }
    if (post.code == pcclSuccess) return {};
    return Error{post.code, post.why};
}

Status PostOffice::take(Tag tag, std::size_t capacity, std::optional<Time> deadline, Message &out) {
    std::unique_lock lock(mutex_);
    const std::uint64_t aborts = aborts_, ends = ends_;
    for (;;) {
        if (const auto found = held_.find(tag); found != held_.end()) {
            const Message &first = found->second.front();
            if (first.bytes > capacity) {
                out = {first.from, first.tag, first.number, nullptr, first.bytes};
                return Error{pcclInvalidArgument, "the message has " + std::to_string(first.bytes) +
                                                      " bytes, but the buffer has " + std::to_string(capacity)};
            }
            out = std::move(found->second.front());
            found->second.pop_front();
            if (found->second.empty()) held_.erase(found);
            bytes_ -= out.bytes;
            --messages_;
            return {};
        }
        if (over_ || ends_ != ends) return end_;
        if (aborts_ != aborts) return Error{pcclRankConnectionLost, "pcclAbort was called"};
        if (!wait(lock, deadline))
            return Error{pcclTimeout, "timed out: no message with tag " + std::to_string(tag.value) + " has arrived yet"};
    }
}

}  // namespace pccl::peer
